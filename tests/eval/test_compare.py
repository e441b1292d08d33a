"""The whole comparison with the real model, API and labeller, on the bundled sample."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from data_prep.provenance import sha256
from eval.questions import open_split
from tests.conftest import ENV, ROOT, in_process, python_m

SAMPLES = 4


SERVED = """model_name_or_path: models/persona-tiny
template: qwen3_nothink
infer_backend: huggingface
"""


def arguments(folder, *more, models=("tiny/base",)):
    given = ("--spc", "sample", "--samples", str(SAMPLES), "--retrievers", "none,small", "--max-tokens", "12")
    return *models, *given, "--work", str(folder / "work"), "--json", str(folder / "out.json"), *more


def result_of(folder):
    """Without what depends on the machine's mood."""
    result = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    del result["answers_sha256"]  # replies hold the seconds that they took
    for system in result["systems"]:
        for name, part in system.items():
            if name == "measures" or name.startswith("difference"):
                assert part.pop("latency")
    return result


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The model that ships under two names, one of them a file of the user's own."""
    path = tmp_path_factory.mktemp("serve") / "mine.yaml"
    path.write_text(SERVED, encoding="utf-8")
    return "tiny/base", str(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, models):
    folder = tmp_path_factory.mktemp("whole")
    done = python_m("eval.compare", *arguments(folder, models=models), env=ENV)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done


@pytest.mark.slow
def test_it_writes_all_measures_and_says_how_they_were_made(whole, models):
    folder, done = whole
    result = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert {"git", "config", "input_sha256", "sample_sha256", "n", "n_uses_fact", "base", "headline", "systems",
            "true_replies", "retrieval", "training", "examples", "answers_sha256"} == set(result)  # fmt: skip
    config = result["config"]
    assert [model["name"] for model in config["models"]] == [*models]
    assert len(config["models"][0]["weights_sha256"]["model.safetensors"]) == 64
    assert set(config["retrievers"]) == {"none", "small"}
    assert config["command"].startswith(f"python -m eval.compare {' '.join(models)} --spc sample")
    pairs = [(model, retriever) for model in models for retriever in ("none", "small")]
    assert [(system["model"], system["retriever"]) for system in result["systems"]] == pairs
    # The same model twice: it finds the same replies as likely, and says the same.
    for system in result["systems"][2:]:
        groups = system["difference_by_model"].items()
        differences = [found for group, measures in groups if group != "latency" for found in measures.values()]
        assert all(found == {"value": 0, "low": 0, "high": 0} for found in differences)
    files = {str(path.relative_to(folder / "work")): path for path in folder.rglob("*.jsonl")}
    measures = [files.pop(name) for name in [*files] if name.endswith(".measures.jsonl")]
    assert result["answers_sha256"] == {name: sha256(path) for name, path in files.items()}
    assert len(measures) == len(pairs)
    for path in measures:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert len(rows) == SAMPLES
        assert all({"id", *result["systems"][0]["measures"]} == set(row) for row in rows)
    assert result["n"] == SAMPLES
    assert result["training"] is None
    own = {question.id for question in open_split("sample", "test").questions}
    assert result["examples"]
    assert {example["id"] for example in result["examples"]} <= own
    f1 = result["systems"][1]["measures"]["text"]["f1"]
    assert f"{f1['value']:.3f} [{f1['low']:.3f}, {f1['high']:.3f}]" in done.stdout


@pytest.mark.slow
def test_interrupted_it_goes_on_and_the_result_is_the_same(whole, models, tmp_path):
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-m", "eval.compare", *arguments(tmp_path, models=models)]
        process = subprocess.Popen(command, cwd=ROOT, env=ENV, stdout=log, stderr=log, start_new_session=True)
        try:
            while not any(path.stat().st_size for path in tmp_path.rglob("*-none-*.replies.jsonl")):
                assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 130
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert not (tmp_path / "out.json").exists()
    done = python_m("eval.compare", *arguments(tmp_path, models=models), env=ENV)
    assert done.returncode == 0, done.stderr[-3000:]
    assert result_of(tmp_path) == result_of(whole[0])
    choices = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.choices.jsonl")}
        for folder in (tmp_path, whole[0])
    ]
    assert choices[0] == choices[1]


@pytest.mark.slow
def test_what_is_there_is_not_asked_again(whole, models):
    folder, _ = whole
    before = {path: path.read_bytes() for path in folder.rglob("*.jsonl")}
    done = in_process("eval.compare", *arguments(folder, models=models))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "run serve" not in done.stdout
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--spc", "nowhere"), "SPC=nowhere is not a folder"),
        (("--samples", "1"), "at least two"),
        (("--samples", "100000"), "There are"),
        (("--retrievers", "magic"), "'magic'"),
        (("--judge", "magic"), "'magic'"),
    ],
)
def test_each_fault_is_one_sentence(tmp_path, more, says):
    done = in_process("eval.compare", *arguments(tmp_path, *more))
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out.json").exists()


def test_a_result_that_could_not_be_written_is_told_at_once(tmp_path):
    done = in_process("eval.compare", *arguments(tmp_path, "--json", str(tmp_path)))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is a folder" in done.stderr
    assert not (tmp_path / "work").exists()


def test_an_unknown_model_is_named_with_those_there_are(tmp_path):
    done = in_process("eval.compare", *arguments(tmp_path, models=["no/such"]))
    assert done.returncode == 2
    assert "There is no serve configuration 'no/such'; choose" in done.stderr
