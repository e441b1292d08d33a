"""``none``, ``random`` and ``oracle``: what to measure other retrievers against."""

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np

from retrieval.base import DEFAULTS, Query, RetrievalSettings, Retriever


class NoneRetriever(Retriever):
    """Finds nothing."""

    kind = "none"

    def scores(self, queries: Sequence[Query], cards: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [np.full(len(card), -np.inf) for card in cards]


class RandomRetriever(Retriever):
    """Scores in (0, 1] that depend on nothing but a hash of query and fact, and so stay the same."""

    kind = "random"

    def scores(self, queries: Sequence[Query], cards: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [
            np.array([(1 + crc32("\n".join((*query, fact)).encode())) / 2**32 for fact in card])
            for query, card in zip(queries, cards, strict=True)
        ]


class OracleRetriever(Retriever):
    """Knows the answers: ``answers[query, card]`` are fact numbers, best first, which score 1, 1/2, ...; others 0.

    It cannot be had by name, since it needs labels.
    """

    kind = "oracle"

    def __init__(
        self,
        answers: Mapping[tuple[Query, tuple[str, ...]], Sequence[int]],
        settings: RetrievalSettings = DEFAULTS,
    ):
        super().__init__(settings)
        self._answers = answers

    def scores(self, queries: Sequence[Query], cards: Sequence[Sequence[str]]) -> list[np.ndarray]:
        found = [np.zeros(len(card)) for card in cards]
        for query, card, scores in zip(queries, cards, found, strict=True):
            for rank, fact in enumerate(self._answers[query, tuple(card)], start=1):
                scores[fact] = 1 / rank
        return found
