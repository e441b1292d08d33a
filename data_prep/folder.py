"""A folder that is written whole or not at all."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.errors import InputError


@contextmanager
def replaced_folder(out: Path, ours: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Give an empty folder beside ``out`` to write into; when the block ends without an error it becomes ``out``.

    Files of ``out`` that the block did not write (a user's own datasets) are carried over, but for the names in
    ``ours``; a symbolic link stays one.
    Raises InputError if another process is writing ``out``.
    """
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    staging, previous, lock = (out.with_name(f".{out.name}.{word}") for word in ("staging", "previous", "lock"))
    with lock.open("w") as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"Another run is writing {out}; wait until it has ended.") from None
        _mend(out, staging, previous)
        staging.mkdir()
        try:
            yield staging
            _carry_over(out, staging, ours)
            if out.exists():
                out.rename(previous)
            staging.rename(out)
        finally:
            _mend(out, staging, previous)


def _mend(out: Path, staging: Path, previous: Path) -> None:
    """Undo what an interrupted run left: between its two renames ``out`` is away, at any other time it is whole."""
    if previous.exists() and not out.exists():
        previous.rename(out)
    for leftover in (staging, previous):
        shutil.rmtree(leftover, ignore_errors=True)


def _carry_over(out: Path, staging: Path, ours: frozenset[str]) -> None:
    """Bring what is only in ``out`` along."""
    for path in out.iterdir() if out.exists() else ():
        target = staging / path.name
        if target.exists() or path.name in ours:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target, symlinks=True, copy_function=_link_or_copy)
        else:
            _link_or_copy(path, target)


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    """A hard link costs nothing whatever the size; some file systems have none."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
