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

# "[P1]", and what models make of it: "[P1, P2]", "[P1P2]", "[P01]", "[p1]", "[P1 and P2]", "【P1】"; with the spaces
# before it. What is in the brackets has an end, or a reply that is all digits would be held back to its last.
_LONGEST = 400
_SPACES = r"(?<![ \t])[ \t]*"  # all of them: from each one anew, a long run would take its square in time
_BETWEEN = r"\s,;:./&+\-–—、，；："
_BETWEEN_MARKS = rf"(?:[{_BETWEEN}]|and|or|to|和|及|与|至|到)"
_INNER = rf"[PDpd]\s?\d+(?:{_BETWEEN_MARKS}{{1,9}}(?:[PDpd]\s?)?\d+|[PDpd]\s?\d+)*"
_BRACKETED = rf"[\[［【](?=[^\]］】]{{1,{_LONGEST}}}[\]］】])\s*({_INNER}){_BETWEEN_MARKS}{{0,9}}[\]］】]"
_MARKS = re.compile(rf"({_SPACES}){_BRACKETED}")
_ONE = re.compile(r"([PDpd]?)\s?(\d+)")
# What may still become a mark, at the end of the text so far, and the spaces before it.
_OPEN = rf"[\[［【](?!.{{{_LONGEST + 1}}})\s*(?:[PDpd]\s?(?:\d[PDpd\d{_BETWEEN}anort和及与至到]*)?)?\Z"
_UNDECIDED = re.compile(rf"{_SPACES}(?:{_OPEN})?\Z", re.DOTALL)
_OPENED = re.compile(_OPEN, re.DOTALL)


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
        self._tail = ""  # the end of it

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
            marks = [mark for mark in _marks(match[2]) if mark in self._shown]
            if marks:
                self._give(given, match[1])
                for mark in marks:
                    place = self._length
                    self._give(given, mark)
                    self.placed.append(PlacedCitation(self._shown[mark], place, self._length))
            elif _OPENED.search(self._tail):  # "[[P9]P7]": without what is between them, the rest would be a mark
                self._give(given, f"{match[1]}({match[2]})")
            start = match.end()
        self._give(given, text[start:])
        return "".join(given)

    def _give(self, given: list[str], text: str) -> None:
        if not self._length:  # a mark that opened the reply may have left its space behind
            text = text.lstrip()
        given.append(text)
        self._length += len(text)
        self._tail = (self._tail + text)[-_LONGEST - 2 :]


def _marks(inner: str) -> list[str]:
    """``P1, P2`` and ``P1, 2`` are ``[P1]`` and ``[P2]``."""
    marks, letter = [], CARD
    for found in _ONE.finditer(inner):
        letter = found[1].upper() or letter
        marks.append(f"[{letter}{int(found[2])}]")
    return marks


class StopFilter:
    """Ends the text before the first of ``stops`` that occurs, as OpenAI's ``stop`` does. None of them is empty."""

    def __init__(self, stops: list[str]):
        self.done = False
        self._stops = stops
        self._held = ""

    def feed(self, piece: str) -> str:
        if self.done:
            return ""
        text = self._held + piece
        # From here on the text may still become a stop, and one that begins earlier than any that is there already.
        undecided = len(text) - max((_overlap(text, stop) for stop in self._stops), default=0)
        found = self._first(text)
        if found < len(text) and found <= undecided:
            self.done, self._held = True, ""
            return text[:found]
        self._held = text[undecided:]
        return text[:undecided]

    def end(self) -> str:
        held, self._held = self._held, ""
        self.done = self.done or self._first(held) < len(held)
        return held[: self._first(held)]

    def _first(self, text: str) -> int:
        """Where the first stop begins; the end of ``text`` if there is none."""
        return min((place for stop in self._stops if (place := text.find(stop)) >= 0), default=len(text))


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` begin ``stop``."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


# Marks in a row, at the start of a text.
_RUN = re.compile(rf"(?:[ \t]*{_BRACKETED})*")
_CLOSING_OF = {'"': '"', "“": "”", "「": "」"}


class QuoteFilter:
    """Takes a line of a script apart: of ``Tim: "I drive."`` is left ``I drive.``; its closing quote ends the reply.

    Marks may follow the quote. A line without an opening quote is no quote, and may hold some: ``Tim: I saw "Jaws".``
    """

    def __init__(self, name: str):
        self.done = False
        self._name = name
        self._speaker = re.compile(rf"\s*(?:{re.escape(name)}\s*[:：]\s*)?")
        # The name with spaces after it may get its colon, and what has its colon may get a quote.
        self._undecided = re.compile(rf"\s*(?:{re.escape(name)}\s*(?:[:：]\s*)?)?")
        self._begun = False
        self._closing: str | None = None
        self._closed = False
        self._held = ""  # once it is closed: what came after the quote

    def feed(self, piece: str) -> str:
        if self.done:
            return ""
        self._held += piece
        if self._closed:
            return self._marks_after()
        if not self._begun:
            if self._undecided.fullmatch(self._held) or self._name.startswith(self._held.lstrip()):
                return ""
            self._begin()
        place = self._held.find(self._closing) if self._closing else -1
        self._closed = place >= 0
        text = self._held[:place] if self._closed else self._held
        shown = text.rstrip()  # the spaces before a closing quote are not shown
        if self._closed:
            self._held = self._held[place + 1 :]
            return shown + self._marks_after()
        self._held = text[len(shown) :]
        return shown

    def _marks_after(self) -> str:
        marks = self._held[: _RUN.match(self._held).end()]
        self._held = self._held[len(marks) :]
        self.done = _UNDECIDED.fullmatch(self._held) is None
        return marks

    def end(self) -> str:
        """What is left, without the spaces at its end."""
        if self._closed:
            self.done = True
            return ""
        if not self._begun:
            self._begin()
        held, self._held = self._held, ""
        return held.rstrip()

    def _begin(self) -> None:
        self._begun = True
        text = self._held[self._speaker.match(self._held).end() :]
        self._closing = _CLOSING_OF.get(text[:1])
        self._held = text[1:] if self._closing else text
