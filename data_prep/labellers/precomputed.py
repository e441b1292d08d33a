"""Labels of SPC by the ``encoder`` labeller that ships, so that ``make data`` takes seconds, not half an hour:
``python -m data_prep.labellers.precomputed --spc hub|FOLDER`` writes them anew (part of ``make labeller``).

Kept without SPC's text: each conversation is known by its key, and what is not known is labelled on the spot.
"""

import argparse
import gzip
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.errors import InputError
from data_prep.keys import conversation_key
from data_prep.labellers.base import Labeller, TurnLabels
from data_prep.labels import LABELS
from data_prep.placeholders import fill
from data_prep.provenance import sha256
from data_prep.reader import Conversation, read_chunks
from data_prep.sources import find_files

PRECOMPUTED = LABELS / "encoder_spc.jsonl.gz"
MODEL = Path(__file__).parent / "model"
FILES = ("config.json", "tokenizer.json", "model.safetensors", "labeller.json")


def fingerprint(folder: Path) -> str:
    """What tells one labeller from another: a hash of its files. Raises InputError if one is missing."""
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise InputError(f"{folder} lacks {missing[0]}; `make labeller` writes a whole labeller.")
    return hashlib.sha256("".join(sha256(folder / name) for name in FILES).encode()).hexdigest()


class PrecomputedEncoder(Labeller):
    """The ``encoder`` labeller, asked only about conversations that it has not labelled before."""

    def __init__(self, model: Path = MODEL, known: Path = PRECOMPUTED):
        self.model = model
        self.known = _read(known, fingerprint(model))
        self.encoder: Labeller | None = None

    def label(self, conversations: Sequence[Conversation]) -> list[TurnLabels]:
        """One dictionary per turn."""
        keys = [conversation_key(conversation) for conversation in conversations]
        unknown = [number for number, key in enumerate(keys) if key not in self.known]
        labels = [
            _turns(self.known.get(key, {}), conversation) for key, conversation in zip(keys, conversations, strict=True)
        ]
        if unknown:
            if self.encoder is None:
                from data_prep.labellers.encoder import EncoderLabeller  # PyTorch takes seconds to import

                self.encoder = EncoderLabeller(self.model)
            for number, found in zip(unknown, self.encoder.label([conversations[n] for n in unknown]), strict=True):
                labels[number] = found
        return labels


def _turns(known: dict[str, dict[str, list[int]]], conversation: Conversation) -> TurnLabels:
    return [
        {int(fact): tuple(sentences) for fact, sentences in known.get(str(turn), {}).items()}
        for turn in range(len(conversation.turns))
    ]


def _read(path: Path, model: str) -> dict[str, dict]:
    """Labels by key; none if another model made them."""
    if not path.is_file():
        raise InputError(f"{path} is missing; `make labeller` writes it.")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        if json.loads(next(lines))["model"] != model:
            print(f"{path.name} is by another labeller and not used; every reply is labelled anew.", file=sys.stderr)
            return {}
        return dict(json.loads(line) for line in lines)


def precompute(sources: Sequence[Path], model: Path = MODEL, path: Path = PRECOMPUTED) -> int:
    """Label every conversation of CSV files, write the file, and return how many there are."""
    from data_prep.labellers.encoder import EncoderLabeller

    encoder = EncoderLabeller(model)
    found: dict[str, dict] = {}
    for source in sources:
        for read, _ in read_chunks(source, "any"):
            filled = [fill(conversation) for conversation in read]
            for conversation, labels in zip(filled, encoder.label(filled), strict=True):
                found[conversation_key(conversation)] = {turn: facts for turn, facts in enumerate(labels) if facts}
            print(f"\r{source.name}: {len(found):,} conversations labelled so far", end="", file=sys.stderr, flush=True)
    lines = [{"model": fingerprint(model)}, *found.items()]
    text = "\n".join(json.dumps(line, separators=(",", ":")) for line in lines)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return len(found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data_prep.labellers.precomputed")
    parser.add_argument("--spc", default="hub", help="folder with the SPC CSV files, or `hub` (default: hub)")
    try:
        spc = parser.parse_args().spc
        count = precompute([*find_files("sample").values(), *find_files(spc, new_persona=True).values()])
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(f"\n{count:,} conversations in {PRECOMPUTED.name}")


if __name__ == "__main__":
    main()
