"""Measures with the ends of their 95 % interval: percentile bootstrap over items (Efron and Tibshirani 1993)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

from data_prep.errors import InputError

RESAMPLES = 2000
SEED = 0
BATCH = 100  # resamples at a time: it changes no number, and all at once fill the memory where items are many

Measure = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Statistic:
    """``measure(*values, axis=...)`` of n items; each of ``values``, (n,), holds what it needs to know of every item.

    The items can be drawn anew, so that there is an interval, and for two systems on the same items one of their
    difference.
    """

    measure: Measure
    values: tuple[np.ndarray, ...]

    @property
    def is_defined(self) -> bool:
        """Whether there is anything to take a share of: without a single mark no share of the marks is right."""
        return self.measure is not ratio or bool(self.values[1].any())


def with_interval(measure: Measure, *values: np.ndarray) -> dict[str, float]:
    """``value``, ``low`` and ``high`` of ``measure(*values, axis=...)``; item ``i`` has ``values[0][i]``, ....

    Raises InputError if there are fewer than two items.
    """
    if len(values[0]) < 2:
        raise InputError("A bootstrap needs at least two labelled replies; name a file with more.")
    interval = bootstrap(
        values, measure, paired=True, vectorized=True, method="percentile", n_resamples=RESAMPLES, rng=SEED, batch=BATCH
    ).confidence_interval
    numbers = {"value": measure(*values, axis=-1), "low": interval.low, "high": interval.high}
    return {name: round(float(number), 4) for name, number in numbers.items()}


def paired_difference(measure: Measure, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> dict[str, float]:
    """``value``, ``low`` and ``high`` of ``measure(*a) - measure(*b)``, both taken of the same items in every resample.

    Raises InputError if there are fewer than two items, ValueError if ``a`` and ``b`` do not have the same items.
    """

    def difference(*values: np.ndarray, axis: int) -> np.ndarray:
        return measure(*values[: len(a)], axis=axis) - measure(*values[len(a) :], axis=axis)

    return with_interval(difference, *a, *b)


def intervals(statistics: Mapping[str, Statistic]) -> dict[str, dict[str, float]]:
    """``with_interval`` of each, by name; a share of nothing is left out."""
    return {name: with_interval(found.measure, *found.values) for name, found in statistics.items() if found.is_defined}


def paired_differences(a: Mapping[str, Statistic], b: Mapping[str, Statistic]) -> dict[str, dict[str, float]]:
    """``paired_difference`` of each, by name; of a share of nothing there is none. Raises KeyError if one of ``a`` is
    not in ``b``."""
    return {
        name: paired_difference(found.measure, found.values, b[name].values)
        for name, found in a.items()
        if found.is_defined and b[name].is_defined
    }


def mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Of all items."""
    return values.mean(axis)


def ratio(part: np.ndarray, whole: np.ndarray, axis: int = -1) -> np.ndarray:
    """Sum over sum; 0 where the whole is nothing. With a whole of 0 or 1 a mean over the items that count."""
    return part.sum(axis) / np.maximum(whole.sum(axis), 1)


def precision(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int = -1) -> np.ndarray:
    """Share of what is found that is right; 0 where nothing is found."""
    return tp.sum(axis) / np.maximum(tp.sum(axis) + fp.sum(axis), 1)


def recall(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int = -1) -> np.ndarray:
    """Share of what is labelled that is found; 0 where nothing is labelled."""
    return tp.sum(axis) / np.maximum(tp.sum(axis) + fn.sum(axis), 1)


def f1(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int = -1) -> np.ndarray:
    """Harmonic mean of precision and recall."""
    return 2 * tp.sum(axis) / np.maximum(2 * tp.sum(axis) + fp.sum(axis) + fn.sum(axis), 1)


def cell(measure: dict[str, float]) -> str:
    """``0.807 [0.748, 0.856]``"""
    return f"{measure['value']:.3f} [{measure['low']:.3f}, {measure['high']:.3f}]"
