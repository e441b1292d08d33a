"""Retrievers by name, and the one way to open a saved one."""

import json
from pathlib import Path

from retrieval.base import Retriever
from retrieval.tfidf import TfidfRetriever

RETRIEVERS: dict[str, type[Retriever]] = {TfidfRetriever.name: TfidfRetriever}


def load_retriever(path: Path) -> Retriever:
    """Open what ``Retriever.save`` wrote. Raises OSError, or ValueError if it is not such a file."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return RETRIEVERS[saved["retriever"]].from_state(saved["state"], **saved["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a saved retriever; write a new one with `make data`.") from error
