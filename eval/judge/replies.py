"""The replies that are judged, as JSON Lines: id, card, history, message, reply and reference, an object a line."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import InputError


@dataclass(frozen=True)
class Situation:
    """What a reply answers. ``history``: the turns before ``message``, the user's first, the persona's last, no marks.

    ``reference``: what the true speaker said; empty if that is not known.
    """

    card: tuple[str, ...]
    history: tuple[str, ...]
    message: str
    reference: str


@dataclass(frozen=True)
class Replies:
    """One file: its name, what each id answers and what was replied, in the order of the file."""

    name: str
    situations: dict[str, Situation]
    texts: dict[str, str]

    def only(self, ids: list[str]) -> "Replies":
        """The same with these ids alone, in their order."""
        return Replies(self.name, {i: self.situations[i] for i in ids}, {i: self.texts[i] for i in ids})


def read_replies(path: Path) -> Replies:
    """Raises InputError if the file is missing, or names the first line that is not as it must be."""
    replies = Replies(path.name, {}, {})
    for place, row in json_lines(path):
        situation = situation_of(row, place)
        name = text_of(row, "id", place)
        if name in replies.texts:
            raise InputError(f"{place}: the id {name!r} is there twice; give each reply an id of its own.")
        replies.situations[name] = situation
        replies.texts[name] = text_of(row, "reply", place)
    return replies


def json_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """``FILE line N`` and the object of each line that is not blank. Raises InputError."""
    try:
        # Iteration splits at line feeds alone; splitlines would split inside of a text that holds U+2028.
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                json.dumps(row, ensure_ascii=False).encode()  # what could not be sent is told before anything is
                if not isinstance(row, dict):
                    raise InputError(f"{path} line {number} is no JSON object; write one object a line.")
                yield f"{path} line {number}", row
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no UTF-8 text; write it as UTF-8.") from None
    except UnicodeEncodeError:
        raise InputError(f"{path} line {number} holds half a character, a lone surrogate; write it whole.") from None
    except (json.JSONDecodeError, RecursionError):
        raise InputError(f"{path} line {number} is no JSON; write one object a line.") from None


def text_of(row: Mapping[str, Any], name: str, place: str) -> str:
    """The text under ``name``; ``place`` is for the sentence of the InputError if there is none."""
    if not isinstance(row.get(name), str):
        raise InputError(f"{place}: {name!r} must be text, not {row.get(name)!r}.")
    return row[name]


def situation_of(row: Mapping[str, Any], place: str) -> Situation:
    """Raises InputError."""
    for name in ("card", "history"):
        if not isinstance(row.get(name), list) or not all(isinstance(text, str) for text in row[name]):
            raise InputError(f"{place}: {name!r} must be a list of texts, not {row.get(name)!r}.")
    if len(row["history"]) % 2:
        raise InputError(
            f"{place}: 'history' has {len(row['history'])} turns; it must begin with the user's and end with the"
            " persona's."
        )
    message, reference = (text_of(row, name, place) for name in ("message", "reference"))
    return Situation(tuple(row["card"]), tuple(row["history"]), message, reference)


def in_common(a: Replies, b: Replies) -> tuple[Replies, Replies]:
    """Both files with their common ids alone, in the order of the first.

    Raises InputError if there is none, or if an id answers one thing here and another there.
    """
    ids = [name for name in a.texts if name in b.texts]
    if not ids:
        raise InputError(f"{a.name} and {b.name} have no id in common; name replies to the same messages.")
    for name in ids:
        if a.situations[name] != b.situations[name]:
            raise InputError(
                f"The id {name!r} of {a.name} has another card, history, message or reference in {b.name}; name"
                " replies to the same messages."
            )
    return a.only(ids), b.only(ids)
