import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from data_prep.reader import read_conversations
from data_prep.sources import find_files
from retrieval.dialogue import Dialogue
from retrieval.registry import load_retriever
from retrieval.tfidf import TfidfRetriever

CONVERSATIONS, _ = read_conversations(find_files("sample")["train"], "train")
CARDS = [card for conversation in CONVERSATIONS for card in conversation.cards]
RETRIEVER = TfidfRetriever.fit(CARDS)


def words(text: str) -> list[str]:
    found = re.findall(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]{2,}", text.lower())
    return [word for word in found if word not in ENGLISH_STOP_WORDS]


def brute_force_scores(query: str, card: list[str]) -> list[float]:
    """Textbook TF-IDF cosine with scikit-learn's smoothed idf, ln((1 + n) / (1 + df)) + 1."""
    facts = list(dict.fromkeys(fact for card in CARDS for fact in card))
    df = Counter(word for fact in facts for word in set(words(fact)))
    idf = {word: math.log((1 + len(facts)) / (1 + count)) + 1 for word, count in df.items()}

    def vector(text):
        weights = {word: count * idf[word] for word, count in Counter(words(text)).items() if word in idf}
        norm = math.sqrt(sum(weight**2 for weight in weights.values()))
        return {word: weight / norm for word, weight in weights.items()}

    return [sum(vector(query).get(word, 0) * weight for word, weight in vector(fact).items()) for fact in card]


def test_scores_equal_brute_force_on_the_sample():
    pairs = [
        (turn.text, card)
        for conversation in CONVERSATIONS
        for card in conversation.cards
        for turn in conversation.turns
    ]
    found = RETRIEVER.scores([query for query, _ in pairs], [card for _, card in pairs])
    for (query, card), scores in zip(pairs[::17], found[::17], strict=True):
        assert scores == pytest.approx(brute_force_scores(query, card), abs=1e-12)


def test_one_at_a_time_gives_what_the_batch_gives():
    queries = [conversation.turns[0].text for conversation in CONVERSATIONS]
    cards = [conversation.cards[0] for conversation in CONVERSATIONS]
    for query, card, scores in zip(queries, cards, RETRIEVER.scores(queries, cards), strict=True):
        assert np.array_equal(RETRIEVER.scores([query], [card])[0], scores)


def test_saved_and_opened_again_it_is_the_same(tmp_path):
    retriever = TfidfRetriever.fit(CARDS, query_turns=2, k=1, language="zh")
    retriever.save(tmp_path / "retriever.json")
    opened = load_retriever(tmp_path / "retriever.json")
    assert (opened.query_turns, opened.k, opened.language) == (2, 1, "zh")
    dialogues = [Dialogue(c.cards[1], [turn.text for turn in c.turns]) for c in CONVERSATIONS]
    assert opened.retrieve(dialogues) == retriever.retrieve(dialogues)


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"retriever": "nonsense", "state": {}}'])
def test_a_file_that_is_no_retriever_is_refused(tmp_path, content):
    path = tmp_path / "retriever.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="not a saved retriever"):
        load_retriever(path)


def test_best_first_ties_in_card_order_and_nothing_where_nothing_fits():
    card = ["I have a dog.", "I play the cello.", "I play the cello.", "I swim."]
    [[first, second]] = RETRIEVER.retrieve([Dialogue(card, ["Do you play the cello?", "Yes.", "And your dog?"])])
    assert [hit.index for hit in first] == [1, 2]
    assert first[0].score == first[1].score > 0
    assert second[0].index == 0
    assert RETRIEVER.retrieve([Dialogue(card, ["Zzz?"])]) == [[[]]]
    assert RETRIEVER.retrieve([Dialogue([], ["Do you play the cello?"])]) == [[[]]]
    assert RETRIEVER.retrieve([]) == []


def test_the_query_is_the_message_and_the_turns_before_it_without_marks():
    turns = ["Any pets?", "A dog. [P2]", "What else?"]
    assert RETRIEVER.queries(turns) == ["Any pets?", "Any pets?\nA dog.\nWhat else?"]
    assert TfidfRetriever.fit(CARDS, query_turns=1).queries(turns) == ["Any pets?", "What else?"]


@given(st.text(), st.lists(st.text(), max_size=6))
def test_any_text_gets_scores_between_0_and_1(query, card):
    [scores] = RETRIEVER.scores([query], [card])
    assert scores.shape == (len(card),)
    assert ((scores >= 0) & (scores <= 1 + 1e-9)).all()


def test_the_saved_file_is_plain_json(tmp_path):
    RETRIEVER.save(tmp_path / "retriever.json")
    saved = json.loads((tmp_path / "retriever.json").read_text(encoding="utf-8"))
    assert saved["retriever"] == "tfidf"
    assert len(saved["state"]["words"]) == len(saved["state"]["idf"])
