"""``dense``: sentence embeddings by any sentence-transformers model; the fine-tuned ``encoder`` is one."""

import hashlib
from collections.abc import Sequence

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval.base import DEFAULTS, WHOSE, Query, RetrievalSettings
from retrieval.vectors import VectorRetriever

SPEAKERS = ("you: ", "me: ")  # of the message, the turn before it, and so on in turn


class DenseRetriever(VectorRetriever):
    """Scores are equal up to rounding, whatever else is in the batch. Uses a GPU if there is one.

    ``model``: a local folder or a hub id. ``speakers``: whether each line of the query says who speaks, as ``encoder``
    has learned it. Raises ValueError if the model cannot be opened.
    """

    kind = "dense"
    uses_all_cores = True

    def __init__(self, model: str, speakers: bool = False, settings: RetrievalSettings = DEFAULTS):
        super().__init__(settings)
        self.speakers = speakers
        try:
            self._encoder = SentenceTransformer(model)
        except (OSError, ValueError):
            raise ValueError(
                f"There is no sentence-transformers model at {model}; name a folder or a hub id (HF_ENDPOINT= for a"
                " mirror). `make retriever RETRIEVER=encoder` makes the one of `encoder`."
            ) from None
        self.sha256 = _hash(self._encoder, speakers)

    def query_vectors(self, queries: Sequence[Query]) -> np.ndarray:
        texts = [query_text(query, self.speakers, self.settings.whose) for query in queries]
        number_of = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        return self._encode(list(number_of))[[number_of[text] for text in texts]]

    def fact_vectors(self, facts: Sequence[str]) -> np.ndarray:
        return self._encode(facts)

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        return self._encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=len(texts) > 5000)


def query_text(query: Query, speakers: bool, whose: str = "both") -> str:
    """What is encoded of a query: a line a turn, the message last."""
    if speakers:
        ages = range(len(query) - 1, -1, -1)
        query = tuple(SPEAKERS[age * WHOSE[whose] % 2] + turn for age, turn in zip(ages, query, strict=True))
    return "\n".join(query)


def _hash(encoder: SentenceTransformer, speakers: bool) -> str:
    settings = [getattr(module, "get_config_dict", dict)() for module in encoder]
    tokenizer = encoder.tokenizer.backend_tokenizer.to_str()
    digest = hashlib.sha256(f"{speakers} {encoder.max_seq_length} {settings} {tokenizer}".encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()
