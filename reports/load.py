"""What the report is made from: the JSON files in ``reports/results/``."""

import json
from pathlib import Path
from typing import Any

FILES = ("comparison", "retrieval_valid", "retrieval_kept_back", "retrieval_settings", "grounding_valid", "general",
         "judge", "screenshots", "remarks")  # fmt: skip


class ReportError(Exception):
    """One sentence for people: what is wrong, and what to do."""


def read_results(folder: Path) -> dict[str, dict | None]:
    """The content of each of ``FILES``, None for one that is not there.

    What is null in the JSON, or a number that is NaN or infinite, is left out, as if it had not been written.

    Raises ReportError if there is no such folder, or a file in it is no JSON object.
    """
    if not folder.is_dir():
        raise ReportError(f"{folder} is no folder; name the one with the JSON results, such as reports/results.")
    return {name: _read(folder / f"{name}.json") for name in FILES}


def _read(path: Path) -> dict | None:
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=lambda _: None, object_pairs_hook=_without_null)
    except ValueError as error:
        raise ReportError(f"{path} is not JSON ({error}); write it anew.") from None
    if not isinstance(content, dict):
        raise ReportError(f"{path} holds no JSON object; write it anew.")
    return content


def _without_null(pairs: list[tuple[str, Any]]) -> dict:
    return {key: value for key, value in pairs if value is not None}


def find(data: Any, *keys: str | int) -> Any:
    """``data[keys[0]][keys[1]]...``, None where the JSON does not hold it."""
    for key in keys:
        if isinstance(data, dict):
            data = data.get(key)
        elif isinstance(data, list) and isinstance(key, int) and -len(data) <= key < len(data):
            data = data[key]
        else:
            return None
    return data


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Raises ReportError if it cannot be written."""
    staging = path.with_name(f".{path.name}.staging")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging.write_bytes(content)
        staging.replace(path)
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error.strerror}.") from None
