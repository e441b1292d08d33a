"""Results as JSON: every file carries the commit, the configuration and the hashes of its input."""

import json
from collections.abc import Iterable
from pathlib import Path

from data_prep.errors import InputError
from data_prep.provenance import git_hash, sha256
from llamafactory_configs.output_folder import try_writing


def write_result(path: Path, config: dict, inputs: list[Path], result: dict) -> None:
    """Write one result file, whole or not at all."""
    record = {
        "git": git_hash(),
        "config": config,
        "input_sha256": {file.name: sha256(file) for file in inputs},
    } | result
    write_json(path, record)


def write_json(path: Path, content: dict) -> None:
    """Write a file for people to read too, whole or not at all."""
    write_whole(path, (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode())


def write_lines(path: Path, rows: Iterable[dict]) -> None:
    """Write JSON Lines, whole or not at all."""
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.staging")
    staging.write_bytes(content)
    staging.replace(path)


def check_writable(path: Path) -> None:
    """Make the folder of ``path`` if it is not there. Raises InputError if no result can be written, before long work
    and not after it."""
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file for the result with --json.")
        try_writing(path.parent)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); name another --json.") from None
