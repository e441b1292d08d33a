"""The marks of a reply, as it arrives: what points at nothing is taken out, the rest is resolved to its fact.

Filters take a reply piece by piece and give what can be shown by now; ``end`` gives the rest. Whether a reply comes in
one piece or in many, the text and the places of its marks are the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from inference.prompts import Citation
from retrieval.text import CARD

# "[P1]", and what models make of it: "[P1, P2]", "[P1 P2]", "[P01]"; with the spaces before it.
_MARKS = re.compile(r"([ \t]*)\[\s?([PD]\d{1,6}(?:[\s,;]{1,3}[PD]?\d{1,6})*)\s?\]")
_ONE = re.compile(r"([PD]?)(\d+)")
# What may still become a mark, at the end of the text so far, and the spaces before it.
_UNDECIDED = re.compile(r"[ \t]*(?:\[\s?(?:[PD][PD\d,;\s]{0,80})?)?\Z")


@dataclass(frozen=True)
class PlacedCitation:
    """A mark of the reply: what it points at, and where it stands, as ``text[start:end]`` in characters."""

    citation: Citation
    start: int
    end: int


class TextFilter(Protocol):
    """Takes text piece by piece. ``done``: nothing that follows will be shown."""

    done: bool

    def feed(self, piece: str) -> str: ...

    def end(self) -> str: ...


class MarkFilter:
    """Keeps the marks of ``shown``, each in the form ``[P1]``, and takes out all others; ``placed`` are those kept."""

    done = False

    def __init__(self, shown: Mapping[str, Citation]):
        self.placed: list[PlacedCitation] = []
        self._shown = shown
        self._held = ""
        self._length = 0  # of what was given out

    def feed(self, piece: str) -> str:
        held = self._held + piece
        undecided = _UNDECIDED.search(held).start()
        self._held = held[undecided:]
        return self._resolve(held[:undecided])

    def end(self) -> str:
        unfinished = _UNDECIDED.search(self._held)  # "[P1" where the reply was cut off: no mark, and no text either
        return self._resolve(self._held[: unfinished.start()])

    def _resolve(self, text: str) -> str:
        given, start = [], 0
        for match in _MARKS.finditer(text):
            self._give(given, text[start : match.start()])
            if marks := [mark for mark in _marks(match[2]) if mark in self._shown]:
                self._give(given, match[1])
                for mark in marks:
                    place = self._length
                    self._give(given, mark)
                    self.placed.append(PlacedCitation(self._shown[mark], place, self._length))
            start = match.end()
        self._give(given, text[start:])
        return "".join(given)

    def _give(self, given: list[str], text: str) -> None:
        if not self._length:  # a mark that opened the reply may have left its space behind
            text = text.lstrip()
        given.append(text)
        self._length += len(text)


def _marks(inner: str) -> list[str]:
    """``P1, P2`` and ``P1, 2`` are ``[P1]`` and ``[P2]``."""
    marks, letter = [], CARD
    for found in _ONE.finditer(inner):
        letter = found[1] or letter
        marks.append(f"[{letter}{int(found[2])}]")
    return marks


class StopFilter:
    """Ends the text before the first of ``stops`` that occurs, as OpenAI's ``stop`` does."""

    def __init__(self, stops: list[str]):
        self.done = False
        self._stops = stops
        self._held = ""

    def feed(self, piece: str) -> str:
        if self.done:
            return ""
        text = self._held + piece
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.done, self._held = True, ""
            return text[: min(found)]
        longest = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - longest :]
        return text[: len(text) - longest]

    def end(self) -> str:
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` begin ``stop``."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class QuoteFilter:
    """Takes ``Tim: "I drive."`` apart: what is left is ``I drive.``, and the closing quote ends the reply."""

    _CLOSING = re.compile('["”」]')

    def __init__(self, name: str):
        self.done = False
        self._opening = re.compile(rf'\s*(?:{re.escape(name)}\s*[::])?\s*["“「]?')
        self._longest = len(name) + 6
        self._held: str | None = ""  # the beginning, until it is known; then None

    def feed(self, piece: str) -> str:
        if self.done:
            return ""
        if self._held is not None:
            self._held += piece
            if len(self._held.lstrip()) < self._longest:
                return ""
            piece = self._rest()
        if closing := self._CLOSING.search(piece):
            self.done = True
            return piece[: closing.start()].rstrip()
        return piece

    def end(self) -> str:
        return "" if self.done or self._held is None else self.feed(self._rest())

    def _rest(self) -> str:
        held, self._held = self._held, None
        return held[self._opening.match(held).end() :]
