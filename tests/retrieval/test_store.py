import random

import numpy as np
import pytest

from retrieval.registry import open_retriever, save_retriever
from retrieval.store import FactStore
from tests.retrieval.test_retrievers import FACTS


@pytest.fixture(scope="module")
def many() -> list[str]:
    """100,000 facts: those of the sample, and others with their words."""
    drawn = random.Random(0)
    words = [word for fact in FACTS for word in fact.split()]
    return FACTS + [" ".join(drawn.choices(words, k=drawn.randint(4, 12))) for _ in range(100_000 - len(FACTS))]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tfidf", "bm25", "small", "hybrid"])
def test_a_hundred_thousand_facts_are_found_as_by_brute_force(tmp_path, many, name):
    retriever = open_retriever(name)
    FactStore.build(retriever, many).save(tmp_path / "store")
    store = FactStore.open(tmp_path / "store")
    assert len(store) == len(many)
    assert [store[number] for number in (0, 1, 50_000, 99_999)] == [many[n] for n in (0, 1, 50_000, 99_999)]
    for turns in ([FACTS[3]], ["Hi!", "Hello. [P1]", FACTS[40]], ["Do you have any pets?"], ["zzz"]):
        [scores] = retriever.scores([retriever.queries(turns)[-1]], [many])
        expected = [n for n in np.argsort(-scores, kind="stable")[:2] if scores[n] > retriever.settings.threshold]
        hits = store.retrieve(turns)
        assert [hit.score for hit in hits] == pytest.approx([scores[n] for n in expected], abs=1e-5)
        if name != "small":  # its sums are rounded in another order here and there, so that near ties may change places
            assert [hit.index for hit in hits] == expected


def test_what_is_saved_is_mapped_into_memory_and_no_pickle(tmp_path):
    FactStore.build(open_retriever("small"), FACTS, ["sample"] * len(FACTS)).save(tmp_path / "store")
    store = FactStore.open(tmp_path / "store")
    assert isinstance(store._index["vectors"], np.memmap)
    assert store.sources == ["sample"] * len(FACTS)
    for path in (tmp_path / "store").rglob("*.npy"):
        np.load(path, allow_pickle=False)  # raises if there is one


def test_a_store_replaces_a_store_and_nothing_else(tmp_path):
    store = FactStore.build(open_retriever("tfidf"), FACTS)
    store.save(tmp_path / "store")
    store.save(tmp_path / "store")
    (tmp_path / "mine").mkdir()
    save_retriever(tmp_path / "mine" / "retriever.json", store.retriever)  # as beside a trained model
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(ValueError, match="something else"):
        store.save(tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["retriever.json", "thesis.txt"]


def test_what_is_no_store_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} holds no whole store"):
        FactStore.open(tmp_path)
    with pytest.raises(ValueError, match="random cannot search"):
        FactStore.build(open_retriever("random"), FACTS)
    with pytest.raises(ValueError, match="nothing to index"):
        FactStore.build(open_retriever("tfidf"), [])
