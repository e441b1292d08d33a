from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.labellers.overlap import OverlapLabeller
from data_prep.marks import add_marks
from data_prep.reader import Conversation, Turn
from eval.citation_metrics import (
    CitationCounts,
    CitedSentence,
    citation_statistics,
    cited_sentences,
    count_citations,
    is_supported,
    malformed_marks,
    precise_marks,
)
from eval.intervals import intervals
from eval.judging import labeller_supports
from retrieval.sentences import split_sentences

CARD = ["a", "b", "c"]  # facts are letters; a sentence is supported by facts that hold all its capital letters


def supports(sentence: str, facts: list[str]) -> bool:
    needed = {letter.lower() for letter in sentence if letter.isupper()}
    return bool(needed) and needed <= set("".join(facts))


def count(reply: str, card=CARD, shown=(0, 1, 2)) -> CitationCounts:
    return count_citations(reply, card, shown, supports)


def talk(reply: str) -> Conversation:
    return Conversation("test", 0, ([], CARD), [Turn(0, "Hi!"), Turn(1, reply)])


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("I play. [P1] And you?", [("I play.", (0,)), ("And you?", ())]),  # after the full stop
        ("I play [P1].", [("I play.", (0,))]),
        ("I play [P1] and sing [P2]. Yes.", [("I play and sing.", (0, 1)), ("Yes.", ())]),
        ("I play.[P1][P12] Yes.\n[P2]", [("I play.", (0, 11)), ("Yes.", (1,))]),
        ("[P1] I play. Yes.", [("I play.", (0,)), ("Yes.", ())]),  # before all
        ("I play. :) [P1] Yes.", [("I play.", (0,)), (":) Yes.", ())]),
        ("I play. ... [P1] Yes. ;-) [P2]", [("I play.", (0,)), ("Yes.", (1,))]),  # what holds no word is no sentence
        ("... I play. [P1]", [("I play.", (0,))]),
        ("!! I play. [P1]", [("I play.", (0,))]),
        ("我打球。[P1]你呢？", [("我打球。", (0,)), ("你呢？", ())]),
        ("I play. [P1][P1]", [("I play.", (0, 0))]),
        ("I play. [D1][P1]", [("I play.", (0,))]),
        ("[P1][P2]", [("", (0, 1))]),
        ("Hello there!", [("Hello there!", ())]),
        ("I play. Yes. [p1] [P 2]", [("I play.", ()), ("Yes.", ())]),
        ("", []),
        ("...", []),
    ],
)
def test_the_marks_of_each_sentence(reply, expected):
    assert cited_sentences(reply) == [CitedSentence(*pair) for pair in expected]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["I play.", "Dr. Lee sings!", "And you?"]), st.sets(st.integers(0, 20)))))
def test_what_data_marks_is_read_back(parts):
    reply = " ".join(text for text, _ in parts)
    used: dict[int, list[int]] = {}
    for number, (_, facts) in enumerate(parts):
        for fact in facts:
            used.setdefault(fact, []).append(number)
    marked = cited_sentences(add_marks(reply, used))
    assert [sentence.text for sentence in marked] == [s.strip() for s in split_sentences(reply) if s]
    assert [set(sentence.cited) for sentence in marked] == [facts for _, facts in parts]


@pytest.mark.parametrize(
    "text",
    ["[P 1]", "[p1]", "[P1, P2]", "[P1 P2]", "[P1P2]", "[P1,2]", "(P1)", "（P1）", "【P1】", "[P0]", "[P01]", "[ P1 ]"],
)
def test_malformed_marks(text):
    assert malformed_marks(f"I play. {text} And you?") == [text]
    assert malformed_marks(f"I play. {text}") == [text]


def test_what_is_no_malformed_mark():
    assert malformed_marks("I play. [P1][P12] (Page 1) [D1] [1] P1 (ps 2) [PhD 1] [sic]") == []
    assert malformed_marks("I play. [P1") == ["[P1"]  # cut off
    assert malformed_marks("I play. [P1[P2]") == ["[P1"]
    assert malformed_marks("[P" + "1" * 5000) == ["[P" + "1" * 5000]  # in no time


def test_recall_needs_all_that_a_sentence_says():
    assert count("A! [P1]").supported == count("A and B! [P1][P2]").supported == 1
    assert count("A and B! [P1]").supported == count("A! [P2]").supported == count("A!").supported == 0


@pytest.mark.parametrize(
    ("reply", "precise", "marks"),
    [
        ("A! [P1]", 1, 1),
        ("A and B! [P1][P2]", 2, 2),  # neither can go
        ("A! [P1][P2]", 1, 2),  # b is of no use
        ("A and B! [P1][P2][P3]", 2, 3),
        ("A! [P2]", 0, 1),
        ("A! [P1][P1]", 2, 2),  # each does alone, as ALCE has it
        ("A and B! [P1]", 0, 1),
        ("A! [P1] B! [P1]", 1, 2),
    ],
)
def test_precision_of_marks(reply, precise, marks):
    found = count(reply)
    assert (found.precise, found.marks) == (precise, marks)


