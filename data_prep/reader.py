"""SPC CSV files to conversations. Every source line ends up in a turn, or in the rejects with its reason."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data_prep.errors import InputError

CARD_COLUMNS = ("user 1 personas", "user 2 personas")
COLUMNS = (*CARD_COLUMNS, "Best Generated Conversation")
ROWS = 1000  # of a file that are read at a time

# "User 1: Hi", "*User 1:* Hi", "* * User 1: * * Hi", "* User 1: Hi! *", "**User 1**: Hi", "[User 1]: Hi"
_LABELLED = re.compile(r"^(?P<markup>[\s*\[]*)User\s*(?P<side>[12])[\s*\]]*:(?P<text>.*)$", re.IGNORECASE)
_STAGE_DIRECTION = re.compile(r"^(\[[^\]]*\]?|\([^)]*\)?|[*\s]*|\*[^*]+\*)$")
# A labelled turn that is only this, and no placeholder: "(makes the sign for hello.)"
_ACTED = re.compile(r"\((?!.*name)\w+ [^()]*\)")
_OTHER_LABEL = re.compile(r"^[\w *]{1,20}:")
_CARD_ECHO = re.compile(r"^[\s*]*User\s*[12]\s+(Profile|Persona)s?\b", re.IGNORECASE)
# An unlabelled block this long, with the talk going on after it, belongs to the turn before (a recipe, a list);
# shorter ones are narration ("At the gym", "20 minutes later").
_CONTINUATION_LINES = 3
# A conversation without a single label is read as alternating turns if it has at least this many lines.
_UNLABELLED_CONVERSATION_LINES = 4


@dataclass(frozen=True)
class Turn:
    """What one side said; ``side`` is 0 for User 1 and 1 for User 2."""

    side: int
    text: str


@dataclass(frozen=True)
class Conversation:
    """Two cards and turns whose sides alternate. ``row`` is the row of the CSV file, counted from 0."""

    split: str
    row: int
    cards: tuple[list[str], list[str]]
    turns: list[Turn]


@dataclass(frozen=True)
class Reject:
    """Something of the source that is not used. ``line``: of the conversation, counted from 0; None: the whole row."""

    split: str
    row: int
    line: int | None
    reason: str
    text: str


def read_chunks(path: Path, split: str, rows: int = ROWS) -> Iterator[tuple[list[Conversation], list[Reject]]]:
    """The conversations of one CSV file that have a turn, and everything that is not used, ``rows`` rows at a time.

    Raises InputError as ``read_tables`` does.
    """
    first = 0
    for table in read_tables(path, rows):
        conversations, rejects = [], []
        for row, (card1, card2, text) in enumerate(table.itertuples(index=False, name=None), start=first):
            lines = text.split("\n")
            turns, unused = parse_turns(lines)
            rejects += [Reject(split, row, line, reason, lines[line]) for line, reason in unused]
            if turns:
                conversations.append(Conversation(split, row, (split_card(card1), split_card(card2)), turns))
            else:
                rejects.append(Reject(split, row, None, "conversation without a turn", ""))
        first += len(table)
        yield conversations, rejects


def read_tables(path: Path, rows: int = ROWS) -> Iterator[pd.DataFrame]:
    """The three columns as strings, missing cells as ``""``, ``rows`` rows at a time.

    Raises InputError if the file is empty, no CSV, or lacks a column.
    """
    try:
        reader = pd.read_csv(path, dtype=str, na_filter=False, index_col=False, chunksize=rows)
        with warnings.catch_warnings(), reader as tables:
            # A row with more cells than the header would shift or lose some; pandas only warns of it.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            for table in tables:
                missing = [column for column in COLUMNS if column not in table.columns]
                if missing:
                    raise InputError(f"{path} lacks the column {missing[0]!r}; it must have {', '.join(COLUMNS)}.")
                if table.empty:
                    raise InputError(f"{path} has a header but no row; it must hold at least one conversation.")
                yield table[list(COLUMNS)]
    except pd.errors.EmptyDataError:
        raise InputError(f"{path} is empty; it must be a CSV file with the columns {', '.join(COLUMNS)}.") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as CSV ({' '.join(str(error).split())}).") from None


def read_conversations(path: Path, split: str) -> tuple[list[Conversation], list[Reject]]:
    """``read_chunks`` in one piece."""
    chunks = list(read_chunks(path, split))
    return [c for conversations, _ in chunks for c in conversations], [r for _, rejects in chunks for r in rejects]


def split_card(cell: str) -> list[str]:
    """The facts of a persona cell, one a line, empty lines left out."""
    return [line.strip() for line in cell.split("\n") if line.strip()]


def parse_turns(lines: list[str]) -> tuple[list[Turn], list[tuple[int, str]]]:
    """Turns with alternating sides, and (line number, reason) of every line that is in none of them."""
    unused = [(i, "blank line") for i, line in enumerate(lines) if not line.strip()]
    numbered = [(i, line.strip()) for i, line in enumerate(lines) if line.strip()]
    if not any(_LABELLED.match(line) for _, line in numbered):
        others = sum(bool(_OTHER_LABEL.match(line)) for _, line in numbered)
        if len(numbered) < _UNLABELLED_CONVERSATION_LINES or others > len(numbered) / 2:
            return [], sorted(unused + [(i, "no speaker label") for i, _ in numbered])
        return [Turn(n % 2, line) for n, (_, line) in enumerate(numbered)], sorted(unused)

    spoken: list[tuple[int, list[str]]] = []
    block: list[tuple[int, str]] = []
    for i, line in numbered:
        match = _LABELLED.match(line)
        if match is None:
            block.append((i, line))
            continue
        unused += _settle(block, spoken)
        block = []
        # Markup before the label is repeated after it, and sometimes at the end of the line.
        text = match["text"].strip(" *\t") if "*" in match["markup"] else match["text"].strip()
        if not text:
            unused.append((i, "empty turn"))
        elif _ACTED.fullmatch(text):
            unused.append((i, "stage direction"))
        else:
            spoken.append((int(match["side"]) - 1, [text]))
    unused += _reasons(block)
    return _alternating(spoken), sorted(unused)


def _settle(block: list[tuple[int, str]], spoken: list[tuple[int, list[str]]]) -> list[tuple[int, str]]:
    """Add a block of unlabelled lines between two labelled ones to the turn before it, or give back the reasons."""
    is_continuation = len(block) >= _CONTINUATION_LINES and not _CARD_ECHO.match(block[0][1])
    if spoken and is_continuation and not any(_STAGE_DIRECTION.match(line) for _, line in block):
        spoken[-1][1].extend(line for _, line in block)
        return []
    return _reasons(block)


def _reasons(block: list[tuple[int, str]]) -> list[tuple[int, str]]:
    if block and _CARD_ECHO.match(block[0][1]):
        return [(i, "card repeated") for i, _ in block]
    return [(i, "stage direction" if _STAGE_DIRECTION.match(line) else "no speaker label") for i, line in block]


def _alternating(spoken: list[tuple[int, list[str]]]) -> list[Turn]:
    """Join what one side said twice running into one turn."""
    turns: list[Turn] = []
    for side, lines in spoken:
        text = "\n".join(lines)
        if turns and turns[-1].side == side:
            turns[-1] = Turn(side, f"{turns[-1].text} {text}")
        else:
            turns.append(Turn(side, text))
    return turns
