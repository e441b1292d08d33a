"""What the commands that train ``small`` and ``encoder`` share: options, the model to begin from, and the record."""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from sentence_transformers import SentenceTransformer

from retrieval.registry import entry_of

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


def open_encoder(encoder: str, **options) -> SentenceTransformer:
    """The model to begin from. Raises ValueError if there is none."""
    try:
        return SentenceTransformer(encoder, **options)
    except (OSError, ValueError):
        raise ValueError(
            f"There is no encoder at {encoder}; give ENCODER=<its folder or hub id>, or a mirror with HF_ENDPOINT=."
        ) from None


def write_record(out: Path, encoder: str, epochs: float, examples: Path) -> dict:
    """Write what the model in ``out`` was made of to ``training.json``, and return it."""
    record = {
        "encoder": Path(encoder).name if Path(encoder).is_dir() else encoder,
        "epochs": epochs,
        "examples_sha256": hashlib.sha256(examples.read_bytes()).hexdigest(),
    }
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def run(train: Callable[..., dict], name: str, epochs: float) -> None:
    """The command that trains the retriever ``name`` with ``train(examples, encoder, out, epochs)``."""
    default = Path(entry_of(name)["model"])
    parser = argparse.ArgumentParser(prog=f"python -m retrieval.training.{name}")
    add = parser.add_argument
    add("--examples", type=Path, required=True, metavar="FILE", help="what data_prep.retrieval_examples wrote")
    add("--encoder", default=ENCODER, metavar="MODEL", help=f"local folder or hub id (default: {ENCODER})")
    add("--out", type=Path, default=default, help=f"folder to write (default: {default})")
    add("--epochs", type=float, default=epochs, help=f"passes over all examples (default: {epochs})")
    try:
        record = train(**vars(parser.parse_args()))
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(json.dumps(record, indent=2))
