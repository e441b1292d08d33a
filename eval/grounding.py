"""How well labellers find the facts that a reply uses: ``python -m eval.grounding --gold FILE --json OUT``.

Precision, recall and F1 over (reply, fact) pairs, with 95 % intervals from a bootstrap over replies.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.errors import InputError
from data_prep.labellers.registry import LABELLERS
from data_prep.labels import GoldItem, read_gold
from eval.intervals import RESAMPLES, SEED, cell, f1, precision, recall, with_interval
from eval.results import check_writable, write_result


def score(items: Sequence[GoldItem], found: Sequence[set[int]]) -> dict[str, dict[str, float]]:
    """Each measure with the ends of its interval. ``found``: the facts that a labeller gives each reply."""
    tp, fp, fn = np.array(
        [
            (len(facts & item.used), len(facts - item.used), len(item.used - facts))
            for item, facts in zip(items, found, strict=True)
        ]
    ).T
    return {measure.__name__: with_interval(measure, tp, fp, fn) for measure in (precision, recall, f1)}


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
        check_writable(arguments.json)
        scores = evaluate(arguments.gold, arguments.labeller, arguments.json)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(f"{'labeller':10} {'precision':>20} {'recall':>20} {'F1':>20}")
    for name, measures in scores.items():
        print(f"{name:10}", *(f"{cell(measure):>20}" for measure in measures.values()))


if __name__ == "__main__":
    main()
