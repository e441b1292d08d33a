"""How well labellers find the facts that a reply uses: ``python -m eval.grounding --gold FILE --json OUT``.

Precision, recall and F1 over (reply, fact) pairs, with 95 % intervals from a bootstrap over replies (percentile
method, Efron and Tibshirani 1993).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from data_prep.errors import InputError
from data_prep.labellers.registry import LABELLERS
from data_prep.labels import GoldItem, read_gold
from eval.results import write_result

RESAMPLES = 2000
SEED = 0


def precision(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int = -1) -> np.ndarray:
    """Share of the pairs found that are right; 0 where nothing is found."""
    return tp.sum(axis) / np.maximum(tp.sum(axis) + fp.sum(axis), 1)


def recall(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int = -1) -> np.ndarray:
    """Share of the labelled pairs that are found; 0 where none is labelled."""
    return tp.sum(axis) / np.maximum(tp.sum(axis) + fn.sum(axis), 1)


def f1(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int = -1) -> np.ndarray:
    """Harmonic mean of precision and recall."""
    return 2 * tp.sum(axis) / np.maximum(2 * tp.sum(axis) + fp.sum(axis) + fn.sum(axis), 1)


def score(items: Sequence[GoldItem], found: Sequence[set[int]]) -> dict[str, dict[str, float]]:
    """Each measure with the ends of its interval. ``found``: the facts that a labeller gives each reply."""
    tp, fp, fn = np.array(
        [
            (len(facts & item.used), len(facts - item.used), len(item.used - facts))
            for item, facts in zip(items, found, strict=True)
        ]
    ).T
    if len(items) < 2:
        raise InputError("A bootstrap needs at least two labelled replies; name a file with more.")
    scores = {}
    for measure in (precision, recall, f1):
        interval = bootstrap(
            (tp, fp, fn), measure, paired=True, vectorized=True, method="percentile", n_resamples=RESAMPLES, rng=SEED
        ).confidence_interval
        values = {"value": measure(tp, fp, fn), "low": interval.low, "high": interval.high}
        scores[measure.__name__] = {name: round(float(value), 4) for name, value in values.items()}
    return scores


def evaluate(gold: Path, names: Sequence[str], out: Path) -> dict[str, dict]:
    """Run the labellers on a file of the gold format, write ``out`` and return the scores by labeller."""
    items = read_gold(gold)
    scores, predictions = {}, {}
    for name in names:
        labels = LABELLERS[name]().label([item.conversation for item in items])
        found = [set(turns[-1]) for turns in labels]
        scores[name] = score(items, found)
        predictions[name] = {
            item.id: sorted(fact + 1 for fact in facts) for item, facts in zip(items, found, strict=True)
        }
    config = {"labellers": list(names), "resamples": RESAMPLES, "seed": SEED}
    counts = {"replies": len(items), "labelled_pairs": sum(len(item.used) for item in items)}
    write_result(out, config, [gold], counts | {"scores": scores, "predictions": predictions})
    return scores


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in LABELLERS]:
        raise argparse.ArgumentTypeError(f"no labeller is called {unknown[0]!r}; choose from {', '.join(LABELLERS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.grounding", description=__doc__.split("\n")[0])
    parser.add_argument("--gold", type=Path, required=True, metavar="FILE", help="labelled replies, JSON Lines")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT", help="where to write the result")
    parser.add_argument("--labeller", type=_names, default=["overlap", "encoder"], metavar="a,b,...",
                        help=f"of {', '.join(LABELLERS)} (default: overlap,encoder)")  # fmt: skip
    arguments = parser.parse_args()
    try:
        scores = evaluate(arguments.gold, arguments.labeller, arguments.json)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(f"{'labeller':10} {'precision':>20} {'recall':>20} {'F1':>20}")
    for name, measures in scores.items():
        cells = (f"{m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]" for m in measures.values())
        print(f"{name:10}", *(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
