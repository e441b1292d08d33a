"""The replies that are judged, as JSON Lines: id, card, history, message, reply and reference, an object a line."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.json_lines import json_lines


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
