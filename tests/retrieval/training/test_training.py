import json

import numpy as np
import pytest
import torch

from retrieval.base import RetrievalSettings
from retrieval.dense import DenseRetriever
from retrieval.static import StaticRetriever
from retrieval.training import encoder, small
from retrieval.training.examples import Example, read_examples
from retrieval.training.loss import flat_pairs, in_card_loss
from tests.conftest import ROOT, python_m

CARD = ["I have a dog.", "I play the cello.", "I swim in the lake.", "I bake bread."]
ASKED = {"Zibble?": 0, "Wobbly grault?": 1, "Plugh or xyzzy?": 2, "Quux?": 3}  # nothing but learning can tell


@pytest.fixture
def examples(tmp_path):
    rows = [
        {"id": str(fact), "card": CARD, "turns": ["Hi!", "Hello.", asked], "facts": [fact], "weight": 2.0}
        for asked, fact in ASKED.items()
    ]
    rows += [{"id": "none", "card": CARD, "turns": ["Foo bar!"], "facts": [], "weight": 2.0}]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows * 12), encoding="utf-8")
    return path


def found(retriever):
    return [int(scores.argmax()) for scores in retriever.scores([("Hi!", "Hello.", a) for a in ASKED], [CARD] * 4)]


def test_small_learns_what_answers_what(examples, tiny_encoder, tmp_path):
    record = small.train(examples, str(tiny_encoder), tmp_path / "small", 60)
    assert record["epochs"] == 60
    retriever = StaticRetriever(str(tmp_path / "small"), RetrievalSettings(query_turns=5))
    assert found(retriever) == [0, 1, 2, 3]
    [answered, nothing] = retriever.scores([("Quux?",), ("Foo bar!",)], [CARD] * 2)
    assert nothing.max() < answered.max()


@pytest.mark.slow
def test_encoder_learns_what_answers_what(examples, tiny_encoder, tmp_path):
    encoder.train(examples, str(tiny_encoder), tmp_path / "encoder", 60)
    assert found(DenseRetriever(str(tmp_path / "encoder"), speakers=True)) == [0, 1, 2, 3]


def test_the_loss_is_cross_entropy_within_the_card():
    some = [Example("1", ("a", "b", "c"), ("?",), (1,), 1.0), Example("2", ("b", "d"), ("?",), (), 3.0)]
    logits, nothing = torch.tensor([0.1, 0.7, -0.3, 0.2, 0.9]), torch.tensor(0.4)
    first = torch.nn.functional.cross_entropy(torch.tensor([0.4, 0.1, 0.7, -0.3]), torch.tensor(2))
    second = torch.nn.functional.cross_entropy(torch.tensor([0.4, 0.2, 0.9]), torch.tensor(0))
    assert in_card_loss(logits, nothing, some) == pytest.approx(float(first + 3 * second) / 4)
    facts, example_of, fact_of = flat_pairs(some)
    assert (facts, example_of.tolist(), fact_of.tolist()) == (["a", "b", "c", "d"], [0, 0, 0, 1, 1], [0, 1, 2, 1, 3])


def test_rounding_to_8_bits_changes_next_to_nothing(tmp_path):
    from tokenizers import Tokenizer

    vectors = np.random.default_rng(0).normal(size=(200, 128))
    tokenizer = Tokenizer.from_file(str(ROOT / "retrieval/models/small/tokenizer.json"))
    small.save(tmp_path, small.StaticNetwork(vectors, tokenizer))
    stored = StaticRetriever(str(tmp_path))._vectors
    unknown = tokenizer.token_to_id("[UNK]")
    assert not stored[unknown].any()
    stored, vectors = np.delete(stored, unknown, axis=0), np.delete(vectors, unknown, axis=0)
    cosines = (stored * vectors).sum(1) / np.linalg.norm(stored, axis=1) / np.linalg.norm(vectors, axis=1)
    assert cosines.min() > 0.9999


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2 is no example"),
        ('{"id": "1"}', "line 2"),
        ('{"id": "1", "card": ["a"], "turns": ["?"], "facts": [1], "weight": 1}', "line 2"),
        ('{"id": "1", "card": ["a"], "turns": [], "facts": [], "weight": 1}', "line 2"),
    ],
)
def test_a_bad_example_is_named(tmp_path, line, says):
    good = '{"id": "1", "card": ["a", "b"], "turns": ["?"], "facts": [1], "weight": 1}'
    (tmp_path / "some.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(ValueError, match=says):
        read_examples(tmp_path / "some.jsonl")
    (tmp_path / "some.jsonl").write_text("")
    for path, words in ((tmp_path / "some.jsonl", "holds no example"), (tmp_path / "no.jsonl", "make retriever")):
        with pytest.raises(ValueError, match=words):
            read_examples(path)


def test_from_the_shell_a_fault_is_one_sentence(tmp_path):
    for module in ("small", "encoder"):
        done = python_m(f"retrieval.training.{module}", "--examples", str(tmp_path / "no.jsonl"))
        assert (done.returncode, done.stdout) == (2, "")
        assert "make retriever" in done.stderr.splitlines()[-1]
    done = python_m("retrieval.training.words", "--facts", str(tmp_path / "no.txt"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_the_shipped_small_needs_no_torch_and_takes_five_megabytes_at_most():
    folder = ROOT / "retrieval/models/small"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 5_000_000
    done = python_m("timeit", "-n1", "-r1", "-s", "import sys; from retrieval.registry import open_retriever",
                    "open_retriever('small').scores([('Any pets?',)], [['I have a dog.']]); assert 'torch' not in sys.modules")  # fmt: skip  # noqa: E501
    assert done.returncode == 0, done.stderr
