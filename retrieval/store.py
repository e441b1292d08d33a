"""One large card, facts or document chunks by the hundred thousand: made into an index once, opened by memory map.

A store is a folder: ``retriever.json``, the text (``text.npy``: all facts as UTF-8, ``ends.npy``: where each ends),
the retriever's index as ``index/*.npy``, and ``sources.json``, where each fact is from. Nothing in it is a pickle.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from retrieval.base import Index, Retriever, SearchingRetriever
from retrieval.dialogue import Hit
from retrieval.registry import load_retriever, save_retriever
from retrieval.text import neutralise

RETRIEVER = "retriever.json"


class FactStore:
    """Many facts and the index that ``retriever`` made of them; ``build`` one, or ``open`` one that was saved.

    ``sources``: where each fact is from, such as a file name; empty if that was not said.
    """

    def __init__(
        self, retriever: SearchingRetriever, index: Index, text: np.ndarray, ends: np.ndarray, sources: Sequence[str]
    ):
        self.retriever, self.sources = retriever, sources
        self._index, self._text, self._ends = index, text, ends

    @classmethod
    def build(cls, retriever: Retriever, facts: Sequence[str], sources: Sequence[str] = ()) -> Self:
        """Index ``facts``, each made harmless and one line, as those of a card are.

        Raises ValueError if there is none, or if the retriever cannot search a store.
        """
        if not isinstance(retriever, SearchingRetriever):
            raise ValueError(f"The retriever {retriever.name or retriever.kind} cannot search a store; take another.")
        if not facts:
            raise ValueError("There is nothing to index; give at least one fact.")
        facts = [neutralise(" ".join(fact.split())) for fact in facts]
        encoded = [fact.encode() for fact in facts]
        text = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return cls(retriever, retriever.index(facts), text, np.cumsum([len(fact) for fact in encoded]), sources)

    def save(self, folder: Path) -> None:
        """Write the folder, whole or not at all; a store that is there already is replaced.

        Raises ValueError if ``folder`` holds something else.
        """
        if folder.exists() and not (folder / "ends.npy").is_file() and (folder.is_file() or any(folder.iterdir())):
            raise ValueError(f"{folder} is something else than a store; name another folder.")
        staging = folder.with_name(f".{folder.name}.staging")
        shutil.rmtree(staging, ignore_errors=True)
        (staging / "index").mkdir(parents=True)
        np.save(staging / "text.npy", self._text)
        np.save(staging / "ends.npy", self._ends)
        for name, array in self._index.items():
            np.save(staging / "index" / f"{name}.npy", array)
        (staging / "sources.json").write_text(json.dumps(self.sources, ensure_ascii=False), encoding="utf-8")
        save_retriever(staging / RETRIEVER, self.retriever)
        if folder.exists():
            shutil.rmtree(folder)
        staging.rename(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open what ``save`` wrote; arrays are read as they are needed.

        Raises ValueError if there is no store, or if what its retriever has learned is not the same any more.
        """
        try:
            retriever = load_retriever(folder / RETRIEVER)
            arrays = {path.stem: np.load(path, mmap_mode="r") for path in (folder / "index").glob("*.npy")}
            text, ends = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("text", "ends"))
            sources = json.loads((folder / "sources.json").read_text(encoding="utf-8"))
        except (OSError, EOFError) as error:
            raise ValueError(f"{folder} holds no whole store ({error}).") from None
        return cls(retriever, arrays, text, ends, sources)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> str:
        """The fact of that number, counted from 0."""
        start = self._ends[number - 1] if number else 0
        return self._text[start : self._ends[number]].tobytes().decode()

    def retrieve(self, turns: Sequence[str]) -> list[Hit]:
        """The facts that fit the last of ``turns``, which go user, assistant, ..., user: ``k`` at most, best first."""
        [*_, query] = self.retriever.queries(turns)
        return self.retriever.best(self.retriever.search(query, self._index))
