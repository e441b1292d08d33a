"""Check the datasets before a training run: ``python -m data_prep.check --config YAML`` (``make check``).

Every row's form, facts and marks; token lengths against the configuration's ``cutoff_len``, with its own tokenizer and
template; what the splits share; and one row as the trainer sees it, with the tokens that carry loss.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import ValidationError

from data_prep.errors import InputError
from data_prep.formats import dataset_info, dataset_name
from data_prep.rows import ROWS, Inverse, Row, breaches, facts_of
from data_prep.sources import HELD_OUT
from data_prep.trainer_view import TrainerView

SHOWN = 10  # breaches that are printed unless all are asked for


@dataclass
class Contents:
    """What the rows of one file hold. ``first``: the first sound one; ``texts``: hashes of those that show facts."""

    rows: int = 0
    first: Row | None = None
    longest: int = 0
    tokens: int = 0
    breaches: list[str] = field(default_factory=list)
    facts: set[str] = field(default_factory=set)
    texts: set[int] = field(default_factory=set)


def read_rows(path: Path, form: str, k: int, view: TrainerView) -> Contents:
    """Go through one dataset file a row at a time. Raises InputError if it is no array with a row a line."""
    contents = Contents()
    for number, line in enumerate(_row_lines(path), start=1):
        contents.rows += 1
        where = f"{path.name}, row {number}"
        try:
            row = ROWS[form].model_validate_json(line)
        except ValidationError as error:
            fault = error.errors()[0]
            contents.breaches.append(f"{where}: {'.'.join(map(str, fault['loc'])) or 'the row'}: {fault['msg']}")
            continue
        if faults := list(breaches(row, k)):
            contents.breaches += [f"{where}: {fault}" for fault in faults]
            continue
        contents.first = contents.first or row
        for reply in (row.right, row.wrong):
            if reply is not None:
                length = view.length([*row.prompt, reply], row.system)
                contents.longest = max(contents.longest, length)
                contents.tokens += length
                if length > view.cutoff_len:
                    contents.breaches.append(f"{where}: {length} tokens, all after {view.cutoff_len} are cut off")
        if facts := {fact for turn in row.prompt[::2] for fact in facts_of(turn).values()}:
            contents.facts |= facts
            contents.texts.add(hash((*row.prompt, row.right)))
    return contents


def _row_lines(path: Path) -> Iterator[str]:
    if not path.is_file():
        raise InputError(f"{path} is missing; run `make data` again.")
    with path.open(encoding="utf-8") as lines:
        if next(lines, "").strip() != "[":
            raise InputError(f"{path} is not a dataset of ours; run `make data` again.")
        for line in lines:
            if line.strip() == "]":
                return
            yield line.rstrip().removesuffix(",")
    raise InputError(f"{path} ends in the middle; run `make data` again.")


def check(data: Path, config: dict, tokenizer: str | None) -> list[str]:
    """Print what each file holds and one decoded row; return what is wrong. Raises InputError as its parts do."""
    manifest = read_json(data / "manifest.json")
    settings, splits = manifest.get("settings", {}), list(manifest.get("splits", {}))
    if not {"formats", "k"} <= settings.keys():
        raise InputError(f"{data / 'manifest.json'} is by an earlier version; run `make data` again.")
    found = [
        f"the configuration trains on {name} without mask_history: true: on earlier replies once more in every row"
        for name in str(config.get("dataset", "")).split(",")
        if "alpaca" in name and not config.get("mask_history")
    ]
    found += _entry_breaches(read_json(data / "dataset_info.json"), settings["formats"], splits)
    view = TrainerView(config, tokenizer)
    contents = {}
    print(f"{'dataset':28} {'rows':>9} {'longest':>8}   (cutoff_len {view.cutoff_len})")
    for split in splits:
        for form in settings["formats"]:
            name = dataset_name(form, split)
            contents[form, split] = rows = read_rows(data / f"{name}.json", form, settings["k"], view)
            print(f"{name:28} {rows.rows:9,} {rows.longest:8,}", flush=True)
            written = manifest["splits"][split]["rows_out"][name]
            found += rows.breaches
            found += [f"{name}.json has {rows.rows:,} rows, the manifest says {written:,}"] * (rows.rows != written)
    found += _leaks(manifest, contents)
    if example := contents[settings["formats"][0], "train"].first:
        print("\nA row as the trainer sees it; the loss falls on the lines marked >")
        for carries, text in view.with_loss([*example.prompt, example.right or example.wrong], example.system):
            for part in text.splitlines():
                print((">" if carries else " "), part)
    return found


def read_json(path: Path) -> dict:
    """A JSON file that ``make data`` wrote. Raises InputError if it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing; run `make data` first.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON ({error}); run `make data` again.") from None


def _entry_breaches(info: dict, formats: list[str], splits: list[str]) -> list[str]:
    """Our entries of ``dataset_info.json`` that are not as we write them: a missing column or tag means None there."""
    return [
        f"dataset_info.json: the entry {name} is missing or changed; run `make data` again"
        for name, entry in dataset_info(formats, splits).items()
        if info.get(name) != entry
    ]


def _leaks(manifest: dict, contents: dict[tuple[str, str], Contents]) -> list[str]:
    """Prints the facts that are shown on both sides; cards and whole rows that splits share are breaches.

    Not so the rows of inverse: each is one exchange without a history, and short ones are said by more than one person.
    """
    found = []
    form = manifest["settings"]["formats"][0]
    for split in HELD_OUT:
        for other, shared in manifest["splits"][split]["leaks"].items():
            ours, theirs = contents[form, split], contents[form, other]
            common = len(ours.facts & theirs.facts)
            print(f"{split}: {common:,} of the {len(ours.facts):,} facts that {form} shows also stand in {other}")
            if shared["cards"]:
                found.append(f"{split} shares {shared['cards']} cards with {other}")
            if rows := len(ours.texts & theirs.texts):
                shared_rows = f"{split} shares {rows} rows of {form} that show facts with {other}"
                if ROWS[form] is Inverse:
                    print(f"{shared_rows}, as single exchanges may")
                else:
                    found.append(shared_rows)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data_prep.check", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder to check (default: the configuration's dataset_dir, or data)")
    parser.add_argument("--config", type=Path, required=True, metavar="YAML", help="the training configuration, for its"
                        " tokenizer, template and cutoff_len")  # fmt: skip
    parser.add_argument("--tokenizer", metavar="MODEL", help="folder or hub id, if not the configuration's model")
    parser.add_argument("--all", action="store_true", help=f"print every breach, not the first {SHOWN}")
    arguments = parser.parse_args()
    try:
        config = _config(arguments.config)
        data = arguments.data or Path(config.get("dataset_dir", "data"))
        found = check(data, config, arguments.tokenizer)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    if found:
        shown = len(found) if arguments.all else SHOWN
        print(f"\n{len(found):,} breaches:", *found[:shown], sep="\n", file=sys.stderr)
        if len(found) > shown:
            print(f"... and {len(found) - shown:,} more", file=sys.stderr)
        sys.exit(1)
    print("\nAll rows are as they must be.")


def _config(path: Path) -> dict:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML ({' '.join(str(error).split())}).") from None
    missing = [key for key in ("model_name_or_path", "template", "cutoff_len") if key not in (config or {})]
    if missing:
        raise InputError(f"{path} lacks {missing[0]}; name a configuration of llamafactory_configs/train.")
    return config


if __name__ == "__main__":
    main()
