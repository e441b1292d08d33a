import pytest

from data_prep.labellers.overlap import OverlapLabeller
from data_prep.labellers.registry import LABELLERS
from data_prep.placeholders import fill
from data_prep.reader import Conversation, Turn, read_conversations
from data_prep.slips import slipped_turns
from data_prep.sources import FILE_NAMES, HELD_OUT

CARDS = (
    ["I mend old clocks in Leeds.", "I sing.", "I own a red barn."],
    ["My sister breeds alpacas.", "I own a big red barn."],
)


def slips(*texts, labels=None):
    """Slips of turns that begin with side 0."""
    turns = [Turn(number % 2, text) for number, text in enumerate(texts)]
    return slipped_turns(Conversation("test", 0, CARDS, turns), labels or [{} for _ in turns])


def test_a_claim_to_what_stands_on_the_other_card_is_a_slip():
    assert slips("What do you do?", "I mend old clocks in Leeds, mostly.") == {1}
    assert slips("Hi! My sister breeds alpacas. And you?") == {0}


@pytest.mark.parametrize(
    "texts",
    [
        ("I mend old clocks in Leeds.", "I mend old clocks in Leeds as well."),  # it was told before
        ("What do you do?", "I mend old clocks in Leeds?"),
        ("What do you do?", "I never mend old clocks in Leeds."),
        ("What do you do?", "You mend old clocks in Leeds, I heard."),
        ("What do you do?", "Someone must mend old clocks in Leeds."),
        ("What do you do?", "I mend shoes in Leeds."),
        ("Any hobby?", "I sing all day."),  # one telling word says little
        ("What do you own?", "I own a red barn."),  # so does the own card
    ],
)
def test_what_is_no_such_claim_is_none(texts):
    assert slips(*texts) == set()


def test_a_question_tells_nothing():
    assert slips("Who might mend old clocks in Leeds?", "I mend old clocks in Leeds.") == {1}


def test_a_sentence_that_the_own_card_supports_is_none():
    texts = ("What do you do?", "I mend old clocks in Leeds.")
    assert slips(*texts, labels=[{}, {0: (0,)}]) == set()
    assert slips(texts[0], f"Hm. {texts[1]}", labels=[{}, {0: (0,)}]) == {1}


@pytest.mark.slow
def test_slips_of_spc_are_few_and_none_is_a_use_of_the_own_card(spc_dir):
    for split in HELD_OUT:
        talks = [fill(talk) for talk in read_conversations(spc_dir / FILE_NAMES[split], split)[0]]
        labels = LABELLERS["encoder"]().label(talks)
        found = [(talk, turn) for talk, used in zip(talks, labels, strict=True) for turn in slipped_turns(talk, used)]
        assert 0.001 < len(found) / sum(len(talk.turns) for talk in talks) < 0.01
        # With the cards in each other's place they would be uses.
        overlap = OverlapLabeller()
        swapped = [Conversation(talk.split, talk.row, talk.cards[::-1], talk.turns) for talk, _ in found]
        assert all(used[turn] for used, (_, turn) in zip(overlap.label(swapped), found, strict=True))
