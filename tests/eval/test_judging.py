import pytest

from data_prep.labellers.base import Labeller
from data_prep.labellers.overlap import OverlapLabeller
from data_prep.labellers.registry import LABELLERS
from data_prep.labellers.windows import CONTEXT
from data_prep.reader import Conversation, Turn
from eval.judging import labeller_supports, plain_sentences

CARD = ["I play tennis on Saturdays.", "I have two cats."]


def talk(reply: str, message: str = "Hi!", earlier: int = 0) -> Conversation:
    turns = [Turn(n % 2, f"{n}?") for n in range(2 * earlier)]
    return Conversation("test", 0, (["I sing in Leeds."], CARD), [*turns, Turn(0, message), Turn(1, reply)])


class Recorder(Labeller):
    """Says that the last sentence of the last turn uses fact 1; keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def label(self, conversations):
        self.asked.append(list(conversations))
        return [[{} for _ in c.turns[1:]] + [{1: (len(c.turns[-1].text.split(". ")) - 1,)}] for c in conversations]


def test_a_labeller_is_asked_once_about_unmarked_replies_and_the_own_card():
    labeller = Recorder()
    judges = labeller_supports(labeller, [talk("I play. [P1] Cats. [P2]", earlier=9), talk("Yes. [P1]", "Ah [P1]")])
    [[first, second]] = labeller.asked
    assert first.cards == second.cards == ([], CARD)
    assert [turn.text for turn in first.turns[-2:]] == ["Hi!", "I play. Cats."]
    assert len(first.turns) == CONTEXT + 1 and second.turns == [Turn(0, "Ah"), Turn(1, "Yes.")]
    assert [judges[0](sentence, [CARD[1]]) for sentence in ("I play.", "Cats.")] == [False, True]
    assert judges[1]("Yes.", CARD) and not judges[1]("Yes.", CARD[:1]) and not judges[1]("Yes.", [])
    assert not judges[1]("Cats.", CARD)  # of another reply


def test_brackets_in_brackets_do_not_shift_sentences():
    [supports] = labeller_supports(Recorder(), [talk("I play. [[P1]P2]")])
    assert supports("[P2]", [CARD[1]])


def test_the_word_overlap_open_judge():
    [supports] = labeller_supports(OverlapLabeller(), [talk("I play tennis. [P1] Do you play tennis? Hello!")])
    sentences = plain_sentences("I play tennis. [P1] Do you play tennis? Hello!")
    assert [supports(sentence, CARD) for sentence in sentences] == [True, False, False]


@pytest.mark.slow
def test_the_network_open_judge():
    replies = [talk("I play tennis every Saturday. [P1] I love trains."), talk("[P1]")]
    judged, empty = labeller_supports(LABELLERS["encoder"](), replies)
    assert judged("I play tennis every Saturday.", CARD[:1]) and not judged("I love trains.", CARD)
    assert not empty("", CARD)
