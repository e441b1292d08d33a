"""On tasks written here, so that no data is fetched; what the harness says is held to transformers alone."""

import json
import os
from functools import partial

import numpy as np
import pytest
import torch
import yaml
from lm_eval.tasks import TaskManager

from data_prep.errors import InputError
from eval.intervals import mean, with_interval
from tests.conftest import ROOT, in_process, python_m

pytestmark = pytest.mark.slow

MODEL = str(ROOT / "models" / "persona-tiny")
QUESTIONS = [
    ("I have a cat and a", ["dog.", "seventy-two bright red tractors in the barn."], 0),
    ("I like to play the", ["guitar in a band.", "of.", "walk."], 2),
    ("On Sundays I go to the", ["blue.", "park with my dog.", "because."], 1),
    ("My favourite food is", ["yesterday.", "pizza."], 1),
    ("I work as a", ["teacher.", "swim and then a very long way home."], 1),
    ("I live in a", ["quickly.", "small town by the sea."], 0),
    ("I love to", ["cook.", "go for a walk in the park with my dog every morning."], 1),
    ("He drinks", ["coffee.", "a house by the hill."], 1),
]
TASK = {
    "dataset_path": "json",
    "output_type": "multiple_choice",
    "test_split": "test",
    "doc_to_text": "{{text}}",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "metadata": {"version": 3.0},
}
# The harness's own name makes it one whose answers are normalised by their length.
NAMES = ("endings", "hellaswag", "pooled_a", "pooled_b")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A folder of tasks: ``endings``, another called ``hellaswag``, and a group of two halves, ``pooled``."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [json.dumps({"text": text, "choices": choices, "label": label}) for text, choices, label in QUESTIONS]
    parts = dict(zip(NAMES, (rows, rows, rows[:3], rows[3:]), strict=True))
    for name, part in parts.items():
        (folder / f"{name}.jsonl").write_text("\n".join(part) + "\n", encoding="utf-8")
        data = {"data_files": {"test": str(folder / f"{name}.jsonl")}}
        metrics = [{"metric": metric} for metric in ("acc", "acc_norm")]
        task = TASK | {"task": name, "dataset_kwargs": data, "metric_list": metrics}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    group = {"group": "pooled", "task": ["pooled_a", "pooled_b"], "metadata": {"version": 7}}
    (folder / "pooled.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
    away = TASK | {"task": "away", "dataset_path": "nobody/no-such-data", "metric_list": [{"metric": "acc"}]}
    (folder / "away.yaml").write_text(yaml.safe_dump(away), encoding="utf-8")
    written = TASK | {"task": "written", "dataset_kwargs": data, "output_type": "generate_until", "metric_list": []}
    (folder / "written.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """persona-tiny with an adapter that changes much, as a model and as a serving configuration."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapted")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    model.save_pretrained(folder)
    return model.eval(), serve(folder / "serve.yaml", adapter_name_or_path=str(folder))


@pytest.fixture
def only_ours(monkeypatch):
    """To look through the harness's 13,000 tasks takes half a minute each time."""
    from eval import harness

    monkeypatch.setattr(harness, "TaskManager", partial(TaskManager, include_defaults=False))


def serve(path, **settings):
    path.write_text(yaml.safe_dump({"model_name_or_path": MODEL, "template": "qwen3_nothink"} | settings))
    return str(path)


def command(tasks, tmp_path, *arguments):
    return in_process("eval.general", *arguments, "--include-path", str(tasks),
                      "--work", str(tmp_path / "work"), "--json", str(tmp_path / "out.json"))  # fmt: skip


def right_answers(model, normalised):
    """For each question, whether the right ending is the most likely one, in nats or in nats a character."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    found = []
    for text, choices, label in QUESTIONS:
        scores = []
        for choice in choices:
            ids = tokenizer(f"{text} {choice}", add_special_tokens=False).input_ids
            before = len(tokenizer(text, add_special_tokens=False).input_ids)
            with torch.inference_mode():
                logits = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
            nats = sum(logits[place - 1, ids[place]].item() for place in range(before, len(ids)))
            scores.append(nats / (len(choice) if normalised else 1))
        found.append(float(np.argmax(scores) == label))
    return np.array(found)


@pytest.mark.usefixtures("only_ours")
def test_the_numbers_are_those_of_transformers(tasks, adapted, tmp_path):
    from transformers import AutoModelForCausalLM

    tuned, tuned_config = adapted
    base = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    answers = tmp_path / "answers"
    names = ("--tasks", "endings,hellaswag,pooled", "--batch-size", "3", "--out", str(answers))
    done = command(tasks, tmp_path, "tiny/base", tuned_config, *names)
    assert done.returncode == 0, done.stderr[-3000:]
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    results = written["results"]
    seen = set()
    for task, metric in (("endings", "acc"), ("hellaswag", "acc_norm"), ("pooled", "acc")):
        correct = [right_answers(model, metric == "acc_norm") for model in (base, tuned)]
        assert (results[task]["metric"], results[task]["n"]) == (metric, len(QUESTIONS))
        expected = [with_interval(mean, each) for each in correct]
        assert [*results[task]["models"].values()] == expected
        difference = results[task]["difference"]
        assert difference["value"] == pytest.approx(correct[1].mean() - correct[0].mean(), abs=1e-4)
        assert difference["low"] <= difference["value"] <= difference["high"]
        seen |= {tuple(each) for each in correct}
        assert f"{difference['value']:.3f}" in done.stdout
        for name, each in zip(("tiny/base", tuned_config), correct, strict=True):
            lines = (answers / f"{task}.{name.replace('/', '_')}.jsonl").read_text(encoding="utf-8").splitlines()
            assert [json.loads(line)["correct"] for line in lines] == [bool(one) for one in each]
    assert len(seen) == 4  # two models by two metrics, which do differ here

    config = written["config"]
    assert config["tasks"] == {"endings": 3, "hellaswag": 3, "pooled": "7"}
    assert (config["limit"], config["few_shot"], config["lm_eval"]) == (None, 0, "0.4.13")
    assert [model["name"] for model in config["models"]] == ["tiny/base", tuned_config]
    assert [set(model["weights_sha256"]) for model in config["models"]] == [
        {"model.safetensors"},
        {"model.safetensors", "adapter_model.safetensors", "adapter_config.json"},
    ]


@pytest.mark.usefixtures("only_ours")
def test_interrupted_it_asks_only_what_is_left(tasks, adapted, tmp_path):
    from eval.harness import answer, open_benchmarks

    model, _ = adapted
    benchmarks = open_benchmarks(["endings", "pooled"], 0, tasks)
    calls = []

    def forward(*_):
        calls.append(None)
        if len(calls) == stop:
            raise KeyboardInterrupt

    def ask(cache):
        calls.clear()
        return answer(model, MODEL, benchmarks, None, 0, 1, tmp_path / cache)

    hook = model.register_forward_pre_hook(forward)
    try:
        stop = 0
        whole = ask("whole")
        all_calls = len(calls)
        stop = 10
        with pytest.raises(KeyboardInterrupt):
            ask("part")
        stop = 0
        assert ask("part") == whole
        assert 0 < len(calls) < all_calls - 5  # some answers are on their way to the disk when it stops
        assert ask("part") == whole and not calls
    finally:
        hook.remove()


@pytest.mark.usefixtures("only_ours")
def test_a_damaged_file_of_answers_is_one_sentence(tasks, adapted, tmp_path):
    from eval.harness import answer, open_benchmarks

    (tmp_path / "kept_rank0.db").write_bytes(b"no database" * 100)
    benchmarks = open_benchmarks(["endings"], 0, tasks)
    with pytest.raises(InputError, match=r"kept_rank0\.db cannot be used"):
        answer(adapted[0], MODEL, benchmarks, None, 0, 1, tmp_path / "kept")


@pytest.mark.usefixtures("only_ours")
def test_a_model_is_no_better_than_itself(tasks, tmp_path):
    twin = serve(tmp_path / "twin.yaml")
    arguments = ("--tasks", "pooled", "--limit", "2", "--few-shot", "1")
    done = command(tasks, tmp_path, "tiny/base", twin, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written["results"]["pooled"]["n"] == 4
    assert written["results"]["pooled"]["difference"] == {"value": 0, "low": 0, "high": 0}
    assert (written["config"]["limit"], written["config"]["few_shot"]) == (2, 1)


@pytest.mark.usefixtures("only_ours")
@pytest.mark.parametrize(
    ("models", "arguments", "says"),
    [
        (["tiny/base"], [], "two different models"),
        (["tiny/base", "tiny/base"], [], "two different models"),
        (["tiny/base", "tiny/best"], [], "tiny/best"),
        (["tiny/base", "twin.yaml"], ["--tasks", "ending"], "'ending'; did you mean endings"),
        (["tiny/base", "twin.yaml"], ["--tasks", "pooled,pooled_a"], "pooled_a twice"),
        (["tiny/base", "twin.yaml"], ["--tasks", "written"], "written is no choice"),
        (["tiny/base", "no_adapter.yaml"], ["--tasks", "endings"], "There is no adapter at"),
    ],
)
def test_faults_are_one_sentence(tasks, tmp_path, models, arguments, says):
    serve(tmp_path / "twin.yaml")
    serve(tmp_path / "no_adapter.yaml", adapter_name_or_path=str(tmp_path / "none"))
    given = [str(tmp_path / name) if name.endswith(".yaml") else name for name in models]
    done = command(tasks, tmp_path, *given, *arguments)
    assert done.returncode == 2, done.stderr[-3000:]
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_data_that_cannot_be_had_is_one_sentence(tasks, tmp_path):
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    arguments = ("--tasks", "away", "--include-path", str(tasks), "--work", str(tmp_path / "work"),
                 "--json", str(tmp_path / "out.json"))  # fmt: skip
    done = python_m("eval.general", "tiny/base", serve(tmp_path / "twin.yaml"), *arguments, env=env)
    assert done.returncode == 2, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert "The data of away" in said and "HF_ENDPOINT" in said
