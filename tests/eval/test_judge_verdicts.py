import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.judge.pairwise import MEASURES, grouped, pairwise_measures, pairwise_questions
from eval.judge.prompts import DIMENSIONS
from eval.judge.replies import Situation
from eval.judge.scored import scored_measures, scored_questions
from eval.judge.verdicts import parse_scores, parse_verdict
from tests.eval.judge_server import scores


def test_intervals_against_brute_force():
    random = np.random.default_rng(1)
    ids = [str(number) for number in range(40)]
    situations = dict.fromkeys(ids, Situation((), (), "Hi!", ""))
    questions = pairwise_questions(situations, dict.fromkeys(ids, "a"), dict.fromkeys(ids, "b"), 3)
    said = random.choice(["first", "second", "tie"], len(questions), p=(0.6, 0.3, 0.1)).tolist()
    found = pairwise_measures(grouped(questions, said))["measures"]
    rows = []
    for start in range(0, len(said), 6):  # of one id: three with A first, three with B first
        one, two = said[start : start + 3], said[start + 3 : start + 6]
        win, lose = one.count("first") + two.count("second"), one.count("second") + two.count("first")
        lead = [np.sign(one.count("first") - one.count("second")), np.sign(two.count("second") - two.count("first"))]
        places = [sum(part.count(place) for part in (one, two)) for place in ("first", "second", "tie")]
        rows.append([win / 6, places[2] / 6, lose / 6, places[0] / 6, places[1] / 6, lead[0] != lead[1]])
    rows = np.array(rows, dtype=float)
    drawn = rows[random.integers(0, 40, (20000, 40))].mean(1)
    for name, mean, ends in zip(MEASURES, rows.mean(0), np.percentile(drawn, (2.5, 97.5), axis=0).T, strict=True):
        assert found[name]["value"] == pytest.approx(mean, abs=1e-4)
        assert [found[name]["low"], found[name]["high"]] == pytest.approx(ends, abs=0.02)


def test_every_id_counts_alike_in_scores():
    situations = dict.fromkeys("ab", Situation((), (), "Hi!", ""))
    questions = scored_questions(situations, dict.fromkeys("ab", "x"), 2)
    one, five = (dict.fromkeys(DIMENSIONS, number) for number in (1, 5))
    found = scored_measures(questions, [one, None, five, five])
    assert found["measures"]["safety"] == {"value": 3, "low": 1, "high": 5}
    assert scored_measures(questions, [one, None, None, None])["measures"]["safety"] is None


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Because.\nVerdict: first", "first"),
        ("It is **better**.\n\n**Verdict: Second**\n", "second"),
        ("两个一样。\nVerdict：tie。", "tie"),
        ("<think>\nVerdict: first\n</think>\nVerdict: second", "second"),
        ("Verdict: tie\nSo it is.\nVerdict: tie", "tie"),
        ("", None),
        ("Verdict: first", None),  # no reasons
        ("<think></think>Verdict: first", None),
        ("---\nVerdict: first", None),
        ("Because.\nVerdict: first or second", None),
        ("Because.\nVerdict: A", None),
        ("Verdict: first\nBecause.", None),
        ("Because.\nVerdict: first\nNo:\nVerdict: second", None),
        ("Because.\nNot the verdict: first", None),
        ("Because.\nVerdict: firſt", None),
        ("<think>\nHm.\nVerdict: fir", None),
    ],
)
def test_verdicts(text, verdict):
    assert parse_verdict(text) == verdict


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (scores(1, 2, 3, 4, 5, 1), (1, 2, 3, 4, 5, 1)),
        (re.sub(r"([\w-]+): (\d)", r"- **\1**: \2/5", scores(1, 2, 3, 4, 5, 1)), (1, 2, 3, 4, 5, 1)),
        (scores(1, 2, 3, 4, 5, 6), None),
        (scores(0, 2, 3, 4, 5, 1), None),
        (scores(1, 2, 3, 4, 5, "4.5"), None),
        (scores(1, 2, 3, 4, 5, "٣"), None),
        (scores(1, 2, 3, 4, 5, 1).removeprefix("Because.\n"), None),
        (scores(1, 2, 3, 4, 5, 1).replace("safety", "quality"), None),
        (scores(1, 2, 3, 4, 5, 1) + "\nThat is all.", None),
        ("quality: 5\n" + scores(1, 2, 3, 4, 5, 1), None),
        (scores(1, 2, 3, 4, 5, 1).rpartition("\n")[0], None),
    ],
)
def test_scores(text, numbers):
    assert parse_scores(text) == (numbers and dict(zip(DIMENSIONS, numbers, strict=True)))


LINES = st.lists(
    st.sampled_from(["Verdict: first", "verdict: SECOND", "Verdict: tie", "Verdict:", "</think>", "Because.", "", "**"])
    | st.builds("{}: {}".format, st.sampled_from([*DIMENSIONS, "verdict"]), st.integers(-1, 7))
    | st.text()
)


@given(st.text() | LINES.map("\n".join))
def test_anything_can_be_read_and_nothing_is_guessed(text):
    verdict, found = parse_verdict(text), parse_scores(text)
    last = text.strip().lower().splitlines()[-1:] or [""]
    if verdict is not None:
        words = {word for word in ("first", "second", "tie") if word in last[0]}
        assert (words, "verdict" in last[0]) == ({verdict}, True)
    if found is not None:
        assert set(found) == set(DIMENSIONS)
        lines = [line for line in text.lower().splitlines() if line.strip()][-6:]
        assert all(any(name in line and str(score) in line for line in lines) for name, score in found.items())
    assert verdict is None or found is None


@given(
    st.text(alphabet=st.characters(exclude_characters=":：", exclude_categories=["Cs"])), st.permutations([*DIMENSIONS])
)
def test_reasons_of_any_kind_do_not_hide_what_is_said(reasons, order):
    expected = {name: 1 + number % 5 for number, name in enumerate(DIMENSIONS)}
    lines = "\n".join(f"{name}: {expected[name]}" for name in order)
    assert parse_verdict(f"Well. {reasons}\nVerdict: tie\n") == "tie"
    assert parse_scores(f"Well. {reasons}\n{lines}") == expected
