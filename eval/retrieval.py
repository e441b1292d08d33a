"""How well retrievers find the facts that matter:
``python -m eval.retrieval --gold FILE --retriever tfidf,small --json OUT``.

Over replies with a label, for the facts that the reply uses and for those that an ideal reply could rest on
(``relevant``): recall@k is found / min(k, labelled), hit@2 whether any of the two best is labelled, MRR 1 / rank of the
best labelled fact. Over all replies: whether the retriever is right to show any fact at all, the truth being whether
any is labelled. With 95 % intervals from a bootstrap over replies, and the time that one query and a batch take.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.errors import InputError
from data_prep.labels import GoldItem, read_gold
from eval.intervals import RESAMPLES, SEED, cell, f1, mean, precision, recall, with_interval
from eval.results import check_writable, write_result
from retrieval.base import Query, Retriever
from retrieval.controls import OracleRetriever
from retrieval.dialogue import Dialogue
from retrieval.registry import entries, entry_of, open_entry

ORACLE = "oracle"  # not in retrievers.yaml: it needs the labels
LABELS = ("used", "relevant")
WARM_UP = 20  # calls before the clock starts


def dialogue(item: GoldItem) -> Dialogue:
    """The responder's card, and the turns up to the message, the user's first."""
    *turns, reply = item.conversation.turns
    first = 1 if turns[0].side == reply.side else 0
    return Dialogue(item.card, [turn.text for turn in turns[first:]])


def asked(retriever: Retriever, items: Sequence[GoldItem]) -> tuple[list[Query], list[list[str]]]:
    """Query and card of each item."""
    dialogues = [dialogue(item) for item in items]
    return [retriever.queries(d.turns)[-1] for d in dialogues], [d.card for d in dialogues]


def oracle(items: Sequence[GoldItem]) -> OracleRetriever:
    """The retriever that knows the labels: used facts first, then the other relevant ones."""
    retriever = OracleRetriever({})
    queries, cards = asked(retriever, items)
    best_first = ([*sorted(item.used), *sorted(item.relevant - item.used)] for item in items)
    return OracleRetriever(
        {(query, tuple(card)): facts for query, card, facts in zip(queries, cards, best_first, strict=True)}
    )


def ranks(scores: np.ndarray) -> list[int]:
    """Fact numbers, best first, ties in card order; those with a score of -inf are not found at all."""
    return [int(fact) for fact in np.argsort(-scores, kind="stable") if np.isfinite(scores[fact])]


def recall_at(k: int, ranked: Sequence[int], labelled: frozenset[int]) -> float:
    """Of the labelled facts, as many as can be among the ``k`` best, the share that is."""
    return len(labelled.intersection(ranked[:k])) / min(k, len(labelled))


def reciprocal_rank(ranked: Sequence[int], labelled: frozenset[int]) -> float:
    """1 / rank of the best labelled fact; 0 if none is found."""
    return next((1 / rank for rank, fact in enumerate(ranked, start=1) if fact in labelled), 0.0)


MEASURES = {
    "recall@1": lambda ranked, labelled: recall_at(1, ranked, labelled),
    "recall@2": lambda ranked, labelled: recall_at(2, ranked, labelled),
    "hit@2": lambda ranked, labelled: float(bool(labelled.intersection(ranked[:2]))),
    "MRR": reciprocal_rank,
}


def quality(items: Sequence[GoldItem], scores: Sequence[np.ndarray], threshold: float) -> dict:
    """All measures with intervals: ``used`` and ``relevant`` for the order, ``inject`` for the threshold."""
    found: dict[str, dict] = {}
    for name in LABELS:
        pairs = [
            (ranks(s), labelled) for item, s in zip(items, scores, strict=True) if (labelled := getattr(item, name))
        ]
        if not pairs:
            raise InputError(f"No reply of the file has a {name} fact; name a file with some.")
        found[name] = {
            measure: with_interval(mean, np.array([value(*pair) for pair in pairs]))
            for measure, value in MEASURES.items()
        } | {"replies": len(pairs)}
    truth = np.array([bool(item.used | item.relevant) for item in items])
    shown = np.array([bool((s > threshold).any()) for s in scores])
    counts = [(a & b).astype(int) for a, b in ((truth, shown), (~truth, shown), (truth, ~shown))]
    found["inject"] = {measure.__name__: with_interval(measure, *counts) for measure in (precision, recall, f1)}
    return found


def latency(retriever: Retriever, queries: Sequence[Query], cards: Sequence[Sequence[str]]) -> dict[str, float]:
    """``p50_ms``: of a single call with one query and its card; ``batch_ms``: per query, all of them in one call."""
    seconds = []
    for query, card in [*zip(queries[:WARM_UP], cards, strict=False), *zip(queries, cards, strict=True)]:
        start = time.perf_counter()
        retriever.scores([query], [card])
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    retriever.scores(queries, cards)
    batch = time.perf_counter() - start
    p50 = float(np.median(seconds[WARM_UP:]))
    return {"p50_ms": round(1000 * p50, 3), "batch_ms": round(1000 * batch / len(queries), 4)}


def entry_for(name: str, encoder: str | None) -> dict:
    """The entry of ``name``; that of ``dense`` with ``encoder`` as its model, if one is given. Raises ValueError."""
    return entry_of(name, **({"model": encoder} if name == "dense" and encoder else {}))


def evaluate(items: Sequence[GoldItem], names: Sequence[str], encoder: str | None) -> tuple[dict, dict, dict]:
    """What was measured, the facts of each item in the order found, with scores, and the configuration, by retriever.

    Raises ValueError if a retriever cannot be opened.
    """
    results, rankings, configurations = {}, {}, {}
    for name in names:
        entry = {"kind": ORACLE} if name == ORACLE else entry_for(name, encoder)
        retriever = oracle(items) if name == ORACLE else open_entry(entry)
        queries, cards = asked(retriever, items)
        scores = retriever.scores(queries, cards)
        results[name] = quality(items, scores, retriever.settings.threshold)
        results[name]["latency"] = latency(retriever, queries, cards)
        model = {"model": Path(entry["model"]).name} if name == "dense" and encoder else {}  # wherever it lies here
        configurations[name] = entry | model | {"identity": retriever.identity}
        rankings[name] = {
            item.id: [[fact + 1, round(float(s[fact]), 4)] for fact in ranks(s)]
            for item, s in zip(items, scores, strict=True)
        }
    return results, rankings, configurations


def table(results: dict[str, dict]) -> str:
    """The results as text for a terminal."""
    lines = [f"{'retriever':10} {'facts':9}" + "".join(f"{measure:>22}" for measure in MEASURES)]
    for name, found in results.items():
        for labels in LABELS:
            lines.append(
                f"{name:10} {labels:9}" + "".join(f"{cell(found[labels][measure]):>22}" for measure in MEASURES)
            )
    lines += ["", f"{'retriever':10} {'inject?':9}" + "".join(f"{m:>22}" for m in ("precision", "recall", "F1"))
              + f"{'one query':>12} {'in batch':>14}"]  # fmt: skip
    for name, found in results.items():
        cells = "".join(f"{cell(measure):>22}" for measure in found["inject"].values())
        times = f"{found['latency']['p50_ms']:9.3f} ms {found['latency']['batch_ms']:11.4f} ms"
        lines.append(f"{name:10} {'':9}{cells}{times}")
    return "\n".join(lines)


def names(text: str) -> list[str]:
    """``tfidf,small`` as a list, for argparse."""
    known = [*entries(), ORACLE]
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in known]:
        raise argparse.ArgumentTypeError(f"no retriever is called {unknown[0]!r}; choose from {', '.join(known)}")
    return chosen


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options of every measurement of retrievers."""
    add = parser.add_argument
    add("--gold", type=Path, required=True, metavar="FILE", help="labelled replies, JSON Lines")
    add("--retriever", type=names, default=["tfidf", "small"], metavar="a,b,...",
        help="names of retrieval/retrievers.yaml, or oracle (default: tfidf,small)")  # fmt: skip
    add("--encoder", metavar="MODEL", help="folder or hub id of the model of `dense` (default: as in retrievers.yaml)")
    add("--json", type=Path, required=True, metavar="OUT", help="where to write the result")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.retrieval", description=__doc__.split("\n")[0])
    add_common(parser)
    arguments = parser.parse_args()
    try:
        check_writable(arguments.json)
        items = read_gold(arguments.gold)
        results, rankings, configurations = evaluate(items, arguments.retriever, arguments.encoder)
    except (InputError, ValueError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    config = {"retrievers": configurations, "resamples": RESAMPLES, "seed": SEED}
    found = {"replies": len(items), "results": results, "rankings": rankings}
    write_result(arguments.json, config, [arguments.gold], found)
    print(table(results))


if __name__ == "__main__":
    main()
