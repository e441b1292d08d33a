"""Marks (``[P3]``), and text from outside made harmless: the one place where either is defined."""

import re
from typing import NamedTuple

CARD, DOCUMENTS = "P", "D"  # what a mark points into: [P1] of the card, [D1] of the documents
_MARKS = {letter: re.compile(rf"\[{letter}([1-9][0-9]*)\]") for letter in (CARD, DOCUMENTS)}
# All spaces before a mark: tried from each one anew, a long run of them would take its square in time.
_MARK_RUN = re.compile(r"(?<![ \t])(?:[ \t]*\[P[1-9][0-9]*\])+")
_MARK_AND_SPACE = re.compile(r"(?<![ \t])[ \t]*\[[PD][1-9][0-9]*\]")

# What a tokenizer turns into a control token when it stands in plain text: the <|...|> family and Qwen's word tags.
_CONTROL_TOKEN = re.compile(r"<\|([^<>|\s]{1,40})\|>|<(/?(?:think|tool_call|tool_response))>")
# What reads like one of our own marks.
_MARK_LIKE = re.compile(r"\[([PD][0-9]+)\]")


def mark(index: int, letter: str = CARD) -> str:
    """The mark of fact number ``index`` (counted from 0) of a card, or of the documents: 0 gives ``[P1]``, ``[D1]``."""
    return f"[{letter}{index + 1}]"


def marked_indices(text: str, letter: str = CARD) -> list[int]:
    """Fact numbers (counted from 0) of the marks in ``text``, in order of first appearance, each once."""
    return list(dict.fromkeys(int(number) - 1 for number in _MARKS[letter].findall(text)))


class MarkRun(NamedTuple):
    """Card marks in a row, ``" [P1][P12]"``, at ``text[start:end]``, the spaces before them included.

    ``numbers``: where the number of each mark stands in the text, as (start, end).
    """

    start: int
    end: int
    numbers: list[tuple[int, int]]


def mark_runs(text: str) -> list[MarkRun]:
    """All card marks of ``text``, those that follow one another together."""
    return [
        MarkRun(*run.span(), [found.span(1) for found in _MARKS[CARD].finditer(text, *run.span())])
        for run in _MARK_RUN.finditer(text)
    ]


def strip_marks(text: str) -> str:
    """``text`` without its marks and the spaces before them."""
    # Nearly all text holds no bracket: looking for one first saves most of the time, here and below.
    return _MARK_AND_SPACE.sub("", text).strip() if "[" in text else text.strip()


def neutralise_control_tokens(text: str) -> str:
    """Change ``<|im_end|>`` to ``‹|im_end|›`` and ``<think>`` to ``‹think›``: no control token can be formed."""
    return _CONTROL_TOKEN.sub(lambda m: f"‹|{m[1]}|›" if m[1] else f"‹{m[2]}›", text) if "<" in text else text


def neutralise(text: str) -> str:
    """Make text from a card, a message or a document harmless, and visibly so; applying it twice changes nothing.

    Besides the control tokens, ``[P1]`` becomes ``(P1)``: marks come from the model alone.
    """
    text = neutralise_control_tokens(text)
    return _MARK_LIKE.sub(r"(\1)", text) if "[" in text else text
