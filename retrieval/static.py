"""``static``: a vector per word piece, summed over a text; no network, so neither PyTorch nor a GPU is needed.

The query is the weighted sum of its turns, the message counting most. ``retrieval.training.small`` learns vectors and
weights of the ``small`` retriever, which ships.
"""

import hashlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from safetensors.numpy import load
from tokenizers import Tokenizer

from retrieval.base import DEFAULTS, WHOSE, Query, RetrievalSettings
from retrieval.vectors import VectorRetriever

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
PIECES = 128  # of a line; what follows is not seen
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
        except OSError as error:
            raise ValueError(f"There is no static retriever in {model} ({error}).") from None
        self.sha256 = hashlib.sha256(weights + tokenizer).hexdigest()
        tensors = load(weights)
        self._tokenizer = Tokenizer.from_buffer(tokenizer)
        self._vectors = tensors["vectors"] * tensors["scales"].astype(np.float32)[:, None]
        self._turn_weights = tensors["turn_weights"][:: WHOSE[settings.whose]]
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
        weighted = self._sums(list(number_of))[line_of] * weights[:, None]
        return _normed(_added(weighted, [len(query) for query in queries]))

    def fact_vectors(self, facts: Sequence[str]) -> np.ndarray:
        return _normed(self._sums(facts))

    def _sums(self, lines: Sequence[str]) -> np.ndarray:
        """The sum of each line's vectors."""
        pieces = [e.ids[:PIECES] for e in self._tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)]
        flat = np.fromiter(chain.from_iterable(pieces), dtype=np.int64)
        return _added(self._vectors[flat], [len(line) for line in pieces])


def _added(rows: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """Sums of the first ``lengths[0]`` rows, of the ``lengths[1]`` after them, ...; none give zeros."""
    counts = np.array(lengths)
    sums = np.zeros((len(counts), rows.shape[1]), dtype=np.float32)
    some = counts > 0
    if some.any():
        sums[some] = np.add.reduceat(rows, (np.cumsum(counts) - counts)[some])
    return sums


def _normed(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
