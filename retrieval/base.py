"""What every retriever has in common: scores in batch, the rule for "no fact fits", top-k per user turn.

A query is the turns of a dialogue up to a message: ``(user, assistant, user, ..., message)``, the message last and
marks taken out. Each retriever is told how many of them it sees, and whose.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np

from retrieval.dialogue import Dialogue, Hit
from retrieval.text import strip_marks

Query = tuple[str, ...]
# Arrays that stand for a list of facts; they can be saved with ``numpy.save`` and opened by memory map.
Index = dict[str, np.ndarray]

LARGE = 100  # facts of a card; the best of more are looked for by numpy
WHOSE = {"both": 1, "user": 2}  # whose turns the query takes, and the step from one to the one before


@dataclass(frozen=True)
class RetrievalSettings:
    """What is chosen per retriever, and what serving must do as training did.

    ``query_turns``: how many turns make the query, the message included; ``whose``: ``both`` sides' or the ``user``'s
    alone. ``threshold``: a fact fits if its score is above it. ``k``: how many facts at most a message gets.
    ``language``: of the system line.
    """

    query_turns: int = 3
    whose: str = "both"
    threshold: float = 0.0
    k: int = 2
    language: str = "en"

    def __post_init__(self):
        for name, kind in (("query_turns", int), ("k", int), ("threshold", (int, float))):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} must be a number, such as 2 or 0.05, not {getattr(self, name)!r}.")
        if self.query_turns < 1 or self.k < 0:
            raise ValueError(f"query_turns must be at least 1 and k at least 0, not {self.query_turns} and {self.k}.")
        if self.whose not in WHOSE:
            raise ValueError(f"whose must be one of {', '.join(WHOSE)}, not {self.whose!r}.")


DEFAULTS = RetrievalSettings()


class Retriever(ABC):
    """Scores the facts of cards against queries, many pairs at a time.

    ``kind``: the sort it is of, in ``retrievers.yaml``; ``sha256``: of all that it has learned. ``name`` and ``entry``
    are set by the registry that opens it.
    """

    kind: str
    sha256: str = ""
    name: str
    entry: dict
    uses_all_cores = False  # then several processes of it are no faster than one

    def __init__(self, settings: RetrievalSettings = DEFAULTS):
        self.settings = settings

    @abstractmethod
    def scores(self, queries: Sequence[Query], cards: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """One array per (query, card) pair, shape ``(len(card),)``, higher is better.

        Whatever else is in the batch, a pair gets the same scores.
        """

    @property
    def identity(self) -> str:
        """Kind and eight hex digits: the same for two retrievers that find the same facts and make the same prompt."""
        what = json.dumps([self.kind, self.sha256, asdict(self.settings)])
        return f"{self.kind}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"

    def queries(self, turns: Sequence[str]) -> list[Query]:
        """The query of each user turn of a dialogue."""
        lines = [strip_marks(turn) for turn in turns]
        return [self.query(lines[: end + 1]) for end in range(0, len(lines), 2)]

    def query(self, turns: Sequence[str]) -> Query:
        """What is seen of ``turns``, the message last."""
        step = WHOSE[self.settings.whose]
        return tuple(turns[::-step][: self.settings.query_turns][::-1])

    def retrieve(self, dialogues: Sequence[Dialogue]) -> list[list[list[Hit]]]:
        """For each dialogue, for each of its user turns: at most ``k`` hits, best first, ties in card order."""
        places, queries, cards = [], [], []
        for number, dialogue in enumerate(dialogues):
            asked = self.queries(dialogue.turns)
            queries += asked
            places += [number] * len(asked)
            cards += [dialogue.card] * len(asked)
        found: list[list[list[Hit]]] = [[] for _ in dialogues]
        for number, scores in zip(places, self.scores(queries, cards), strict=True):
            found[number].append(self.best(scores))
        return found

    def best(self, scores: np.ndarray) -> list[Hit]:
        """The facts that fit, ``k`` at most, best first, ties in card order."""
        numbers = range(len(scores))
        if len(scores) > LARGE:  # a loop over thousands takes its time: leave it the best few
            fitting = np.flatnonzero(scores > self.settings.threshold)
            if len(fitting) > self.settings.k > 0:
                least = np.partition(scores[fitting], -self.settings.k)[-self.settings.k]
                fitting = fitting[scores[fitting] >= least]
            numbers, scores = fitting.tolist(), scores[fitting]
        found = zip(numbers, scores.tolist(), strict=True)
        fitting = [Hit(number, score) for number, score in found if score > self.settings.threshold]
        return sorted(fitting, key=lambda hit: -hit.score)[: self.settings.k]


class SearchingRetriever(Retriever):
    """A retriever that can turn many facts into arrays once, and then search them; see ``store``."""

    @abstractmethod
    def index(self, facts: Sequence[str]) -> Index:
        """Arrays that stand for ``facts``."""

    @abstractmethod
    def search(self, query: Query, index: Index) -> np.ndarray:
        """The score of every fact of the index, shape ``(facts,)``: what ``scores`` gives for them as one card."""


class PairwiseRetriever(SearchingRetriever):
    """A retriever for which the score of a fact does not depend on the rest of its card."""

    @abstractmethod
    def pair_scores(self, queries: Sequence[Query], index: Index, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """The score of each pair, shape ``(pairs,)``. ``pairs``: the numbers of their queries, and of their facts."""

    def scores(self, queries: Sequence[Query], cards: Sequence[Sequence[str]]) -> list[np.ndarray]:
        number_of: dict[str, int] = {}
        fact_of = np.array([number_of.setdefault(f, len(number_of)) for card in cards for f in card], dtype=np.int64)
        if not len(fact_of):
            return [np.zeros(0) for _ in cards]
        lengths = [len(card) for card in cards]
        query_of = np.repeat(np.arange(len(queries)), lengths)
        flat = self.pair_scores(queries, self.index(list(number_of)), (query_of, fact_of))
        return [flat[start:end] for start, end in pairwise(np.cumsum([0, *lengths]).tolist())]
