"""``static``: a vector per word piece, summed over a text; no network, so neither PyTorch nor a GPU is needed.

The query is the weighted sum of its turns, the message counting most. ``retrieval.training.small`` learns vectors and
weights of the ``small`` retriever, which ships.
"""

import hashlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load
from scipy.sparse import csr_array
from tokenizers import Tokenizer

from retrieval.base import DEFAULTS, WHOSE, Query, RetrievalSettings
from retrieval.vectors import VectorRetriever

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
PIECES = 128  # of a line; what follows is not seen
KNOWN_LINES = 10_000  # whose pieces are kept
QUERIES = 20_000  # added up at a time: bounds memory, changes no result


class StaticRetriever(VectorRetriever):
    """``model``: a folder with ``tokenizer.json`` and ``model.safetensors``, which holds ``vectors`` (int8, shape
    (pieces, dimensions)), ``scales`` (of each piece) and ``turn_weights`` (of the message, the turn before it, ...).

    Raises ValueError if it cannot be opened, or weighs fewer turns than the query has.
    """

    kind = "static"

    def __init__(self, model: str, settings: RetrievalSettings = DEFAULTS):
        super().__init__(settings)
        try:
            weights, tokenizer = ((Path(model) / name).read_bytes() for name in (WEIGHTS, TOKENIZER))
            tensors = load(weights)
            self._vectors = tensors["vectors"] * tensors["scales"].astype(np.float32)[:, None]
            self._turn_weights = tensors["turn_weights"][:: WHOSE[settings.whose]]
        except (OSError, SafetensorError, KeyError) as error:
            raise ValueError(f"There is no static retriever in {model} ({error}).") from None
        self.sha256 = hashlib.sha256(weights + tokenizer).hexdigest()
        self._tokenizer = Tokenizer.from_buffer(tokenizer)
        self._known: dict[str, list[int]] = {}
        if settings.query_turns > len(self._turn_weights):
            raise ValueError(f"{model} weighs {len(self._turn_weights)} turns at most, not {settings.query_turns}.")

    def query_vectors(self, queries: Sequence[Query]) -> np.ndarray:
        parts = [queries[start : start + QUERIES] for start in range(0, len(queries), QUERIES)]
        return np.concatenate([self._query_vectors(part) for part in parts])

    def _query_vectors(self, queries: Sequence[Query]) -> np.ndarray:
        queries = [query[-len(self._turn_weights) :] for query in queries]
        number_of: dict[str, int] = {}
        line_of = [number_of.setdefault(line, len(number_of)) for query in queries for line in query]
        weights = np.concatenate([self._turn_weights[len(query) - 1 :: -1] for query in queries])
        return _normed(_weighted_sums(weights, line_of, [len(query) for query in queries], self._sums(list(number_of))))

    def fact_vectors(self, facts: Sequence[str]) -> np.ndarray:
        return _normed(self._sums(facts))

    def _sums(self, lines: Sequence[str]) -> np.ndarray:
        """The sum of each line's vectors."""
        pieces = self._pieces(lines)
        flat = np.fromiter(chain.from_iterable(pieces), dtype=np.int32)
        ones = np.ones(len(flat), dtype=np.float32)
        return _weighted_sums(ones, flat, [len(line) for line in pieces], self._vectors)

    def _pieces(self, lines: Sequence[str]) -> list[list[int]]:
        """The word pieces of each line. Those seen lately are kept: a card and its history come back every time."""
        found = {line: self._known.get(line) for line in lines}
        if new := [line for line, pieces in found.items() if pieces is None]:
            encodings = self._tokenizer.encode_batch_fast(new, add_special_tokens=False)
            cut = dict(zip(new, (encoding.ids[:PIECES] for encoding in encodings), strict=True))
            if len(self._known) > KNOWN_LINES:
                self._known = {}
            self._known |= cut
            found |= cut
        return [found[line] for line in lines]


def _weighted_sums(weights: np.ndarray, numbers: Sequence[int], lengths: Sequence[int], rows: np.ndarray) -> np.ndarray:
    """The first ``lengths[0]`` of ``weights[i] * rows[numbers[i]]`` added up, then the next, ...; none give zeros."""
    starts = np.cumsum([0, *lengths])
    return csr_array((weights, numbers, starts), shape=(len(lengths), len(rows))) @ rows


def _normed(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
