"""Choose query and threshold of retrievers on labelled replies:
``python -m eval.retrieval_settings --gold valid.gold.jsonl --retriever tfidf,small --json OUT``.

The query (how many turns, and whose) is the one with the best recall@2, the mean of used and relevant facts; the
threshold, from which on a fact fits, the one with the best F1 of showing a fact at all. Both go into
``retrieval/retrievers.yaml`` by hand; the whole curve is kept as JSON.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import yaml
from sklearn.metrics import precision_recall_curve

from data_prep.errors import InputError
from data_prep.labels import GoldItem, read_gold
from eval.results import check_writable, write_result
from eval.retrieval import LABELS, add_common, asked, entry_for, ranks, recall_at
from retrieval.base import WHOSE
from retrieval.registry import open_entry

SEEN = 5  # turns that the gold format shows, the message included
POINTS = 40  # of the threshold's curve that are kept


def mean_recall(items: Sequence[GoldItem], scores: Sequence[np.ndarray]) -> dict[str, float]:
    """recall@2 of used and of relevant facts."""
    return {
        name: round(float(np.mean([recall_at(2, ranks(s), labelled) for item, s in zip(items, scores, strict=True)
                                   if (labelled := getattr(item, name))])), 4)
        for name in LABELS
    }  # fmt: skip


def choose(name: str, items: Sequence[GoldItem], encoder: str | None) -> dict:
    """The best query and threshold of a retriever, and all that was tried. Raises ValueError if it cannot be opened."""
    tried = []
    for whose, step in WHOSE.items():
        for turns in range(1, 2 + (SEEN - 1) // step):
            retriever = open_entry(entry_for(name, encoder) | {"query_turns": turns, "whose": whose})
            scores = retriever.scores(*asked(retriever, items))
            tried.append({"query_turns": turns, "whose": whose} | mean_recall(items, scores) | {"scores": scores})
    best = max(tried, key=lambda trial: sum(trial[label] for label in LABELS))
    highest = np.array([scores.max() for scores in best["scores"]])
    truth = np.array([bool(item.used | item.relevant) for item in items])
    precision, recall, thresholds = precision_recall_curve(truth, highest)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    # A fact fits above its threshold, not at it: the middle between two scores keeps clear of both.
    below = np.concatenate([[thresholds[0] - 1e-3], thresholds])
    middles = (below[:-1] + below[1:]) / 2
    chosen = int(f1[:-1].argmax())
    kept = np.unique(np.append(np.linspace(0, len(middles) - 1, POINTS).astype(int), chosen))
    return {
        "chosen": {"query_turns": best["query_turns"], "whose": best["whose"],
                   "threshold": round(float(middles[chosen]), 5)},
        "queries": [{key: value for key, value in trial.items() if key != "scores"} for trial in tried],
        "thresholds": [
            {"threshold": round(float(middles[i]), 4), "precision": round(float(precision[i]), 4),
             "recall": round(float(recall[i]), 4), "f1": round(float(f1[i]), 4)}
            for i in kept
        ],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.retrieval_settings", description=__doc__.split("\n")[0])
    add_common(parser)
    arguments = parser.parse_args()
    try:
        check_writable(arguments.json)
        if unfit := {"oracle", "none", "random", "hybrid"}.intersection(arguments.retriever):
            raise ValueError(f"{min(unfit)} has no query or threshold to choose; leave it out.")
        items = read_gold(arguments.gold)
        chosen = {name: choose(name, items, arguments.encoder) for name in arguments.retriever}
    except (InputError, ValueError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    write_result(arguments.json, {"seen_turns": SEEN, "whose": list(WHOSE)}, [arguments.gold], {"retrievers": chosen})
    print(yaml.safe_dump({name: found["chosen"] for name, found in chosen.items()}, sort_keys=False), end="")


if __name__ == "__main__":
    main()
