"""Retrievers by name, as ``retrievers.yaml`` lists them, and the one way to save and open one."""

import json
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import yaml

from retrieval.base import RetrievalSettings, Retriever

NAMES = Path(__file__).with_name("retrievers.yaml")
# Where each kind is; imported when asked for, since PyTorch takes seconds.
KINDS = {
    "tfidf": "retrieval.tfidf:TfidfRetriever",
    "bm25": "retrieval.bm25:Bm25Retriever",
    "static": "retrieval.static:StaticRetriever",
    "dense": "retrieval.dense:DenseRetriever",
    "hybrid": "retrieval.hybrid:HybridRetriever",
    "none": "retrieval.controls:NoneRetriever",
    "random": "retrieval.controls:RandomRetriever",
}
_SETTINGS = {field.name for field in fields(RetrievalSettings)}


def entries() -> dict[str, dict]:
    """What can be chosen: name to kind, settings and options. Raises ValueError if the file cannot be read."""
    try:
        named = yaml.safe_load(NAMES.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{NAMES} cannot be read ({' '.join(str(error).split())}).") from None
    if not isinstance(named, dict) or not all(isinstance(entry, dict) for entry in named.values()):
        raise ValueError(f"{NAMES} must hold a name and its options for each retriever.")
    return named


def entry_of(name: str, **changes) -> dict:
    """The entry of ``name``, with parts spelled out and ``changes`` made. Raises ValueError if there is none."""
    named = entries()
    if name not in named:
        raise ValueError(f"There is no retriever {name!r}; choose {', '.join(named)}, or add it to {NAMES.name}.")
    entry = named[name] | changes
    if "parts" in entry:
        if name in entry["parts"]:
            raise ValueError(f"{name} cannot be a part of itself; mend {NAMES.name}.")
        entry["parts"] = [entry_of(part) for part in entry["parts"]]
    return entry


def open_entry(entry: dict, name: str = "") -> Retriever:
    """The retriever of an entry. Raises ValueError for a fault in the entry, or if its model is not there."""
    settings = {key: value for key, value in entry.items() if key in _SETTINGS}
    options = {key: value for key, value in entry.items() if key not in _SETTINGS | {"kind"}}
    if entry.get("kind") not in KINDS:
        raise ValueError(f"There is no kind of retriever {entry.get('kind')!r}; choose {', '.join(KINDS)}.")
    if "parts" in options:
        options["parts"] = [open_entry(part) for part in options["parts"]]
    module, class_name = KINDS[entry["kind"]].split(":")
    try:
        retriever = getattr(import_module(module), class_name)(**options, settings=RetrievalSettings(**settings))
    except TypeError as error:  # an option that the kind lacks, or a value of the wrong type
        raise ValueError(f"The retriever {entry} does not work ({error}); mend it in {NAMES.name}.") from None
    retriever.name, retriever.entry = name, entry
    return retriever


def open_retriever(name: str, **changes) -> Retriever:
    """The retriever called ``name`` in ``retrievers.yaml``, with ``changes`` to its entry. Raises ValueError."""
    return open_entry(entry_of(name, **changes), name)


def save_retriever(path: Path, retriever: Retriever) -> None:
    """Write what ``load_retriever`` opens: which retriever it is, not what it has learned."""
    saved = {"retriever": retriever.name, "identity": retriever.identity, "entry": retriever.entry}
    path.write_text(json.dumps(saved, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def load_retriever(path: Path) -> Retriever:
    """Open what ``save_retriever`` wrote.

    Raises OSError, or ValueError if it is no such file, or if what the retriever has learned is not the same any more.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        name, identity, entry = saved["retriever"], saved["identity"], dict(saved["entry"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a saved retriever; write a new one with `make data`.") from error
    retriever = open_entry(entry, name)
    if retriever.identity != identity:
        raise ValueError(
            f"{path} was saved with {identity}, but {name} is {retriever.identity} now: its model has changed."
            " Bring the old one back, or build the data and train anew."
        )
    return retriever
