"""What every retriever has in common: scores in batch, top-k per user turn, saved settings."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrieval.dialogue import Dialogue, Hit
from retrieval.text import strip_marks


class Retriever(ABC):
    """Scores the facts of a card against a query, many pairs at a time.

    ``query_turns``: how many turns make the query, the message itself included. ``k``: how many facts at most a user
    turn gets. ``language``: of the system line. All three travel with the saved retriever, so that serving sends what
    training saw.
    """

    name: str

    def __init__(self, query_turns: int = 3, k: int = 2, language: str = "en"):
        if query_turns < 1 or k < 0:
            raise ValueError(f"query_turns must be at least 1 and k at least 0, not {query_turns} and {k}.")
        self.query_turns = query_turns
        self.k = k
        self.language = language

    @abstractmethod
    def scores(self, queries: Sequence[str], cards: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """One array per (query, card) pair, shape ``(len(card),)``; a score of 0 or less means: does not fit."""

    @abstractmethod
    def state(self) -> dict:
        """What ``save`` writes besides the settings, as JSON types."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: dict, **settings) -> "Retriever":
        """The inverse of ``state``; ``settings`` as in the constructor."""

    def queries(self, turns: Sequence[str]) -> list[str]:
        """The query of each user turn: the last ``query_turns`` turns up to it, a line each, marks taken out."""
        lines = [strip_marks(turn) for turn in turns]
        ends = range(1, len(lines) + 1, 2)
        return ["\n".join(lines[max(0, end - self.query_turns) : end]) for end in ends]

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
            fitting = [Hit(index, score) for index, score in enumerate(scores.tolist()) if score > 0]
            found[number].append(sorted(fitting, key=lambda hit: -hit.score)[: self.k])
        return found

    def save(self, path: Path) -> None:
        """Write name, settings and state as JSON."""
        settings = {"query_turns": self.query_turns, "k": self.k, "language": self.language}
        saved = {"retriever": self.name, "settings": settings, "state": self.state()}
        path.write_text(json.dumps(saved, ensure_ascii=False), encoding="utf-8")
