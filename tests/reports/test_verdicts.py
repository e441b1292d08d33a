"""The verdict over two systems, held against the definition that the report gives, point by point."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.load import ReportError
from reports.verdicts import ENDS, VERDICTS, verdict

GRID = range(-3, 4)
INTERVALS = st.tuples(st.sampled_from(GRID), st.sampled_from(GRID), st.sampled_from(GRID)).map(
    lambda ends: dict(zip(("low", "value", "high"), sorted(ends), strict=True))
)


def points(interval):
    """Every half between the ends: enough, since the ends are whole."""
    return {half / 2 for half in range(2 * interval["low"], 2 * interval["high"] + 1)}


def expected(measure, base, difference, better):
    signs = {(point > 0) - (point < 0) for point in points(difference)}
    if 0 in signs:
        return "no_difference"
    good = 1 if better == "higher" else -1
    direction = "better" if signs == {good} else "worse"
    return f"{direction}_overlapping" if points(measure) & points(base) else f"{direction}_apart"


@given(INTERVALS, INTERVALS, INTERVALS, st.sampled_from(("higher", "lower")))
def test_the_verdict_is_what_its_definition_says(measure, base, difference, better):
    found = verdict(measure, base, difference, better)
    assert found == expected(measure, base, difference, better)
    assert found in VERDICTS


@given(INTERVALS, INTERVALS, INTERVALS)
def test_the_other_direction_turns_the_verdict_round(measure, base, difference):
    three = (measure, base, difference)
    turned = {"better": "worse", "worse": "better"}
    direction, *rest = verdict(*three, "higher").split("_", 1)
    assert verdict(*three, "lower") == "_".join([turned.get(direction, direction), *rest])


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("gone", [*ENDS, None])
def test_without_one_of_the_three_nothing_is_said(which, gone):
    three = [{"value": 1.0, "low": 0.5, "high": 2.0} for _ in range(3)]
    if gone:
        del three[which][gone]
    else:
        three[which] = None
    assert verdict(*three, "higher") == "not_measured"


def test_a_direction_that_is_none_is_told():
    with pytest.raises(ReportError, match="'up'"):
        verdict(None, None, None, "up")
