import hashlib
import json

import pytest

from data_prep.labels import Labelled, labelled_replies, read_gold
from data_prep.reader import Conversation, Turn, read_conversations
from data_prep.retrieval_examples import examples, write_examples
from data_prep.sources import FILE_NAMES
from tests.conftest import ROOT, python_m


@pytest.fixture(scope="module")
def written(spc_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("retriever")
    write_examples(str(spc_dir), out)
    return out


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_nothing_of_valid_and_nothing_that_is_kept_back_is_trained_on(written, spc_dir):
    train = rows(written / "train.jsonl")
    kept, valid = (rows(written / f"{name}.gold.jsonl") for name in ("kept_back", "valid"))
    assert (len(kept), len(valid)) == (800, 400)
    ids = {row["id"] for row in train}
    assert not ids & {row["id"] for row in [*kept, *valid]}
    conversation = lambda row: row["id"].rpartition("-")[0]  # noqa: E731
    assert not {conversation(row) for row in train} & {conversation(row) for row in [*kept, *valid]}
    assert {row["id"].partition("-")[0] for row in train} == {"train", "new_persona"}
    measured = {(tuple(row["persona"]), row["query"]) for row in [*kept, *valid]}
    assert not measured & {(tuple(row["card"]), row["turns"][-1]) for row in train}


@pytest.mark.slow
def test_what_ships_was_trained_on_just_these_examples(written):
    record = json.loads((ROOT / "retrieval/models/small/training.json").read_text(encoding="utf-8"))
    assert record["examples_sha256"] == hashlib.sha256((written / "train.jsonl").read_bytes()).hexdigest()
    out = written / "words.json"
    done = python_m("retrieval.training.words", "--facts", str(written / "facts.txt"), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == (ROOT / "retrieval/models/words.json").read_bytes()


@pytest.mark.slow
def test_the_gold_files_are_read_back_as_they_were_labelled(written, spc_dir):
    labelled = labelled_replies(read_conversations(spc_dir / FILE_NAMES["valid"], "valid")[0], "valid")
    for item, row in zip(labelled, read_gold(written / "valid.gold.jsonl"), strict=True):
        [(number, used)] = item.used.items()
        turns = item.conversation.turns
        assert (row.used, row.relevant) == (used, item.relevant[number])
        assert row.conversation.turns == turns[max(0, number - 5) : number + 1]


def test_an_example_has_what_serving_would_see():
    turns = [Turn(0, "I am Al."), Turn(1, "Hi [P1]!"), Turn(0, "Hello."), Turn(1, "Pets?"), Turn(0, "A cat.")]
    talk = Conversation("train", 7, (["I sing.", "I have a cat."], ["I swim."]), turns)
    labelled = Labelled(talk, {0: frozenset(), 2: frozenset(), 4: frozenset({1})}, {2: frozenset({0, 1})})
    [found] = examples([labelled], 5.0, 0.0)
    assert found == {
        "id": "train-7-4", "card": ["I sing.", "I have a cat."], "turns": ["Hi (P1)!", "Hello.", "Pets?"],
        "facts": [1], "weight": 5.0,
    }  # fmt: skip
    assert [row["id"] for row in examples([Labelled(talk, {2: frozenset()})], 1.0, 1.0)] == ["train-7-2"]


def test_other_conversations_than_spcs_are_refused(tmp_path):
    done = python_m("data_prep.retrieval_examples", "--spc", "sample", "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert not (tmp_path / "out").exists()
