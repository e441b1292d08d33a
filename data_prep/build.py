"""Build the datasets: ``python -m data_prep.build --spc hub|sample|FOLDER`` (``make data``).

Reads the SPC files, retrieves the facts of every turn, marks the replies, and writes ``data/``: ShareGPT and Alpaca
files, ``dataset_info.json``, the fitted ``retriever.json`` that serving opens again, ``manifest.json`` and
``rejects.jsonl``. The folder is replaced in one step at the end: a run that dies leaves it as it was.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from data_prep.errors import InputError
from data_prep.folder import replaced_folder
from data_prep.formats import FORMATS, dataset_info, dataset_name
from data_prep.reader import Conversation, Reject, read_conversations
from data_prep.samples import MISSED, SIDES, Sample, make_samples
from data_prep.sources import find_files
from retrieval.base import Retriever
from retrieval.prompt import SYSTEM_PROMPTS
from retrieval.text import marked_indices
from retrieval.tfidf import TfidfRetriever


@dataclass(frozen=True)
class Settings:
    """What a build depends on besides its input; goes into the manifest."""

    spc: str
    language: str
    query_turns: int = 3
    k: int = 2
    sides: str = "both"
    missed: str = "keep"
    only_grounded: bool = False


def build(settings: Settings, out: Path) -> dict:
    """Write the datasets to ``out`` and return the manifest. Raises InputError for a fault of the source."""
    files = find_files(settings.spc)
    info = _own_entries_kept(out, dataset_info(list(files)))
    read = {}
    for split, path in files.items():
        read[split] = read_conversations(path, split)
        _say(f"{split}: {len(read[split][0]):,} conversations read from {path.name}")
    retriever = _fit(read["train"][0], settings, files["train"])

    manifest = {
        "source": settings.spc,
        "input_sha256": {path.name: _sha256(path) for path in files.values()},
        "settings": asdict(settings) | {"retriever": retriever.name},
        "git": _git_hash(),
        "splits": {},
    }
    with replaced_folder(out) as staging:
        with (staging / "rejects.jsonl").open("w", encoding="utf-8") as rejects_file:
            for split, (conversations, unread) in read.items():
                _say(f"{split}: retrieving and marking")
                samples, unused = make_samples(
                    conversations,
                    retriever,
                    sides=settings.sides,
                    missed=settings.missed,
                    only_grounded=settings.only_grounded,
                )
                rejects = unread + unused
                for reject in rejects:
                    rejects_file.write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")
                rows_out = {form: _write_rows(staging, form, split, samples, settings) for form in FORMATS}
                manifest["splits"][split] = _counts(conversations, samples, rejects) | {"rows_out": rows_out}
        retriever.save(staging / "retriever.json")
        _write_json(staging / "dataset_info.json", info)
        _write_json(staging / "manifest.json", manifest)
    return manifest


def _fit(conversations: list[Conversation], settings: Settings, path: Path) -> Retriever:
    cards = [card for conversation in conversations for card in conversation.cards]
    try:
        return TfidfRetriever.fit(cards, query_turns=settings.query_turns, k=settings.k, language=settings.language)
    except ValueError:
        raise InputError(f"{path} holds no fact with a word in it; its persona columns must list facts.") from None


def _write_rows(folder: Path, form: str, split: str, samples: Iterable[Sample], settings: Settings) -> int:
    """Write one dataset file, a JSON array with a row a line, and return how many rows it has."""
    name = dataset_name(form, split)
    count = 0
    with (folder / f"{name}.json").open("w", encoding="utf-8") as file:
        file.write("[")
        for sample in samples:
            for row in FORMATS[form](sample, settings.language):
                file.write((",\n" if count else "\n") + json.dumps(row, ensure_ascii=False))
                count += 1
        file.write("\n]\n")
    _say(f"{split}: {count:,} rows in {name}.json")
    return count


def _counts(conversations: list[Conversation], samples: list[Sample], rejects: list[Reject]) -> dict:
    """Counts of one split that add up: rows, sides and replies in, out, and rejected by reason."""
    reasons = Counter(reject.reason for reject in rejects)
    replies = [reply for sample in samples for reply in sample.dialogue.turns[1::2]]
    return {
        "rows_in": len(conversations) + reasons["conversation without a turn"],
        "conversations": len(conversations),
        "samples": len(samples),
        "replies": len(replies),
        "replies_shown_facts": sum(bool(hits) for sample in samples for hits in sample.hits),
        "replies_with_marks": sum(bool(marked_indices(reply)) for reply in replies),
        "rejects": dict(sorted(reasons.items())),
    }


def _own_entries_kept(out: Path, entries: dict) -> dict:
    """Our entries, and those that a user has added for datasets of their own."""
    present = out / "dataset_info.json"
    if not present.is_file():
        return entries
    try:
        own = json.loads(present.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{present} is not valid JSON ({error}); mend it or move it away.") from None
    return entries | {name: entry for name, entry in own.items() if name not in entries}


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_hash() -> str | None:
    """The commit of this checkout, ``-dirty`` if it has changes; None outside of a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data_prep.build", description=__doc__.split("\n")[0])
    parser.add_argument("--spc", default="hub", help="folder with the SPC CSV files, `hub` or `sample` (default: hub)")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder to write (default: data)")
    parser.add_argument("--language", choices=sorted(SYSTEM_PROMPTS), default="en", help="of the system line")
    parser.add_argument("--query-turns", type=int, choices=range(1, 10), default=3, metavar="N",
                        help="turns in the query, the message included (default: 3)")  # fmt: skip
    parser.add_argument("--k", type=int, choices=range(10), default=2, metavar="N",
                        help="facts a turn gets at most (default: 2)")  # fmt: skip
    parser.add_argument("--sides", choices=SIDES, default="both", help="samples a conversation gives (default: both)")
    parser.add_argument("--missed", choices=MISSED, default="keep", help="a used fact that retrieval missed: keep what"
                        " was retrieved, or show the used one in place of the weakest (default: keep)")  # fmt: skip
    parser.add_argument("--only-grounded", action="store_true", help="just the exchanges whose reply uses a fact")
    arguments = parser.parse_args()
    given = vars(arguments)
    out = given.pop("out")
    try:
        manifest = build(Settings(**given), out)
    except InputError as error:
        sys.exit(_fail(str(error)))
    for split, counts in manifest["splits"].items():
        print(
            f"{split}: {counts['rows_in']:,} rows in, {counts['samples']:,} samples with {counts['replies']:,} replies"
            f" out, {counts['replies_with_marks']:,} of them with marks, {sum(counts['rejects'].values()):,} rejects"
        )
    print(f"Written to {out}/; what was left out and why: {out}/rejects.jsonl")


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
