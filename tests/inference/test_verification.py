import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.labellers.base import Labeller
from data_prep.labellers.overlap import OverlapLabeller, used_facts
from data_prep.marks import add_marks
from inference.prompts import Citation, Prompt
from inference.verification import VerifyingFilter
from tests.inference.test_citations import CUTS, in_pieces

CARD = ["I play the guitar in a band.", "I have two cats.", "My favourite food is pizza.", "I lived in Iceland."]
SENTENCES = ["I play the guitar.", "Hello!", "Do you have cats?", "My cats love pizza.", "I was in the U.S. I miss it.",
             "My band is in the U.S. Iceland is far.", "J. K. Rowling has cats", "Dr. Lee eats pizza.", "Guitar!",
             "我有cats。", "Yes...", "Cats"]  # fmt: skip
SENTENCE = st.tuples(st.sampled_from(SENTENCES), st.sampled_from(["", " [P1]", " [P2][P9]", "[P3, P4]"]))
REPLY = st.lists(st.tuples(SENTENCE, st.sampled_from([" ", "  ", "\n", "\n\n"])), max_size=6)


def prompt(said=("Hi.",), found=(), card=CARD):
    return Prompt(list(card), "system", list(said), list(said), [list(found)])


@settings(deadline=None, max_examples=300)
@given(REPLY, CUTS)
def test_in_any_pieces_each_sentence_gets_the_marks_of_the_labeller(reply, cuts):
    text = "".join(sentence + marks + gap for (sentence, marks), gap in reply)
    clean = "".join(sentence + gap for (sentence, _), gap in reply)
    one = VerifyingFilter(OverlapLabeller(), prompt())
    shown = in_pieces(one, text, cuts)
    assert shown == add_marks(clean, used_facts(clean, CARD)).rstrip(" \t")
    assert shown.count("[P") == len(one.placed)
    for placed in one.placed:
        assert shown[placed.start : placed.end] == placed.citation.mark
        assert placed.citation.fact == CARD[int(placed.citation.mark[2:-1]) - 1]


@pytest.mark.parametrize("cuts", [[], range(200)])
def test_rejected_marks_go_and_found_ones_come_shown_or_not(cuts):
    shown = [Citation("[P1]", CARD[0], 0.9)]
    one = VerifyingFilter(OverlapLabeller(), prompt(found=shown))
    text = in_pieces(one, "I play the guitar. [P2] I also have cats. And you? [P1]", cuts)
    assert text == "I play the guitar. [P1] I also have cats. [P2] And you?"
    assert [(p.citation.mark, p.citation.score) for p in one.placed] == [("[P1]", 0.9), ("[P2]", None)]


@pytest.mark.parametrize("cuts", [[], range(200)])
def test_marks_of_documents_stay_and_count_as_no_sentence(cuts):
    passage = Citation("[D2]", "The museum opens at ten.", 0.4, "museum.txt")
    one = VerifyingFilter(OverlapLabeller(), prompt(found=[passage]))
    text = in_pieces(one, "It opens at ten. [D2]. I have cats. [D2] Pizza! [D7]", cuts)
    assert text == "It opens at ten. [D2]. I have cats. [P2] [D2] Pizza! [P3]"
    assert [p.citation.mark for p in one.placed] == ["[D2]", "[P2]", "[D2]", "[P3]"]
    assert one.placed[0].citation == passage


def test_a_sentence_is_shown_before_the_reply_ends():
    one = VerifyingFilter(OverlapLabeller(), prompt())
    assert one.feed("I play the guitar. [P4] And you").strip() == "I play the guitar. [P1]"


class Recording(Labeller):
    def __init__(self):
        self.seen = []

    def label(self, conversations):
        self.seen += conversations
        return [[{} for _ in conversation.turns] for conversation in conversations]


def test_the_labeller_sees_the_last_turns_and_the_reply_so_far_without_marks():
    said = [f"Turn {n}. [P1]" if n % 2 else f"Turn {n}." for n in range(21)]
    labeller = Recording()
    in_pieces(VerifyingFilter(labeller, prompt(said)), "One. [P1] Two.", [])
    turns = [[(turn.side, turn.text) for turn in conversation.turns] for conversation in labeller.seen]
    before = [(n % 2, f"Turn {n}.") for n in range(16, 21)]
    assert turns == [[*before, (1, "One.")], [*before, (1, "One. Two.")]]
    assert labeller.seen[0].cards == ([], CARD)
