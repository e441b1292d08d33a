"""A file of answers to questions, JSON Lines, that goes on where it was interrupted.

Beside FILE lies FILE.config.json, which says how it was made; only with the same is it gone on with.
"""

import fcntl
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from data_prep.errors import InputError
from eval.results import write_json


def answer_all(out: Path, config: dict, ids: Sequence[str], answer: Callable[[int], dict]) -> int:
    """Append what ``out`` does not hold yet of ``answer(0)``, ``answer(1)``, ...; give how many it held before.

    Answer ``i`` is to the question ``ids[i]`` and has it as ``id``. Raises InputError if ``out`` is of another run or
    being written, and what ``answer`` raises; what was answered until then is kept.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = out.open("ab")
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); name another file.") from None
    with file:
        _lock(file, out)
        check_config(out, config)
        done, size = whole_lines(out, ids)
        file.truncate(size)
        for number in tqdm(range(done, len(ids)), initial=done, total=len(ids), desc=out.name, unit="reply"):
            # In ASCII: half of a surrogate pair, which a model's reply can hold, has no UTF-8.
            file.write(json.dumps(answer(number)).encode() + b"\n")
            file.flush()
    return done


def config_path(out: Path) -> Path:
    """Where it stands how ``out`` was made."""
    return out.with_name(f"{out.name}.config.json")


def check_config(out: Path, config: dict) -> None:
    """Note ``config`` beside ``out``. Raises InputError if ``out`` was begun with another."""
    beside = config_path(out)
    if beside.is_file():
        try:
            begun = dict(json.loads(beside.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise InputError(f"{beside} cannot be read; move it and {out.name} away.") from None
        changed = [name for name in config if name != "git" and begun.get(name) != config[name]]
        if changed:
            name = changed[0]
            raise InputError(
                f"{out} was begun with {name} {begun.get(name)!r}, not {config[name]!r}; name another file, or move it"
                f" and {beside.name} away."
            )
        return
    if out.stat().st_size:
        raise InputError(f"{out} has no {beside.name}, which says how it was made; name another file.")
    write_json(beside, config)


def whole_lines(out: Path, ids: Sequence[str]) -> tuple[int, int]:
    """How many answers ``out`` holds, and the bytes that they take; a line cut in the middle does not count.

    Raises InputError if they are not the answers to the first of ``ids``.
    """
    content = out.read_bytes()
    size = content.rfind(b"\n") + 1
    lines = content[:size].split(b"\n")[:-1]
    for number, line in enumerate(lines):
        try:
            same = json.loads(line)["id"] == ids[number]
        except (ValueError, TypeError, LookupError):
            same = False
        if not same:
            raise InputError(f"{out}, line {number + 1} is not the reply that belongs there; move the file away.")
    return len(lines), size


def _lock(file: BinaryIO, out: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"Another run is writing {out}; wait until it has ended.") from None
