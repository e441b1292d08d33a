import json
import os
from random import Random

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from data_prep.labels import GoldItem, read_gold
from data_prep.reader import Conversation, Turn
from eval.retrieval import MEASURES, asked, oracle, quality, ranks, recall_at, reciprocal_rank
from retrieval.registry import open_retriever
from tests.conftest import python_m
from tests.data_prep.test_labels import ROW, gold_file


def test_recall_at_k_counts_what_can_be_found():
    assert recall_at(2, [3, 1, 0, 2], frozenset({1})) == 1
    assert recall_at(2, [3, 1, 0, 2], frozenset({0})) == 0
    assert recall_at(2, [3, 1, 0, 2], frozenset({0, 1, 2})) == 0.5
    assert recall_at(1, [3, 1, 0, 2], frozenset({3, 2})) == 1
    assert reciprocal_rank([3, 1, 0, 2], frozenset({0, 2})) == pytest.approx(1 / 3)
    assert (recall_at(2, [], frozenset({1})), reciprocal_rank([], frozenset({1}))) == (0, 0)


def test_with_one_label_the_measures_are_scikit_learns():
    random = np.random.default_rng(0)
    for _ in range(100):
        scores, fact = random.random(5), int(random.integers(5))
        truth = np.eye(5)[[fact]]
        ranked, labelled = ranks(scores), frozenset({fact})
        assert MEASURES["MRR"](ranked, labelled) == pytest.approx(
            label_ranking_average_precision_score(truth, [scores])
        )
        assert bool(MEASURES["hit@2"](ranked, labelled)) == (ndcg_score(truth, [scores], k=2) > 0)


def test_ties_are_broken_by_card_order_and_what_is_not_found_has_no_rank():
    assert ranks(np.array([0.0, 1.0, 0.0, 1.0])) == [1, 3, 0, 2]
    assert ranks(np.array([-np.inf, 0.5, -np.inf])) == [1]


def drawn(count: int) -> list[GoldItem]:
    random = Random(0)
    some = lambda share: frozenset(fact for fact in range(4) if random.random() < share)  # noqa: E731
    talks = (
        Conversation("gold", n, ([], [f"{n}a", "b", "c", "d"]), [Turn(0, f"{n}?"), Turn(1, "!")]) for n in range(count)
    )
    return [GoldItem(str(talk.row), talk, some(0.2), some(0.3)) for talk in talks]


def test_the_oracle_is_right_and_none_finds_nothing():
    items = drawn(80)
    for retriever, best in ((oracle(items), 1.0), (open_retriever("none"), 0.0)):
        found = quality(items, retriever.scores(*asked(retriever, items)), retriever.settings.threshold)
        assert found["used"]["recall@2"]["value"] == found["used"]["MRR"]["value"] == best
        assert found["inject"]["f1"]["value"] == best


def test_the_query_is_what_serving_asks(tmp_path):
    """The responder's own first turn, said before the user spoke, is in no sample and in no query."""
    row = ROW | {"history": ["User 2: Hi!", "User 1: Hello.", "User 2: How are you?"]}
    items = read_gold(gold_file(tmp_path, row))
    [query], [card] = asked(open_retriever("random", query_turns=5), items)
    assert query == ("Hello.", "How are you?", "Any pets?")
    assert card == ROW["persona"]


def test_the_command_prints_and_writes_the_same_numbers(tmp_path):
    rows = [ROW, ROW | {"id": "2", "query": "Do you sing?", "used": [1], "relevant": []}, ROW | {"id": "3", "used": []}]
    gold, out = gold_file(tmp_path, *rows), tmp_path / "out.json"
    done = python_m("eval.retrieval", "--gold", str(gold), "--retriever", "tfidf,small,oracle", "--json", str(out))
    assert done.returncode == 0, done.stderr
    written = json.loads(out.read_text())
    assert set(written["results"]) == set(written["rankings"]) == {"tfidf", "small", "oracle"}
    for name, found in written["results"].items():
        assert set(found) == {"used", "relevant", "inject", "latency"}
        [line] = [line for line in done.stdout.splitlines() if line.startswith(f"{name:10} used")]
        assert f"{found['used']['recall@2']['value']:.3f}" in line
    assert written["config"]["retrievers"]["tfidf"]["identity"].startswith("tfidf-")
    assert written["git"]
    assert written["input_sha256"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--gold", "nowhere.jsonl"), "nowhere.jsonl cannot be read"),
        (("--gold", "GOLD", "--retriever", "magic"), "'magic'; choose from tfidf, bm25, small"),
        (("--gold", "GOLD", "--retriever", "dense", "--encoder", "no/folder"), "no/folder"),
        (("--gold", "NO_LABELS"), "has a used fact"),
    ],
)
def test_each_fault_is_one_sentence(tmp_path, arguments, says):
    gold = gold_file(tmp_path, ROW, ROW | {"id": "2"})
    (tmp_path / "none.jsonl").write_text(json.dumps(ROW | {"used": []}) + "\n" + json.dumps(ROW | {"used": []}))
    names = {"GOLD": str(gold), "NO_LABELS": str(tmp_path / "none.jsonl")}
    given = [names.get(argument, argument) for argument in arguments]
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = python_m("eval.retrieval", *given, "--json", str(tmp_path / "out.json"), env=offline)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out.json").exists()
