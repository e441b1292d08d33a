"""What retrievers with vectors share: the score of query and fact is the cosine of theirs."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from retrieval.base import Index, PairwiseRetriever, Query

PAIRS = 100_000  # multiplied at a time: bounds memory, changes no result


class VectorRetriever(PairwiseRetriever):
    """Scores lie in [-1, 1]."""

    @abstractmethod
    def query_vectors(self, queries: Sequence[Query]) -> np.ndarray:
        """float32, shape (queries, dimensions), each of length 1, or 0 if there is nothing to go by."""

    @abstractmethod
    def fact_vectors(self, facts: Sequence[str]) -> np.ndarray:
        """The same for facts."""

    def index(self, facts: Sequence[str]) -> Index:
        return {"vectors": self.fact_vectors(facts)}

    def search(self, query: Query, index: Index) -> np.ndarray:
        return index["vectors"] @ self.query_vectors([query])[0]

    def pair_scores(self, queries: Sequence[Query], index: Index, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        query_of, fact_of = pairs
        vectors = self.query_vectors(queries)
        parts = [slice(start, start + PAIRS) for start in range(0, len(query_of), PAIRS)]
        found = [np.einsum("pd,pd->p", vectors[query_of[p]], index["vectors"][fact_of[p]]) for p in parts]
        return np.concatenate(found)
