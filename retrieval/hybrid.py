"""``hybrid``: several retrievers at once, by reciprocal rank fusion (Cormack, Clarke and Büttcher 2009)."""

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from retrieval.base import DEFAULTS, Index, Query, RetrievalSettings, SearchingRetriever

RANK_CONSTANT = 60  # as in the paper
WINDOW = 100  # ranks that count: later ones would add next to nothing


class HybridRetriever(SearchingRetriever):
    """The score of a fact is the sum of 1 / (60 + rank) over the parts, less 1 if no part finds it fitting.

    Each part takes what it sees from the query, and has its own threshold; facts that tie share the better rank, and
    those that a part scores 0 or less have none.
    """

    kind = "hybrid"

    def __init__(self, parts: Sequence[SearchingRetriever], settings: RetrievalSettings = DEFAULTS):
        super().__init__(settings)
        self.parts = list(parts)
        self.sha256 = hashlib.sha256("".join(part.identity for part in self.parts).encode()).hexdigest()
        self.uses_all_cores = any(part.uses_all_cores for part in self.parts)

    def scores(self, queries: Sequence[Query], cards: Sequence[Sequence[str]]) -> list[np.ndarray]:
        by_part = [part.scores([part.query(query) for query in queries], cards) for part in self.parts]
        return [self._fused(found) for found in zip(*by_part, strict=True)]

    def index(self, facts: Sequence[str]) -> Index:
        return {
            f"{number}-{name}": array
            for number, part in enumerate(self.parts)
            for name, array in part.index(facts).items()
        }

    def search(self, query: Query, index: Index) -> np.ndarray:
        found = []
        for number, part in enumerate(self.parts):
            own = {name.partition("-")[2]: array for name, array in index.items() if name.startswith(f"{number}-")}
            found.append(part.search(part.query(query), own))
        return self._fused(found)

    def _fused(self, found: Sequence[np.ndarray]) -> np.ndarray:
        fused, fitting = np.zeros(len(found[0])), np.zeros(len(found[0]), dtype=bool)
        for part, scores in zip(self.parts, found, strict=True):
            fitting |= scores > part.settings.threshold
            least = np.partition(scores, -WINDOW)[-WINDOW] if len(scores) > WINDOW else -np.inf
            ranked = np.flatnonzero((scores > 0) & (scores >= least))
            fused[ranked] += 1 / (RANK_CONSTANT + rankdata(-scores[ranked], method="min"))
        return np.where(fitting, fused, fused - 1)
