"""Every rule of the checker complains about a file that breaks it, and about nothing else in that file."""

import json
import re

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

from llamafactory_configs import rules
from llamafactory_configs.check import Data
from llamafactory_configs.config import DEFAULTS, FOLDER
from llamafactory_configs.costs import GIB, needed, shape
from llamafactory_configs.hardware import Cards, fits
from llamafactory_configs.rules import RULES, Configs
from tests.conftest import ROOT, python_m

NAMES = ("tiny/lora", "tiny/full", "tiny/lora_zero3", "tiny/dpo", "qwen3-1.7b/lora")

# rule: task, name, what is changed, what the sentence says
BREACHES = {
    "parses": [
        ("train", "tiny/lora", {"learning_speed": 1}, "learning_speed"),
        ("train", "tiny/lora", {"learning_rate": "1e-4 "}, "learning_rate is the text"),
        ("train", "tiny/lora", {"save_strategy": False}, "False is not a valid"),  # an unquoted no
        ("serve", "tiny/lora", {"infer_backend": "hf"}, "infer_backend is hf; choose .*huggingface"),
        ("export", "tiny/lora", {"export_sise": 5}, "export_sise"),
    ],
    "deepspeed": [
        ("train", "tiny/lora_zero3", {"deepspeed": "no/such.json"}, "no/such.json is no DeepSpeed file"),
        ("train", "tiny/lora_zero3", {"use_cpu": True}, "remove use_cpu"),
        ("train", "tiny/lora_zero3", {"pure_bf16": True}, "cannot do pure_bf16"),
    ],
    "template": [
        ("train", "qwen3-1.7b/lora", {"template": "qwen3"}, "write qwen3_nothink$"),
        ("serve", "qwen3-1.7b/lora", {"template": "qwen3"}, "or template qwen3 with enable_thinking: false"),
        ("serve", "qwen3-1.7b/base", {"enable_thinking": True}, "enable_thinking: false"),
        ("export", "qwen3-1.7b/lora", {"template": "llama3"}, "write qwen3_nothink$"),
        ("train", "tiny/lora", {"template": "nonsense"}, "has no template nonsense"),
        ("train", "tiny/lora", {"template": None}, "has no template None"),
    ],
    "agreement": [
        ("serve", "tiny/lora", {"adapter_name_or_path": "saves/elsewhere"}, "no training writes to saves/elsewhere"),
        ("serve", "tiny/full", {"template": "qwen"}, "template is qwen, but train/tiny/full"),
        ("serve", "tiny/full", {"enable_thinking": False}, "enable_thinking is False, but"),
        ("export", "tiny/lora", {"model_name_or_path": "models/other"}, "model_name_or_path is models/other"),
        ("train", "tiny/dpo", {"adapter_name_or_path": "saves/tiny/loro"}, "no training writes to saves/tiny/loro"),
    ],
    "outputs": [("train", "tiny/lora_zero3", {"output_dir": "saves/tiny/zero"}, "write saves/tiny/lora_zero3")],
    "no_test_split": [
        ("train", "tiny/lora", {"dataset": "spc_sharegpt_test"}, "spc_sharegpt_test is a test split"),
        ("train", "qwen3-1.7b/lora", {"eval_dataset": "spc_dpo_test"}, "spc_dpo_test is a test split"),
    ],
    "histories_masked": [("train", "tiny/lora", {"dataset": "spc_alpaca_train"}, "mask_history: true")],
    "same_batch": [
        ("train", "tiny/lora_zero3", {"per_device_train_batch_size": 4}, "a step sees 8 samples"),
        ("train", "tiny/lora", {"gradient_accumulation_steps": 3}, "a step sees"),
    ],
}  # fmt: skip
CASES = [(rule, *case) for rule, cases in BREACHES.items() for case in cases]


@pytest.fixture(autouse=True)
def project_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def folder_with(tmp_path, task=None, name=None, changed=None):
    """Some of our files, one of them changed."""
    for own in FOLDER.glob("*/*/*.yaml"):
        which = own.relative_to(FOLDER).with_suffix("").as_posix()
        if which.split("/", 1)[1] in (*NAMES, "qwen3-1.7b/base"):
            copy = tmp_path / own.relative_to(FOLDER)
            copy.parent.mkdir(parents=True, exist_ok=True)
            content = yaml.safe_load(own.read_text(encoding="utf-8"))
            if which == f"{task}/{name}":
                content |= changed
            copy.write_text(yaml.safe_dump(content), encoding="utf-8")
    return Configs(tmp_path)


def test_every_rule_has_a_file_that_breaks_it():
    assert {rule.__name__ for rule in RULES} == set(BREACHES)


@pytest.mark.slow
def test_ours_break_no_rule():
    assert [breach for rule in RULES for breach in rule(Configs())] == []


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "task", "name", "changed", "says"), CASES)
def test_a_file_that_breaks_a_rule_is_named(tmp_path, rule, task, name, changed, says):
    assert list(getattr(rules, rule)(folder_with(tmp_path))) == []
    found = list(getattr(rules, rule)(folder_with(tmp_path, task, name, changed)))
    assert found
    # of two that differ in their batch, either may be named; a model that is trained is served and exported too
    assert all(name in breach for breach in found) or rule in ("same_batch", "agreement")
    assert any(re.search(says, breach) for breach in found)


def dataset(folder, name, rows):
    """A folder of datasets with one of ours in it."""
    folder.mkdir(exist_ok=True)
    (folder / "dataset_info.json").write_text(json.dumps({name: {"file_name": f"{name}.json"}}), encoding="utf-8")
    if rows is not None:
        (folder / f"{name}.json").write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")


