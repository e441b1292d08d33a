"""Build the datasets: ``python -m data_prep.build --spc hub|sample|FOLDER`` (``make data``).

Reads the SPC files a thousand conversations at a time, labels which facts each reply uses, retrieves the facts of every
turn, marks the replies, and writes ``data/``: the dataset files, ``dataset_info.json``, ``retriever.json``, which says
what serving must retrieve with, ``manifest.json``, ``DATA_CARD.md`` and ``rejects.jsonl``. The folder is replaced in
one step at the end: a run that dies leaves it as it was.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import orjson

from data_prep.chunks import MOST_PROCESSES, SEPARATOR, RowMaker, made_in_order, workers
from data_prep.data_card import data_card
from data_prep.errors import InputError
from data_prep.folder import replaced_folder
from data_prep.formats import FORMATS, dataset_info, dataset_name
from data_prep.labellers.base import Labeller
from data_prep.labellers.registry import LABELLERS
from data_prep.placeholders import fill
from data_prep.provenance import git_hash, sha256
from data_prep.reader import read_chunks
from data_prep.samples import MISSED, SIDES, SampleSettings
from data_prep.sources import FILE_NAMES, HELD_OUT, NEW_PERSONA, find_files
from data_prep.statistics import SplitStatistics
from retrieval.prompt import SYSTEM_PROMPTS
from retrieval.registry import open_retriever, save_retriever


@dataclass(frozen=True)
class Settings:
    """What a build depends on besides its input; goes into the manifest."""

    spc: str
    samples: SampleSettings = field(default_factory=SampleSettings)
    new_persona: bool = False
    retriever: str = "small"
    k: int = 2
    language: str = "en"
    labeller: str = "encoder"
    formats: tuple[str, ...] = tuple(FORMATS)


def build(settings: Settings, out: Path) -> dict:
    """Write the datasets to ``out`` and return the manifest. Raises InputError for a fault of the source."""
    files = find_files(settings.spc, settings.new_persona)
    info = _own_entries_kept(out, dataset_info(settings.formats, list(files)))
    labeller = LABELLERS[settings.labeller]()
    try:
        retriever = open_retriever(settings.retriever, k=settings.k, language=settings.language)
    except ValueError as error:
        raise InputError(str(error)) from None
    processes = 1 if retriever.uses_all_cores else MOST_PROCESSES
    # Inside the folder's context: no process may write there any more when it is replaced.
    with replaced_folder(out, ours=_every_file()) as staging, workers(files.values(), processes) as pool:
        make = RowMaker(retriever, settings.samples, settings.formats, settings.language, staging)
        manifest = {
            "source": settings.spc,
            "input_sha256": {path.name: sha256(path) for path in files.values()},
            "settings": asdict(settings),
            "retriever": {"identity": retriever.identity, "entry": retriever.entry},
            "git": git_hash(),
            "splits": {},
        }
        statistics, rows_out = {}, {}
        with (staging / "rejects.jsonl").open("wb") as rejects:
            for split, path in files.items():
                statistics[split], rows_out[split] = _build_split(split, path, labeller, make, pool, rejects)
        for split, counted in statistics.items():
            manifest["splits"][split] = counted.summary() | {"rows_out": rows_out[split]}
            if split in HELD_OUT:
                manifest["splits"][split]["leaks"] = {
                    other: counted.shared_with(statistics[other]) for other in statistics if other not in HELD_OUT
                }
        save_retriever(staging / "retriever.json", retriever)
        _write_json(staging / "dataset_info.json", info)
        _write_json(staging / "manifest.json", manifest)
        (staging / "DATA_CARD.md").write_text(data_card(manifest), encoding="utf-8")
    return manifest


def _every_file() -> frozenset[str]:
    """The dataset files that any build may write: what this one leaves out must not stay behind from another."""
    return frozenset(f"{name}.json" for name in dataset_info(FORMATS, [*FILE_NAMES, *NEW_PERSONA]))


def _build_split(
    split: str, path: Path, labeller: Labeller, make: RowMaker, pool: Executor, rejects: BinaryIO
) -> tuple[SplitStatistics, dict[str, int]]:
    """Write the dataset files of one split; statistics, and the rows of each file."""
    statistics = SplitStatistics()
    with ExitStack() as stack:
        files = {}
        for form in make.formats:
            files[form] = stack.enter_context(JsonArray(make.folder / f"{dataset_name(form, split)}.json"))
        for chunk in made_in_order(make, _labelled_chunks(split, path, labeller, statistics), pool):
            for form, rows in chunk.files.items():
                files[form].add(*rows)
            rejects.writelines(orjson.dumps(reject) + b"\n" for reject in chunk.rejects)
            statistics.merge(chunk.statistics)
            _say(f"\r{split}: {statistics.counts['samples']:,} samples", end="")
    if not statistics.facts:
        raise InputError(f"{path} holds no fact; its persona columns must list facts.")
    rows_out = {dataset_name(form, split): file.rows for form, file in files.items()}
    _say(f"\r{split}: {statistics.counts['conversations']:,} conversations, {statistics.counts['samples']:,} samples")
    return statistics, rows_out


def _labelled_chunks(split: str, path: Path, labeller: Labeller, statistics: SplitStatistics) -> Iterator[tuple]:
    """Conversations, their labels, and what could not be read; what is read is counted in ``statistics``."""
    for read, unread in read_chunks(path, split):
        filled = [fill(conversation) for conversation in read]
        statistics.add_source(read, filled)
        yield filled, labeller.label(filled), unread


class JsonArray:
    """A file with a JSON array, a row a line, written bit by bit. ``rows``: how many so far."""

    def __init__(self, path: Path):
        self.path, self.rows = path, 0

    def __enter__(self) -> "JsonArray":
        self.file = self.path.open("wb")
        self.file.write(b"[")
        return self

    def add(self, part: Path, rows: int) -> None:
        """Move the rows of a file of ``ChunkRows`` to the end."""
        if rows:
            self.file.write(SEPARATOR if self.rows else b"\n")
            with part.open("rb") as file:
                shutil.copyfileobj(file, self.file, 1 << 20)
            self.rows += rows
        part.unlink()

    def __exit__(self, *exception) -> None:
        self.file.write(b"\n]\n")
        self.file.close()


def _own_entries_kept(out: Path, entries: dict) -> dict:
    """Our entries, and those that a user has added for datasets of their own."""
    present = out / "dataset_info.json"
    if not present.is_file():
        return entries
    try:
        own = json.loads(present.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{present} is not valid JSON ({error}); mend it or move it away.") from None
    ours = {file.removesuffix(".json") for file in _every_file()}
    return entries | {name: entry for name, entry in own.items() if name not in ours}


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _say(text: str, end: str = "\n") -> None:
    print(text, file=sys.stderr, end=end, flush=True)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError
    return share


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.build", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--spc", default="hub", help="folder with the SPC CSV files, `hub` or `sample` (default: hub)")
    add("--new-persona", action="store_true", help="also build SPC's conversations between new cards (11,001 more)")
    add("--out", type=Path, default=Path("data"), help="folder to write (default: data)")
    add("--language", choices=sorted(SYSTEM_PROMPTS), default="en", help="of the system line")
    add("--retriever", default="small", metavar="NAME", help="of retrieval/retrievers.yaml (default: small)")
    add("--k", type=int, choices=range(10), default=2, metavar="N", help="facts a turn gets at most (default: 2)")
    add("--labeller", choices=LABELLERS, default="encoder", help="who says which facts a reply uses (default: encoder)")
    add("--formats", choices=FORMATS, nargs="+", default=list(FORMATS), help="datasets to write (default: all)")
    add("--sides", choices=SIDES, default="both", help="samples a conversation gives (default: both)")
    add("--missed", choices=MISSED, default="show", help="a reply that uses a fact which retrieval missed"
        " (default: show). " + "; ".join(f"{name}: {policy.says}" for name, policy in MISSED.items()))  # fmt: skip
    add("--distractors", type=_share, default=1.0, metavar="SHARE", help="of the replies that use no fact, the share"
        " that keep the facts retrieved for them; the others show none (default: 1)")  # fmt: skip
    add("--only-grounded", action="store_true", help="just the exchanges whose reply uses a fact")
    return parser


def main() -> None:
    given = vars(parser().parse_args())
    out = given.pop("out")
    samples = SampleSettings(**{name: given.pop(name) for name in SampleSettings.__dataclass_fields__})
    try:
        manifest = build(Settings(samples=samples, **given | {"formats": tuple(given["formats"])}), out)
    except InputError as error:
        _say(str(error))
        sys.exit(2)
    except BrokenProcessPool:
        _say("\nA process of the build was ended from outside, probably for want of memory; free some and try again.")
        sys.exit(2)
    except KeyboardInterrupt:
        _say(f"\nStopped; {out}/ is as it was.")
        sys.exit(130)
    for split, counts in manifest["splits"].items():
        print(
            f"{split}: {counts['rows_in']:,} rows in, {counts['samples']:,} samples with {counts['replies']:,} replies"
            f" out, {counts['replies_with_marks']:,} of them with marks, {sum(counts['rejects'].values()):,} rejects"
        )
    print(f"Written to {out}/. What it holds: {out}/DATA_CARD.md; what was left out and why: {out}/rejects.jsonl")


if __name__ == "__main__":
    main()
