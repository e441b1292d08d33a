import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from retrieval.base import RetrievalSettings
from retrieval.dense import DenseRetriever, query_text
from retrieval.registry import load_retriever, open_retriever, save_retriever
from retrieval.store import FactStore
from tests.retrieval.test_retrievers import CARD, DIALOGUES, FACTS


def test_scores_are_the_cosines_of_the_models_vectors(tiny_encoder):
    retriever = DenseRetriever(str(tiny_encoder), settings=RetrievalSettings(query_turns=2))
    model = SentenceTransformer(str(tiny_encoder))
    turns = DIALOGUES[0].turns[:3]
    [*_, scores] = retriever.scores(retriever.queries(turns), [CARD, CARD])
    asked, *facts = model.encode(["\n".join(turns[1:3]), *CARD])
    expected = [asked @ fact / np.linalg.norm(asked) / np.linalg.norm(fact) for fact in facts]
    assert scores == pytest.approx(expected, abs=1e-5)


def test_a_store_is_searched_as_a_card_is(tiny_encoder, tmp_path):
    retriever = open_retriever("dense", model=str(tiny_encoder), threshold=-1)
    FactStore.build(retriever, FACTS).save(tmp_path / "store")
    [scores] = retriever.scores([("Do you like music?",)], [FACTS])
    hits = FactStore.open(tmp_path / "store").retrieve(["Do you like music?"])
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True)[:2], abs=1e-5)


def test_the_query_says_who_speaks():
    query = ("Hi!", "Hello.", "Any pets?")
    assert query_text(query, speakers=False) == "Hi!\nHello.\nAny pets?"
    assert query_text(query, speakers=True) == "you: Hi!\nme: Hello.\nyou: Any pets?"
    assert query_text(query[1:], speakers=True) == "me: Hello.\nyou: Any pets?"
    assert query_text(query, speakers=True, whose="user") == "you: Hi!\nyou: Hello.\nyou: Any pets?"


def test_other_weights_are_another_retriever(tiny_encoder, tmp_path):
    retriever = open_retriever("dense", model=str(tiny_encoder))
    save_retriever(tmp_path / "retriever.json", retriever)
    assert load_retriever(tmp_path / "retriever.json").identity == retriever.identity
    assert open_retriever("dense", model=str(tiny_encoder), speakers=True).identity != retriever.identity
    model = SentenceTransformer(str(tiny_encoder))
    next(model.parameters()).data[0] += 1
    model.save(str(tmp_path / "other"))
    assert open_retriever("dense", model=str(tmp_path / "other")).identity != retriever.identity
