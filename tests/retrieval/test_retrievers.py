import json
import math
import re
from collections import Counter

import bm25s
import numpy as np
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from data_prep.reader import read_conversations
from data_prep.sources import find_files
from retrieval.base import RetrievalSettings
from retrieval.bm25 import Bm25Retriever
from retrieval.dialogue import Dialogue
from retrieval.hybrid import HybridRetriever
from retrieval.lexical import analyze, count_words
from retrieval.registry import open_retriever
from retrieval.tfidf import TfidfRetriever

CONVERSATIONS, _ = read_conversations(find_files("sample")["train"], "train")
DIALOGUES = [Dialogue(c.cards[1], [turn.text for turn in c.turns]) for c in CONVERSATIONS]
FACTS = list(dict.fromkeys(fact for c in CONVERSATIONS for card in c.cards for fact in card))
NAMES = ["tfidf", "bm25", "small", "hybrid", "random", "none"]  # all that needs no PyTorch
LEXICAL = {"tfidf": TfidfRetriever, "bm25": Bm25Retriever}


@pytest.fixture(scope="module", params=NAMES)
def retriever(request):
    return open_retriever(request.param)


@pytest.fixture(scope="module")
def on_sample(tmp_path_factory):
    """TF-IDF and BM25 that know the words of the sample's facts."""
    path = tmp_path_factory.mktemp("words") / "words.json"
    path.write_text(json.dumps(count_words(FACTS)), encoding="utf-8")
    return {name: kind(str(path)) for name, kind in LEXICAL.items()}


def words(text: str) -> list[str]:
    found = re.findall(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]{2,}", text.lower())
    return Stemmer.Stemmer("english").stemWords([word for word in found if word not in ENGLISH_STOP_WORDS])


def tfidf_by_hand(query: str, card: list[str]) -> list[float]:
    df = Counter(word for fact in FACTS for word in set(words(fact)))

    def vector(text):
        weights = {w: n * (math.log((1 + len(FACTS)) / (1 + df[w])) + 1) for w, n in Counter(words(text)).items()}
        norm = math.sqrt(sum(weight**2 for weight in weights.values()))
        return {word: weight / norm for word, weight in weights.items()}

    return [sum(vector(query).get(word, 0) * weight for word, weight in vector(fact).items()) for fact in card]


def bm25_by_hand(query: str, card: list[str]) -> list[float]:
    df = Counter(word for fact in FACTS for word in set(words(fact)))
    mean = sum(len(words(fact)) for fact in FACTS) / len(FACTS)

    def score(fact):
        tf, length = Counter(words(fact)), len(words(fact))
        return sum(
            math.log(1 + (len(FACTS) - df[w] + 0.5) / (df[w] + 0.5))
            * tf[w] / (tf[w] + 1.5 * (1 - 0.75 + 0.75 * length / mean))
            for w in words(query)
        )  # fmt: skip

    return [score(fact) for fact in card]


@pytest.mark.parametrize(("name", "by_hand"), [("tfidf", tfidf_by_hand), ("bm25", bm25_by_hand)])
def test_scores_equal_brute_force(on_sample, name, by_hand):
    pairs = [(turn, dialogue.card) for dialogue in DIALOGUES for turn in dialogue.turns]
    pairs += [("Zyzzyva? Otters!", ["A zyzzyva is no otter.", "An otter swims."])]  # words that the sample lacks
    found = on_sample[name].scores([(query,) for query, _ in pairs], [card for _, card in pairs])
    for (query, card), scores in [*zip(pairs, found, strict=True)][::-23]:
        assert scores == pytest.approx(by_hand(query, card), abs=1e-9)


def test_bm25_is_that_of_bm25s(on_sample):
    reference = bm25s.BM25(method="lucene", k1=1.5, b=0.75, dtype="float64")
    reference.index([analyze(fact) for fact in FACTS], show_progress=False)
    queries = [dialogue.turns[0] for dialogue in DIALOGUES]
    found = on_sample["bm25"].scores([(query,) for query in queries], [FACTS] * len(queries))
    for query, scores in zip(queries, found, strict=True):
        known = [word for word in analyze(query) if word in reference.vocab_dict]
        if known:
            assert scores == pytest.approx(reference.get_scores(known), abs=1e-9)


def test_one_at_a_time_gives_what_the_batch_gives(retriever):
    queries = [query for dialogue in DIALOGUES for query in retriever.queries(dialogue.turns)]
    cards = [dialogue.card for dialogue in DIALOGUES for _ in dialogue.turns[::2]]
    batch = retriever.scores(queries, cards)
    for query, card, scores in [*zip(queries, cards, batch, strict=True)][::7]:
        assert np.array_equal(retriever.scores([query], [card])[0], scores)