def alce(sentence: CitedSentence) -> tuple[bool, int]:
    """Recall and precise marks as section 3 of the paper words them, over all sets of cited facts."""
    cited = set(sentence.cited)
    subsets = [subset for size in range(4) for subset in combinations(sorted(cited), size)]
    supporting = {subset for subset in subsets if supports(sentence.text, [CARD[fact] for fact in subset])}
    recall = tuple(sorted(cited)) in supporting
    irrelevant = {i for i in cited if (i,) not in supporting and tuple(sorted(cited - {i})) in supporting}
    return recall, len(cited - irrelevant) if recall else 0


@given(st.sets(st.sampled_from("ABC")), st.permutations([0, 1, 2]), st.integers(0, 3))
def test_against_the_papers_words(needed, order, number):
    sentence = CitedSentence(" and ".join(sorted(needed)) + ".", tuple(order[:number]))
    found = is_supported(sentence, CARD, supports), precise_marks(sentence, CARD, supports)
    assert found == alce(sentence)


def test_marks_out_of_range_are_wrong_and_counted():
    found = count("A! [P1][P9]")
    assert (found.supported, found.precise, found.marks, found.off_card, found.not_shown) == (0, 0, 2, 1, 1)
    found = count("B! [P2]", shown={0})
    assert (found.supported, found.off_card, found.not_shown) == (1, 0, 1)


def test_worthy_sentences_are_those_that_a_fact_supports():
    found = count("A! [P1] B! hello! X! [P3]")
    assert (found.sentences, found.worthy, found.worthy_supported) == (4, 2, 1)
    assert (found.marks, found.precise, found.worthy_marks, found.worthy_precise) == (2, 1, 1, 1)


def test_only_marks_claim_nothing_and_are_wrong():
    found = count("[P1][P2]")
    assert (found.sentences, found.supported, found.marks, found.precise, found.worthy) == (1, 0, 2, 0, 0)


def value(name: str, *replies: str) -> float:
    statistics = citation_statistics(
        [talk(reply) for reply in replies], [{0, 1}] * len(replies), [supports] * len(replies)
    )
    return float(statistics[name].measure(*statistics[name].values))


def test_means_over_replies():
    replies = ("A! [P1] hello.", "A! B! [P1]", "hello.", "A! [P1][P2] [p3]")
    assert value("recall", *replies) == (1 / 2 + 0 + 0 + 1) / 4
    assert value("precision", *replies) == (1 + 0 + 0 + 1 / 2) / 4
    assert value("precision_marked", *replies) == (1 + 0 + 1 / 2) / 3
    assert value("recall_worthy", *replies) == (1 + 0 + 1) / 3
    assert value("precision_worthy", *replies) == (1 + 0 + 1 / 2) / 3
    assert value("precision_worthy", "A! [P1]", "X! [P3]") == 1  # no mark at a worthy sentence: left out
    assert value("well_formed", *replies) == 4 / 5
    assert value("recall", "A! [P1]", "") == value("precision", "A! [P1]", "") == 1  # ALCE leaves out empty replies
    assert value("not_shown", "A! [P1]", "X! [P3][P4]") == 2 / 3
    assert value("off_card", "A! [P1]", "X! [P3][P4]") == 1 / 3


def test_questions_and_greetings_need_no_mark():
    """They lower ALCE's recall, not that over worthy sentences."""
    card = ["I play tennis on Saturdays."]
    reply = "Hello! I play tennis. [P1] Do you play tennis?"
    talks = [Conversation("test", 0, ([], card), [Turn(0, "Hi!"), Turn(1, reply)])]
    judges = labeller_supports(OverlapLabeller(), talks)
    found = citation_statistics(talks, [{0}], judges)
    values = {name: float(statistic.measure(*statistic.values)) for name, statistic in found.items()}
    assert values["recall"] == pytest.approx(1 / 3)
    assert values["recall_worthy"] == values["precision"] == values["precision_worthy"] == 1


REPLIES = st.lists(st.sampled_from(["A! [P1]", "B!", "A and B! [P1][P2]", "A! [P3]", "hello!", "A! [p1]", "[P7]", ""]),
                   min_size=2, max_size=12)  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(REPLIES, st.randoms())
def test_bounds_order_and_intervals(replies, random):
    def found(chosen):
        return citation_statistics([talk(text) for text in chosen], [{0, 1}] * len(chosen), [supports] * len(chosen))

    for name, numbers in intervals(found(replies)).items():
        assert 0 <= numbers["low"] <= numbers["value"] <= numbers["high"] <= 1, name
    again = found(random.sample(replies, len(replies)))
    for name, statistic in found(replies).items():
        assert again[name].measure(*again[name].values) == pytest.approx(statistic.measure(*statistic.values))
