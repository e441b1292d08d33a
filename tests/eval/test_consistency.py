import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.labellers.overlap import OverlapLabeller
from data_prep.reader import Conversation, Turn
from data_prep.slips import slipped_turns
from eval.consistency import ConsistencyCounts, consistency_statistics, count_claims
from eval.intervals import intervals
from eval.judging import labeller_supports

OTHER, OWN = ["I mend old clocks in Leeds.", "I own a red barn."], ["My sister breeds alpacas.", "I have two cats."]
NOTHING = ("What do you do?",)


def talk(reply: str, *before: str) -> Conversation:
    """``before``: the turns before the reply, the other side's last."""
    turns = [Turn((len(before) - number) % 2 ^ 1, text) for number, text in enumerate(before)]
    return Conversation("test", 0, (OTHER, OWN), [*turns, Turn(1, reply)])


def count(reply: str, *before: str) -> ConsistencyCounts:
    conversation = talk(reply, *(before or NOTHING))
    [supports] = labeller_supports(OverlapLabeller(), [conversation])
    return count_claims(conversation, supports)


@pytest.mark.parametrize(
    ("reply", "claims", "unsupported", "slips"),
    [
        ("I have cats. [P2]", 1, 0, 0),
        ("I have a boat.", 1, 1, 0),
        ("I have a boat. [P2] My sister breeds alpacas. [P1]", 2, 1, 0),
        ("I mend old clocks in Leeds. [P1]", 1, 1, 1),
        ("Hm. [P1] I have cats. I mend old clocks in Leeds, and I own a red barn.", 2, 1, 1),
        ("I have cats. [P2]. I mend old clocks in Leeds. I have two cats.", 3, 1, 1),  # marks shift no sentence
        ("Hello! You have a boat. Do I have a boat? Boats are fun.", 0, 0, 0),
        ("I don't have a boat.", 0, 0, 0),  # the rule passes over what is denied
        ("I see.", 1, 1, 0),  # and takes this for a claim
        ("[P1]", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_by_hand(reply, claims, unsupported, slips):
    assert count(reply) == ConsistencyCounts(claims, unsupported, slips)


def test_what_the_other_side_has_told_is_no_slip():
    assert count("I mend old clocks in Leeds.", "I mend old clocks in Leeds. [P1]").slips == 0
    assert count("I mend old clocks in Leeds.", "Who mends old clocks in Leeds?").slips == 1


def test_what_the_own_card_supports_is_no_slip():
    conversation = talk("I mend old clocks in Leeds.", *NOTHING)
    assert count_claims(conversation, lambda sentence, facts: True) == ConsistencyCounts(1, 0, 0)


def test_without_the_other_card_nobody_slips():
    conversation = Conversation("test", 0, ([], OWN), [Turn(0, "Hi!"), Turn(1, "I mend old clocks in Leeds.")])
    assert count_claims(conversation, lambda sentence, facts: False) == ConsistencyCounts(1, 1, 0)


TALKS = st.lists(st.sampled_from(["I mend old clocks in Leeds. [P1]", "I have cats. I own a red barn.", "Hi!",
                                  "Hm. I see. I mend old clocks in Leeds."]), min_size=2, max_size=8)  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(TALKS, st.randoms())
def test_slips_are_those_of_the_data_and_all_is_in_bounds(replies, random):
    def found(chosen):
        talks = [talk(reply, *NOTHING) for reply in chosen]
        return consistency_statistics(talks, labeller_supports(OverlapLabeller(), talks))

    numbers = intervals(found(replies))
    assert all(0 <= n["low"] <= n["value"] <= n["high"] for n in numbers.values())
    assert all(n["high"] <= 1 for name, n in numbers.items() if name != "claims")
    assert ("unsupported" in numbers) == (numbers["claims"]["value"] > 0)  # of no claim there is no share
    talks = [talk(reply, *NOTHING) for reply in replies]
    labels = OverlapLabeller().label(talks)
    slipped = sum(1 in slipped_turns(talk, used) for talk, used in zip(talks, labels, strict=True))
    assert numbers["replies_slipped"]["value"] == pytest.approx(slipped / len(replies), abs=1e-4)
    again = intervals(found(random.sample(replies, len(replies))))
    assert all(again[name]["value"] == numbers[name]["value"] for name in numbers)
