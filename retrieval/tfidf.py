"""``tfidf``: cosine of TF-IDF vectors as scikit-learn defines them, idf = ln((1 + n) / (1 + df)) + 1."""

import numpy as np

from retrieval.lexical import Bags, LexicalRetriever


class TfidfRetriever(LexicalRetriever):
    """Scores lie in [0, 1]; 0: no word in common."""

    kind = "tfidf"

    def idf(self, counts: np.ndarray) -> np.ndarray:
        return np.log((1 + self.documents) / (1 + counts)) + 1

    def query_weights(self, bags: Bags) -> np.ndarray:
        weights = bags.counts * self.idf_of(bags.words)
        norms = np.sqrt(np.bincount(bags.texts, weights**2, minlength=bags.size))
        return weights / norms[bags.texts]

    fact_weights = query_weights