@pytest.mark.slow
def test_datasets_must_exist_and_fit(tmp_path, sample_data):
    config = yaml.safe_load((FOLDER / "train" / "tiny" / "lora.yaml").read_text(encoding="utf-8"))
    ours = Data(sample_data)
    assert [*ours.missing("tiny/lora", config), *ours.too_long("tiny/lora", config)] == []
    (contents,) = ours.contents(config)
    longest = contents.longest
    assert list(Data(sample_data).too_long("tiny/lora", config | {"cutoff_len": longest + 20})) == []
    (breach,) = Data(sample_data).too_long("tiny/lora", config | {"cutoff_len": longest - 20})
    assert re.search(r"cutoff_len is \d+, the longest sample \d+ tokens", breach)
    (breach,) = ours.missing("tiny/lora", config | {"dataset": "spc_sharegpt_trian"})
    assert "does not list spc_sharegpt_trian" in breach
    dataset(tmp_path / "data", "spc_sharegpt_train", None)
    (breach,) = Data(tmp_path / "data").missing("tiny/lora", config)
    assert "spc_sharegpt_train.json" in breach
    (breach,) = Data(tmp_path / "nothing").missing("tiny/lora", config)
    assert "make data" in breach


@pytest.mark.slow
def test_the_command_says_all_is_well_and_exits_1_on_a_breach(sample_data, tmp_path):
    arguments = ("--data", str(sample_data), "--gpus", "1", "--gpu-memory", "16")
    offline = {"env": {"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}}
    done = python_m("llamafactory_configs.check", *arguments, **offline)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-2000:]
    assert "qwen3-1.7b/full_zero3: needs about" in done.stdout
    folder_with(tmp_path, "train", "tiny/lora", {"dataset": "spc_sharegpt_test"})
    done = python_m("llamafactory_configs.check", "--configs", str(tmp_path), *arguments, **offline)
    assert done.returncode == 1
    assert "test split" in done.stderr
    (tmp_path / "train" / "tiny" / "lora.yaml").write_text("a: [")
    done = python_m("llamafactory_configs.check", "--configs", str(tmp_path), *arguments, **offline)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def recipe(name):
    return yaml.safe_load((FOLDER / "train" / f"{name}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "cards", "says"),
    [
        ("qwen3-1.7b/lora", Cards(1, 24, True), None),
        ("qwen3-1.7b/lora", Cards(1, 24, False), "fp16: true"),
        ("qwen3-1.7b/lora", Cards(8, 24, True), "made for 1 GPU(s), here are 8: a step sees 256 samples, not 32"),
        ("qwen3-1.7b/lora_fp16", Cards(1, 16, False), None),
        ("qwen3-1.7b/lora", Cards(1, 8, True), "set per_device_train_batch_size to 1 and double"),
        ("qwen3-1.7b/full_zero3", Cards(1, 80, True), "made for 2 GPUs, here is 1"),
        ("qwen3-1.7b/full_zero3", Cards(2, 16, True), "needs about 20 GiB a GPU, here are 16; take"),
        ("qwen3-1.7b/full_zero3_offload", Cards(2, 16, True), None),
        ("tiny/lora_zero3", Cards(1, 1, False), None),
    ],
)
def test_cards_that_cannot_do_it_are_told_what_to_change(name, cards, says):
    found = list(fits(recipe(name), cards))
    assert bool(found) == bool(says)
    assert not says or says in found[0]


def test_what_a_file_leaves_out_is_llamafactorys_default():
    from llamafactory.hparams import DataArguments, FinetuningArguments
    from transformers import TrainingArguments

    parts = (TrainingArguments(output_dir="unused"), DataArguments(), FinetuningArguments())
    for key, value in DEFAULTS.items():
        assert [getattr(part, key) for part in parts if hasattr(part, key)] == [value], key
    short = {"model_name_or_path": "Qwen/Qwen3-1.7B", "bf16": True}
    assert list(fits(short, Cards(1, 8, True))) and not list(fits(short, Cards(1, 80, True)))


def test_shapes_are_those_of_the_real_models():
    """Weights as the model cards on the hub give them: 1.7B, 0.6B, 0.49B and 3.09B."""
    billions = {"Qwen/Qwen3-1.7B": 1.72, "Qwen/Qwen3-0.6B": 0.596, "Qwen/Qwen2.5-0.5B-Instruct": 0.494,
                "Qwen/Qwen2.5-3B-Instruct": 3.086}  # fmt: skip
    for name, expected in billions.items():
        assert shape(name).weights / 1e9 == pytest.approx(expected, rel=0.01)
    tiny = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained("models/persona-tiny"))
    assert shape("models/persona-tiny").weights == tiny.num_parameters()


def test_the_adapter_is_as_large_as_pefts():
    from peft import LoraConfig, get_peft_model

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained("models/persona-tiny"))
        adapted = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear"))
    assert shape("models/persona-tiny").adapter(8) == adapted.get_nb_trainable_parameters()[0]


def test_memory_falls_with_what_saves_it():
    lora, full = recipe("qwen3-1.7b/lora"), recipe("qwen3-1.7b/full_zero3")
    assert needed(recipe("qwen3-1.7b/qlora"), 1) < needed(lora, 1) < needed(full, 1)
    assert needed(full, 4) < needed(full, 2) < needed(full, 1)
    assert needed(recipe("qwen3-1.7b/full_zero3_offload"), 2) < needed(full, 2)
    assert needed(lora | {"disable_gradient_checkpointing": True}, 1) > needed(lora, 1)
    assert needed(lora, 1) - needed(lora | {"enable_liger_kernel": True}, 1) > 5 * GIB
    # what 16 bytes a weight alone come to, before activations
    assert needed(full, 1) > 16 * shape("Qwen/Qwen3-1.7B").weights
