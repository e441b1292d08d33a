"""Measures with the ends of their 95 % interval: percentile bootstrap over items (Efron and Tibshirani 1993)."""

from collections.abc import Callable

import numpy as np
from scipy.stats import bootstrap

from data_prep.errors import InputError

RESAMPLES = 2000
SEED = 0


def with_interval(measure: Callable[..., np.ndarray], *values: np.ndarray) -> dict[str, float]:
    """``value``, ``low`` and ``high`` of ``measure(*values, axis=...)``; item ``i`` has ``values[0][i]``, ....

    Raises InputError if there are fewer than two items.
    """
    if len(values[0]) < 2:
        raise InputError("A bootstrap needs at least two labelled replies; name a file with more.")
    interval = bootstrap(
        values, measure, paired=True, vectorized=True, method="percentile", n_resamples=RESAMPLES, rng=SEED
    ).confidence_interval
    numbers = {"value": measure(*values, axis=-1), "low": interval.low, "high": interval.high}
    return {name: round(float(number), 4) for name, number in numbers.items()}


def mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Every item counts alike."""
    return values.mean(axis)


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
