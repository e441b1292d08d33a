"""What TF-IDF and BM25 share: words, their idf over all training facts, and sums of products of word weights.

The idf is fitted once, on the facts of the training cards, and comes with the project: on a card of five facts nearly
every word occurs once, and its idf would tell nothing.
"""

import hashlib
import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from zlib import crc32

import numpy as np
import Stemmer
from sklearn.feature_extraction.text import CountVectorizer

from retrieval.base import DEFAULTS, Index, PairwiseRetriever, Query, RetrievalSettings

# Words of two letters or more, and Chinese characters one by one (there are no spaces to split at).
TOKEN_PATTERN = r"(?u)[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]{2,}"
_words = CountVectorizer(token_pattern=TOKEN_PATTERN, stop_words="english").build_analyzer()
_stemmer = Stemmer.Stemmer("english")

_IDS = 1 << 33  # more than there are word numbers: text * _IDS + word is one number for both


def analyze(text: str) -> list[str]:
    """The words of a text in lower case, stop words left out, endings cut off: cooking, cooks and cooked are one."""
    return _stemmer.stemWords(_words(text))


def count_words(facts: Iterable[str]) -> dict:
    """What a lexical retriever must know of the training facts, each distinct one a document, as JSON types.

    ``documents``: their number; ``mean_length``: in words; ``counts``: in how many of them each word occurs. Raises
    ValueError if no fact holds a single word.
    """
    documents = [analyze(fact) for fact in dict.fromkeys(facts)]
    if not any(documents):
        raise ValueError("No fact of the cards holds a word.")
    counts = Counter(chain.from_iterable(dict.fromkeys(document) for document in documents))
    mean_length = sum(map(len, documents)) / len(documents)
    return {"documents": len(documents), "mean_length": mean_length, "counts": dict(sorted(counts.items()))}


class Vocabulary(dict):
    """Words of the training facts by number; a word that is not among them has a number past theirs, by its hash."""

    def __missing__(self, word: str) -> int:
        return len(self) + crc32(word.encode())


@dataclass(frozen=True)
class Bags:
    """The distinct words of texts: entry ``i`` is word ``words[i]`` of text ``texts[i]``, ``counts[i]`` times in it.

    Sorted by text, then by word. ``keys``: both as one number. ``size``: number of texts.
    """

    keys: np.ndarray
    counts: np.ndarray
    size: int

    @cached_property
    def texts(self) -> np.ndarray:
        return self.keys // _IDS

    @cached_property
    def words(self) -> np.ndarray:
        return self.keys % _IDS


class LexicalRetriever(PairwiseRetriever):
    """``model``: a JSON file of what ``count_words`` gives. A word that no training fact holds counts as the rarest.

    Raises ValueError if the file cannot be read.
    """

    def __init__(self, model: str, settings: RetrievalSettings = DEFAULTS):
        super().__init__(settings)
        try:
            text = Path(model).read_bytes()
            counted = json.loads(text)
            counts, self.documents = dict(counted["counts"]), counted["documents"]
            self.mean_length = counted["mean_length"]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{model} holds no word counts ({error!r}); `make retriever` writes them.") from None
        self.sha256 = hashlib.sha256(text).hexdigest()
        self._vocabulary = Vocabulary((word, number) for number, word in enumerate(counts))
        self._idf = self.idf(np.array([*counts.values(), 0]))

    @abstractmethod
    def idf(self, counts: np.ndarray) -> np.ndarray:
        """The idf of words that occur in so many of ``documents``."""

    @abstractmethod
    def query_weights(self, bags: Bags) -> np.ndarray:
        """The weight of each entry, texts being queries."""

    @abstractmethod
    def fact_weights(self, bags: Bags) -> np.ndarray:
        """The weight of each entry, texts being facts."""

    def idf_of(self, words: np.ndarray) -> np.ndarray:
        """The idf of words by number."""
        return self._idf[np.minimum(words, len(self._idf) - 1)]

    def index(self, facts: Sequence[str]) -> Index:
        """Entries by fact, those of fact f from ``starts[f]`` on; and by word, those of ``lexicon[w]`` from
        ``word_starts[w]`` on."""
        bags = self._bags([(fact,) for fact in facts])
        weights = self.fact_weights(bags)
        order = np.argsort(bags.words, kind="stable")
        lexicon, word_starts = np.unique(bags.words[order], return_index=True)
        return {
            "starts": np.searchsorted(bags.keys, np.arange(len(facts) + 1) * _IDS),
            "words": bags.words,
            "weights": weights,
            "lexicon": lexicon,
            "word_starts": np.append(word_starts, len(weights)),
            "facts_by_word": bags.texts[order],
            "weights_by_word": weights[order],
        }

    def pair_scores(self, queries: Sequence[Query], index: Index, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        query_of, fact_of = pairs
        bags = self._bags(queries)
        if not len(bags.keys):
            return np.zeros(len(query_of))
        starts = index["starts"][fact_of]
        lengths = index["starts"][fact_of + 1] - starts
        entries = _ranges(starts, lengths)
        pair_of = np.repeat(np.arange(len(query_of)), lengths)
        keys = query_of[pair_of] * _IDS + index["words"][entries]
        places = np.minimum(np.searchsorted(bags.keys, keys), len(bags.keys) - 1)
        shared = bags.keys[places] == keys
        products = self.query_weights(bags)[places[shared]] * index["weights"][entries[shared]]
        return np.bincount(pair_of[shared], products, minlength=len(query_of))

    def search(self, query: Query, index: Index) -> np.ndarray:
        bags = self._bags([query])
        places = np.searchsorted(index["lexicon"], bags.words)
        known = np.append(index["lexicon"], -1)[places] == bags.words
        starts = index["word_starts"][places[known]]
        lengths = index["word_starts"][places[known] + 1] - starts
        entries = _ranges(starts, lengths)
        products = np.repeat(self.query_weights(bags)[known], lengths) * index["weights_by_word"][entries]
        return np.bincount(index["facts_by_word"][entries], products, minlength=len(index["starts"]) - 1)

    def _bags(self, texts: Sequence[Query]) -> Bags:
        """The words of texts, given line by line. Each distinct line is cut into words once: queries share turns."""
        number_of: dict[str, int] = {}
        line_of = np.array([number_of.setdefault(line, len(number_of)) for text in texts for line in text], dtype=int)
        words = [[self._vocabulary[word] for word in analyze(line)] for line in number_of]
        flat = np.fromiter(chain.from_iterable(words), dtype=np.int64)
        lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
        starts = np.cumsum(lengths) - lengths
        text_of_line = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        text_of = np.repeat(text_of_line, lengths[line_of])
        word_of = flat[_ranges(starts[line_of], lengths[line_of])]
        keys, counts = np.unique(text_of * _IDS + word_of, return_counts=True)
        return Bags(keys, counts, len(texts))


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """``starts[0], starts[0] + 1, ...`` (``lengths[0]`` of them), then the same for the next."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)
