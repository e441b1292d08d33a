from eval.examples import EACH, Faults, choose_examples, faults
from eval.judging import open_judge
from eval.replies import Line

CARD = ["I play the banjo after dinner.", "I have two cats."]
GOOD = "I play the banjo after dinner. [P1]"
JUDGE = open_judge("overlap")


def line(number, reply, retrieved=True):
    shown = [{"mark": "[P1]", "fact": CARD[0], "score": 1.0}] if retrieved else []
    return Line(id=f"q{number}", card=CARD, other_card=[], history=[], message="Hi!", reference="Hello.", reply=reply,
                retrieved=shown, seconds=0.1, finish_reason="stop")  # fmt: skip


def test_faults_are_counted():
    replies = {
        GOOD: Faults(0, 0, 1),
        "I play the banjo after dinner. [P2]": Faults(1, 0, 0),
        "I play the banjo after dinner. [P1][P9]": Faults(2, 0, 0),
        "I play the banjo after dinner. [P1, P2]": Faults(1, 0, 0),
        "I drive a green lorry.": Faults(0, 1, 0),
        "That sounds nice!": Faults(0, 0, 0),
    }
    assert faults([line(number, reply) for number, reply in enumerate(replies)], JUDGE) == [*replies.values()]


def test_the_nearest_to_its_facts_comes_first():
    said = ["After dinner I play the banjo for all of my many friends. [P1]", GOOD]
    lines = [line(number, reply) for number, reply in enumerate(said)]
    assert [one["id"] for one in choose_examples(lines, lines, JUDGE)] == ["q1", "q0"]


def test_the_first_good_and_the_worst_bad_ones_are_shown():
    bad = "I drive a green lorry. [P2]"
    worse = "I drive a green lorry. [P2] I live on a big farm. [P3]"
    said = [GOOD, "That sounds nice!", bad, GOOD, worse, bad, GOOD, GOOD, bad]
    lines = [line(number, reply) for number, reply in enumerate(said)]
    lines.append(line(99, GOOD, retrieved=False))
    base = [line(number, f"Base {number}.") for number, _ in enumerate(lines)]
    chosen = choose_examples(lines, base, JUDGE)
    assert [(one["id"], one["good"]) for one in chosen] == [
        ("q0", True), ("q3", True), ("q6", True), ("q4", False), ("q2", False), ("q5", False)
    ]  # fmt: skip
    assert len(chosen) == 2 * EACH
    assert chosen[1]["base_reply"] == "Base 3."
    assert (chosen[3]["wrong_marks"], chosen[3]["unsupported_claims"]) == (2, 2)
    assert choose_examples([], [], JUDGE) == []
