"""How fast retrieval is: ``python -m eval.bench_retrieval --spc FOLDER --json OUT`` (``make bench-retrieval``).

All queries of SPC's training split, in one batch and one at a time, against what one would write first: scikit-learn's
``TfidfVectorizer``, rank_bm25 and bm25s, each fitted per card and query, in the same run on the same machine. They are
asked a sample of the queries, one at a time, as they know no other way. And one card of 100,000 facts: how long it
takes to index, to open, and to find two facts.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import bm25s
import numpy as np
from rank_bm25 import BM25Okapi
from sklearn.feature_extraction.text import TfidfVectorizer
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.reader import read_conversations
from data_prep.sources import find_files
from eval.results import check_writable, write_result
from eval.retrieval import names
from retrieval.base import Retriever
from retrieval.dialogue import Dialogue
from retrieval.lexical import analyze
from retrieval.registry import open_retriever
from retrieval.store import FactStore

SAMPLE = 5_000  # queries that each alternative is asked
STORE = 100_000  # facts of the large card
STORE_QUERIES = 200
SEED = 0


def all_dialogues(path: Path) -> list[Dialogue]:
    """Both sides of every conversation; every user turn is a query."""
    found = []
    for conversation in read_conversations(path, "train")[0]:
        for side, card in enumerate(conversation.cards):
            turns = conversation.turns[1 if conversation.turns[0].side == side else 0 :]
            if turns:
                found.append(Dialogue(card, [turn.text for turn in turns]))
    return found


def per_card_tfidf(query: str, card: Sequence[str]) -> np.ndarray:
    """scikit-learn, fitted on the card and the query."""
    try:
        vectors = TfidfVectorizer(stop_words="english").fit_transform([query, *card])
    except ValueError:  # nothing but stop words
        return np.zeros(len(card))
    return (vectors[1:] @ vectors[0].T).toarray().ravel()


def per_card_rank_bm25(query: str, card: Sequence[str]) -> np.ndarray:
    """rank_bm25, fitted on the card; it refuses a card without a word."""
    words = [analyze(fact) for fact in card]
    return BM25Okapi(words).get_scores(analyze(query)) if any(words) else np.zeros(len(card))


def per_card_bm25s(query: str, card: Sequence[str]) -> np.ndarray:
    """bm25s, fitted on the card; it refuses a card, and a query, without a word of the card."""
    words = [analyze(fact) for fact in card]
    if not any(words):
        return np.zeros(len(card))
    index = bm25s.BM25(method="lucene")
    index.index(words, show_progress=False)
    known = [word for word in analyze(query) if word in index.vocab_dict]
    return index.get_scores(known) if known else np.zeros(len(card))


ALTERNATIVES = {"scikit-learn": per_card_tfidf, "rank_bm25": per_card_rank_bm25, "bm25s": per_card_bm25s}


def timed(ask: Callable, pairs: Sequence[tuple], name: str) -> np.ndarray:
    """Seconds of each call ``ask(query, card)``."""
    seconds = np.empty(len(pairs))
    for number, pair in enumerate(tqdm(pairs, desc=f"{name}, one at a time", delay=2, leave=False)):
        start = time.perf_counter()
        ask(*pair)
        seconds[number] = time.perf_counter() - start
    return seconds


def measure_cards(retriever: Retriever, dialogues: Sequence[Dialogue]) -> dict[str, float]:
    """Every query in one batch, and one at a time, in milliseconds per query."""
    queries = [query for dialogue in dialogues for query in retriever.queries(dialogue.turns)]
    cards = [dialogue.card for dialogue in dialogues for _ in dialogue.turns[::2]]
    start = time.perf_counter()
    retriever.scores(queries, cards)
    batch = time.perf_counter() - start
    seconds = timed(lambda query, card: retriever.scores([query], [card]), [*zip(queries, cards, strict=True)],
                    retriever.name)  # fmt: skip
    return {"queries": len(queries), "batch_ms": round(1000 * batch / len(queries), 4), **quantiles(seconds)}


def quantiles(seconds: np.ndarray) -> dict[str, float]:
    """Median, 95th percentile and mean in milliseconds."""
    values = {"p50_ms": np.median(seconds), "p95_ms": np.quantile(seconds, 0.95), "mean_ms": seconds.mean()}
    return {name: round(1000 * float(value), 4) for name, value in values.items()}


def large_card(facts: Sequence[str]) -> list[str]:
    """``STORE`` facts: the given ones, and others drawn from their words."""
    random = Random(SEED)
    words = [word for fact in facts for word in fact.split()]
    return [*facts, *(" ".join(random.choices(words, k=random.randint(4, 14))) for _ in range(STORE - len(facts)))]


def measure_store(retriever: Retriever, facts: Sequence[str], dialogues: Sequence[Dialogue]) -> dict[str, float]:
    """Seconds to index and to open, and milliseconds to find the best two."""
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        FactStore.build(retriever, facts).save(Path(folder) / "store")
        built = time.perf_counter()
        store = FactStore.open(Path(folder) / "store")
        opened = time.perf_counter()
        chosen = Random(SEED).sample(dialogues, min(len(dialogues), STORE_QUERIES))
        seconds = timed(lambda turns: store.retrieve(turns), [(d.turns[:5],) for d in chosen], retriever.name)
        return {"facts": len(facts), "build_s": round(built - start, 1), "open_s": round(opened - built, 3),
                **quantiles(seconds)}  # fmt: skip


def measure(dialogues: Sequence[Dialogue], chosen: Sequence[str]) -> dict:
    """All measurements."""
    pairs = [
        ("\n".join(dialogue.turns[max(0, end - 4) : end + 1]), dialogue.card)
        for dialogue in dialogues
        for end in range(0, len(dialogue.turns), 2)
    ]
    sample = Random(SEED).sample(pairs, min(len(pairs), SAMPLE))
    alternatives = {name: {"queries": len(sample), **quantiles(timed(ask, sample, name))}
                    for name, ask in ALTERNATIVES.items()}  # fmt: skip
    facts = large_card(list(dict.fromkeys(fact for dialogue in dialogues for fact in dialogue.card))[:STORE])
    ours, stores = {}, {}
    for name in chosen:
        retriever = open_retriever(name)
        ours[name] = measure_cards(retriever, dialogues)
        ours[name]["times_faster"] = {
            other: {"one at a time": round(found["mean_ms"] / ours[name]["mean_ms"], 1),
                    "in batch": round(found["mean_ms"] / ours[name]["batch_ms"], 1)}
            for other, found in alternatives.items()
        }  # fmt: skip
        stores[name] = measure_store(retriever, facts, dialogues)
    return {"alternatives": alternatives, "retrievers": ours, "store": stores, "cores": os.cpu_count()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.bench_retrieval", description=__doc__.split("\n")[0])
    parser.add_argument("--spc", default="hub", help="folder with the SPC CSV files, or `hub` (default: hub)")
    parser.add_argument("--retriever", type=names, default=["tfidf", "bm25", "small"], metavar="a,b,...",
                        help="names of retrieval/retrievers.yaml (default: tfidf,bm25,small)")  # fmt: skip
    parser.add_argument("--json", type=Path, required=True, metavar="OUT", help="where to write the result")
    arguments = parser.parse_args()
    try:
        check_writable(arguments.json)
        if unfit := {"oracle", "none", "random"}.intersection(arguments.retriever):
            raise ValueError(f"{min(unfit)} cannot search a store; leave it out.")
        path = find_files(arguments.spc)["train"]
        result = measure(all_dialogues(path), arguments.retriever)
    except (InputError, ValueError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    write_result(arguments.json, {"retrievers": arguments.retriever, "sample": SAMPLE}, [path], result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
