"""``bm25``: Okapi BM25 with Lucene's idf, as bm25s computes it, but with idf and mean length over all training facts.

A fact's score is the sum over the query's words, each as often as it occurs there, of
ln(1 + (n - df + .5) / (df + .5)) * tf / (tf + k1 * (1 - b + b * length / mean length)) (Kamphuis et al. 2020).
bm25s and rank_bm25 fit the idf on the very facts that they score; tests hold this to bm25s on the training facts.
"""

import hashlib

import numpy as np

from retrieval.base import DEFAULTS, RetrievalSettings
from retrieval.lexical import Bags, LexicalRetriever

K1, B = 1.5, 0.75  # the defaults of bm25s


class Bm25Retriever(LexicalRetriever):
    """Scores are 0 (no word in common) or more.

    ``mean_length``: in words, of what is searched; None takes that of the training facts.
    """

    kind = "bm25"

    def __init__(self, model: str, mean_length: float | None = None, settings: RetrievalSettings = DEFAULTS):
        super().__init__(model, settings)
        if mean_length is not None:
            self.mean_length = mean_length
            self.sha256 = hashlib.sha256(f"{self.sha256} {mean_length}".encode()).hexdigest()

    def idf(self, counts: np.ndarray) -> np.ndarray:
        return np.log(1 + (self.documents - counts + 0.5) / (counts + 0.5))

    def query_weights(self, bags: Bags) -> np.ndarray:
        return bags.counts.astype(float)

    def fact_weights(self, bags: Bags) -> np.ndarray:
        lengths = np.bincount(bags.texts, bags.counts, minlength=bags.size)
        saturation = K1 * (1 - B + B * lengths / self.mean_length)
        return self.idf_of(bags.words) * bags.counts / (bags.counts + saturation[bags.texts])