@pytest.mark.parametrize("name", ["tfidf", "bm25", "small", "hybrid"])
def test_searching_an_index_gives_what_a_card_gives(name):
    retriever = open_retriever(name)
    index = retriever.index(FACTS)
    for dialogue in DIALOGUES[:20]:
        query = retriever.queries(dialogue.turns)[-1]
        [scores] = retriever.scores([query], [FACTS])
        assert retriever.search(query, index) == pytest.approx(scores, abs=1e-5)


CARD = ["I have a dog.", "I play the cello.", "I play the cello.", "I swim."]


def test_best_first_and_ties_in_card_order(retriever):
    [[cello], [dog]] = retriever.retrieve([Dialogue(CARD, [text]) for text in ("Do you play the cello?", "And dogs?")])
    if retriever.kind == "none":
        assert (cello, dog) == ([], [])
    elif retriever.kind != "random":
        assert [hit.index for hit in cello] == [1, 2]
        assert cello[0].score == cello[1].score > retriever.settings.threshold
        assert dog[0].index == 0


@pytest.mark.parametrize("message", ["", "\n", "and the of", "🎻🎻", "!!!"])
def test_nothing_to_go_by_finds_nothing(retriever, message):
    if retriever.kind != "random":
        assert retriever.retrieve([Dialogue(CARD, [message])]) == [[[]]]


def test_no_dialogue_no_card_and_one_fact(retriever):
    assert retriever.retrieve([]) == []
    assert retriever.retrieve([Dialogue([], ["Do you swim?"])]) == [[[]]]
    [[hits]] = retriever.retrieve([Dialogue(["I swim."], ["Do you swim?"])])
    assert [hit.index for hit in hits] == ([] if retriever.kind == "none" else [0])


def test_chinese_is_compared_by_character_and_an_emoji_is_no_word(retriever):
    card = ["🎻", "我在医院工作。", "我养了两只猫。"]
    [[cats], [nothing]] = retriever.retrieve([Dialogue(card, [text]) for text in ("你的猫叫什么名字？", "🎻🎻")])
    if retriever.kind in ("tfidf", "bm25", "hybrid"):
        assert cats[0].index == 2
    if retriever.kind != "random":
        assert 0 not in [hit.index for hit in cats]
        assert nothing == []


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=6), st.lists(st.text(), max_size=6))
def test_any_text_gets_a_score_for_every_fact(name, query, card):
    [scores] = open_retriever(name).scores([tuple(query)], [card])
    assert scores.shape == (len(card),)
    assert not np.isnan(scores).any()


def test_the_query_is_the_message_and_the_turns_before_it_without_marks():
    turns = ["Any pets?", "A dog. [P2]", "What else?", "My job. [D3]", "Which?"]
    for settings_, expected in [
        (
            {"query_turns": 3},
            [("Any pets?",), ("Any pets?", "A dog.", "What else?"), ("What else?", "My job.", "Which?")],
        ),
        ({"query_turns": 1}, [("Any pets?",), ("What else?",), ("Which?",)]),
        ({"query_turns": 2, "whose": "user"}, [("Any pets?",), ("Any pets?", "What else?"), ("What else?", "Which?")]),
    ]:
        assert open_retriever("random", **settings_).queries(turns) == expected


def test_k_and_threshold_bound_what_is_found():
    scores = np.array([0.1, 0.5, 0.5, 0.9, 0.5])
    for k, threshold, expected in [(2, 0, [3, 1]), (3, 0.5, [3]), (9, 0.2, [3, 1, 2, 4]), (0, 0, []), (1, 0.9, [])]:
        retriever = open_retriever("random", k=k, threshold=threshold)
        assert [hit.index for hit in retriever.best(scores)] == expected
        below = np.concatenate([scores, np.zeros(1000)])  # many facts more, none of which fits
        assert [hit.index for hit in retriever.best(below)] == expected


def test_hybrid_adds_up_reciprocal_ranks():
    class Fixed(HybridRetriever):
        def __init__(self, scores, threshold):
            super().__init__([], RetrievalSettings(threshold=threshold))
            self._scores = np.array(scores)

        def scores(self, queries, cards):
            return [self._scores for _ in queries]

    fused = HybridRetriever([Fixed([3, 1, 2], 1.5), Fixed([0.5, 0.5, 0.1], 0)])
    [scores] = fused.scores([("?",)], [["a", "b", "c"]])
    assert scores == pytest.approx([1 / 61 + 1 / 61, 1 / 63 + 1 / 61, 1 / 62 + 1 / 63])
    fused = HybridRetriever([Fixed([3, 1, 2], 1.5), Fixed([0.5, -0.1, 0], 0.6)])
    [scores] = fused.scores([("?",)], [["a", "b", "c"]])
    assert scores == pytest.approx([1 / 61 + 1 / 61, 1 / 63 - 1, 1 / 62])
