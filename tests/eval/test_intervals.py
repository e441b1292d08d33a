import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError
from eval.intervals import (
    RESAMPLES,
    SEED,
    Statistic,
    intervals,
    mean,
    paired_difference,
    paired_differences,
    ratio,
    with_interval,
)

DRAWN = np.random.default_rng(0)
PART, WHOLE = DRAWN.integers(0, 5, 40), DRAWN.integers(5, 9, 40)
OTHER = DRAWN.integers(0, 4, 40)


def test_a_difference_is_of_the_same_resamples():
    """Equal to a bootstrap written out, with the same drawn items on both sides."""
    found = paired_difference(ratio, (PART, WHOLE), (OTHER, WHOLE))
    draws = np.random.default_rng(SEED).integers(0, 40, (RESAMPLES, 40))
    differences = PART[draws].sum(1) / WHOLE[draws].sum(1) - OTHER[draws].sum(1) / WHOLE[draws].sum(1)
    low, high = np.percentile(differences, [2.5, 97.5])
    assert found["value"] == pytest.approx((PART.sum() - OTHER.sum()) / WHOLE.sum(), abs=1e-4)
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-4)


def test_a_system_does_not_differ_from_itself_and_a_constant_gain_is_certain():
    assert paired_difference(ratio, (PART, WHOLE), (PART, WHOLE)) == {"value": 0, "low": 0, "high": 0}
    assert paired_difference(mean, (PART + 2,), (PART,)) == {"value": 2, "low": 2, "high": 2}


def test_systems_with_other_items_cannot_be_compared():
    with pytest.raises(ValueError):
        paired_difference(mean, (PART,), (PART[:-1],))
    with pytest.raises(InputError):
        paired_difference(mean, (PART[:1],), (PART[:1],))


def test_by_name():
    ours = {"share": Statistic(ratio, (PART, WHOLE)), "mean": Statistic(mean, (PART,))}
    theirs = {"share": Statistic(ratio, (OTHER, WHOLE)), "mean": Statistic(mean, (OTHER,))}
    assert intervals(ours) == {"share": with_interval(ratio, PART, WHOLE), "mean": with_interval(mean, PART)}
    assert paired_differences(ours, theirs)["mean"] == paired_difference(mean, (PART,), (OTHER,))


def test_a_ratio_of_nothing_is_nothing():
    assert ratio(np.zeros(3), np.zeros(3)) == 0
    assert ratio(np.array([0.5, 0.0, 1.0]), np.array([1, 0, 1])) == 0.75


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_a_mean_lies_in_its_interval(values):
    found = with_interval(mean, np.array(values))
    assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1


def test_a_share_of_nothing_is_left_out():
    nothing = Statistic(ratio, (np.zeros(4), np.zeros(4)))
    some = Statistic(ratio, (np.ones(4), np.ones(4)))
    assert intervals({"precision": nothing}) == {}
    assert paired_differences({"precision": some}, {"precision": nothing}) == {}
    assert paired_differences({"precision": nothing}, {"precision": some}) == {}
    assert paired_differences({"precision": some}, {"precision": some})["precision"]["value"] == 0
