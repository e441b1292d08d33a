import json
from random import Random

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from data_prep.labels import GoldItem, read_gold
from data_prep.reader import Conversation, Turn
from eval.grounding import score
from tests.conftest import ROOT, in_process, python_m
from tests.data_prep.test_labels import ROW, gold_file


def test_the_scores_are_scikit_learns():
    random = Random(0)
    card = ["one", "two", "three", "four"]
    talk = Conversation("gold", 0, ([], card), [Turn(0, "?"), Turn(1, "!")])
    some = lambda: frozenset(fact for fact in range(4) if random.random() < 0.4)  # noqa: E731
    items = [GoldItem(str(number), talk, some(), frozenset()) for number in range(60)]
    found = [set(some()) for _ in items]
    truth, guess = (
        [fact in facts for facts in sets for fact in range(4)] for sets in ([item.used for item in items], found)
    )
    expected = precision_recall_fscore_support(truth, guess, average="binary")[:3]
    scores = score(items, found)
    assert np.allclose([scores[name]["value"] for name in ("precision", "recall", "f1")], expected, atol=1e-4)
    assert all(measure["low"] <= measure["value"] <= measure["high"] for measure in scores.values())


def test_nothing_found_and_nothing_labelled_are_zero(tmp_path):
    items = read_gold(gold_file(tmp_path, *[ROW] * 5))
    assert score(items, [set()] * 5)["f1"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_the_command_prints_and_writes_the_same_numbers(tmp_path):
    rows = [ROW, ROW | {"id": "2", "query": "Do you sing?", "reply": "Bye!", "used": []}]
    out = tmp_path / "results" / "out.json"
    gold = gold_file(tmp_path, *rows)
    done = python_m("eval.grounding", "--gold", str(gold), "--json", str(out), "--labeller", "overlap,encoder")
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["scores"]["overlap"]["f1"]["value"] == 1.0
    assert result["predictions"]["overlap"] == {"train-1-3": [2], "2": []}
    assert set(result) >= {"git", "config", "input_sha256"}
    for name in ("overlap", "encoder"):
        assert f"{result['scores'][name]['f1']['value']:.3f}" in next(
            line for line in done.stdout.splitlines() if line.startswith(name)
        )


@pytest.mark.parametrize(("labeller", "names"), [("overlap,best", "'best'"), ("", "''")])
def test_an_unknown_labeller_is_named(tmp_path, labeller, names):
    arguments = ("--gold", str(gold_file(tmp_path, ROW)), "--json", str(tmp_path / "out"), "--labeller", labeller)
    done = in_process("eval.grounding", *arguments)
    assert done.returncode == 2
    assert names in done.stderr
    assert "overlap" in done.stderr


def test_a_missing_file_and_a_single_item_are_one_sentence(tmp_path):
    for gold in (tmp_path / "no.jsonl", gold_file(tmp_path, ROW)):
        done = in_process(
            "eval.grounding", "--gold", str(gold), "--json", str(tmp_path / "out"), "--labeller", "overlap"
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_shipped_labeller_is_as_good_as_the_readme_says(spc_dir, tmp_path):
    gold = spc_dir.parent / "gold" / "valid.gold.jsonl"
    if not gold.is_file():
        pytest.skip(f"{gold} is not here")
    committed = json.loads((ROOT / "reports" / "results" / "grounding_valid.json").read_text(encoding="utf-8"))
    out = tmp_path / "out.json"
    assert python_m("eval.grounding", "--gold", str(gold), "--json", str(out)).returncode == 0
    scores = json.loads(out.read_text(encoding="utf-8"))["scores"]
    for name, measures in scores.items():
        assert measures["f1"]["value"] == pytest.approx(committed["scores"][name]["f1"]["value"], abs=0.01)
