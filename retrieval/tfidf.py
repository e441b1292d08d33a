"""TF-IDF over the facts of a card: cosine of l2-normed vectors, idf fitted once on all training cards."""

from collections.abc import Iterable, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from retrieval.base import Retriever

# Words of two letters or more, and Chinese characters one by one (there are no spaces to split at).
TOKEN_PATTERN = r"(?u)[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]{2,}"
# Pairs scored in one sparse product: bounds memory, changes no result.
BATCH = 50_000


def _vectorizer(vocabulary: dict[str, int] | None = None) -> TfidfVectorizer:
    return TfidfVectorizer(token_pattern=TOKEN_PATTERN, stop_words="english", vocabulary=vocabulary)


class TfidfRetriever(Retriever):
    """scikit-learn's TF-IDF with English stop words taken out; build with ``fit`` or ``load_retriever``."""

    name = "tfidf"

    def __init__(self, vectorizer: TfidfVectorizer, **settings):
        super().__init__(**settings)
        self._vectorizer = vectorizer

    @classmethod
    def fit(cls, cards: Iterable[Sequence[str]], **settings) -> "TfidfRetriever":
        """Fit the idf on the distinct facts of ``cards``, each fact one document; ``settings`` as in ``Retriever``.

        Raises ValueError if no fact holds a single word.
        """
        facts = dict.fromkeys(fact for card in cards for fact in card)
        return cls(_vectorizer().fit(facts), **settings)

    def scores(self, queries: Sequence[str], cards: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Cosine similarity in [0, 1] of each query with each fact of its card."""
        lengths = [len(card) for card in cards]
        pair_query = np.repeat(np.arange(len(queries)), lengths)
        number_of: dict[str, int] = {}
        pair_fact = np.array([number_of.setdefault(f, len(number_of)) for card in cards for f in card], dtype=int)
        flat = np.zeros(len(pair_query))
        if len(flat):
            query_matrix = self._vectorizer.transform(queries)
            fact_matrix = self._vectorizer.transform(number_of)
            for start in range(0, len(flat), BATCH):
                part = slice(start, start + BATCH)
                product = query_matrix[pair_query[part]].multiply(fact_matrix[pair_fact[part]])
                flat[part] = np.asarray(product.sum(axis=1)).ravel()
        return np.split(flat, np.cumsum(lengths)[:-1]) if lengths else []

    def state(self) -> dict:
        words = self._vectorizer.get_feature_names_out().tolist()
        return {"words": words, "idf": self._vectorizer.idf_.tolist()}

    @classmethod
    def from_state(cls, state: dict, **settings) -> "TfidfRetriever":
        vectorizer = _vectorizer({word: i for i, word in enumerate(state["words"])})
        vectorizer.idf_ = np.array(state["idf"])
        return cls(vectorizer, **settings)
