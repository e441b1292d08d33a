"""TF-IDF over the facts of a card: cosine of l2-normed vectors, idf fitted once on all training cards."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from retrieval.base import Retriever

# Words of two letters or more, and Chinese characters one by one (there are no spaces to split at).
TOKEN_PATTERN = r"(?u)[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]{2,}"
# Pairs scored in one sparse product: bounds memory, changes no result.
BATCH = 50_000


def _counter(vocabulary: dict[str, int] | None = None) -> CountVectorizer:
    return CountVectorizer(token_pattern=TOKEN_PATTERN, stop_words="english", vocabulary=vocabulary)


class TfidfRetriever(Retriever):
    """scikit-learn's TF-IDF with English stop words taken out; build with ``fit`` or ``load_retriever``."""

    name = "tfidf"

    def __init__(self, counter: CountVectorizer, weights: TfidfTransformer, **settings):
        super().__init__(**settings)
        self._counter = counter
        self._weights = weights

    @classmethod
    def fit(cls, cards: Iterable[Sequence[str]], **settings) -> "TfidfRetriever":
        """Fit the idf on the distinct facts of ``cards``, each fact one document; ``settings`` as in ``Retriever``.

        Raises ValueError if no fact holds a single word.
        """
        facts = dict.fromkeys(fact for card in cards for fact in card)
        counter = _counter()
        return cls(counter, TfidfTransformer().fit(counter.fit_transform(facts)), **settings)

    def scores(self, queries: Sequence[str], cards: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Cosine similarity in [0, 1] of each query with each fact of its card."""
        lengths = np.array([len(card) for card in cards], dtype=int)
        pair_query = np.repeat(np.arange(len(queries)), lengths)
        number_of: dict[str, int] = {}
        pair_fact = np.array([number_of.setdefault(f, len(number_of)) for card in cards for f in card], dtype=int)
        flat = np.zeros(len(pair_query))
        if len(flat):
            query_matrix, fact_matrix = self._vectors(queries), self._vectors(list(number_of))
            for start in range(0, len(flat), BATCH):
                part = slice(start, start + BATCH)
                product = query_matrix[pair_query[part]].multiply(fact_matrix[pair_fact[part]])
                flat[part] = np.asarray(product.sum(axis=1)).ravel()
        return [flat[start:end] for start, end in pairwise([0, *lengths.cumsum().tolist()])]

    def _vectors(self, texts: Sequence[str]) -> csr_array:
        """Rows of length 1, shape (texts, words). Each distinct line is cut into words once: queries share turns."""
        number_of: dict[str, int] = {}
        lines = [[number_of.setdefault(line, len(number_of)) for line in text.split("\n")] for text in texts]
        ends = np.cumsum([0, *map(len, lines)])
        columns = np.concatenate(lines).astype(int)
        texts_by_lines = csr_array((np.ones(len(columns)), columns, ends), shape=(len(texts), len(number_of)))
        counts = csr_array(texts_by_lines @ self._counter.transform(number_of))
        counts.sort_indices()  # the order of a sum must not depend on the company in the batch
        return csr_array(self._weights.transform(counts))

    def state(self) -> dict:
        words = self._counter.get_feature_names_out().tolist()
        return {"words": words, "idf": self._weights.idf_.tolist()}

    @classmethod
    def from_state(cls, state: dict, **settings) -> "TfidfRetriever":
        weights = TfidfTransformer()
        weights.idf_ = np.array(state["idf"])
        return cls(_counter({word: i for i, word in enumerate(state["words"])}), weights, **settings)
