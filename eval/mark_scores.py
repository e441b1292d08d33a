"""Marks in the eyes of a model that reads the true reply: does it put them where they belong, with the right number?

Nothing here runs a model: it looks at what the model gave for every token of a reply.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from transformers import PreTrainedTokenizerBase

from data_prep.errors import InputError
from retrieval.sentences import split_sentences
from retrieval.text import mark, mark_runs

CLOSE = -1  # stands for every token that ends a number
Offsets = Sequence[tuple[int, int]]


class TokenScores(Protocol):
    """What the model gives for a reply of n tokens; see ``eval.teacher_forced.Scores``."""

    best: np.ndarray
    watched: np.ndarray


@dataclass
class MarkCounts:
    """Sums over replies. The first mark of a run counts as right if it is any mark of that run.

    ``marks``: runs scored; ``right``: the most likely token of the whole vocabulary is right; ``right_shown``: the
    most likely of the facts shown is; ``chance``: what drawing one of the facts shown gets, marks of the run / facts
    shown. ``open_*``: the same over runs where a wrong fact was shown too. ``tp``, ``fp``, ``fn``: places where the
    model's most likely token starts a mark and the reply has one, only the model does, only the reply. ``unseen``:
    places inside of a token, where no mark can start and none is scored.
    """

    marks: int = 0
    right: int = 0
    right_shown: int = 0
    chance: float = 0.0
    open_marks: int = 0
    open_right_shown: int = 0
    open_chance: float = 0.0
    places: int = 0
    unseen: int = 0
    tp: int = 0
    fp: int = 0
    fn: int = 0


def align(tokenizer: PreTrainedTokenizerBase, reply: str, ids: Sequence[int]) -> Offsets:
    """Where in ``reply`` each of its tokens stands, as (start, end); those that end the turn are empty, at its end.

    ``ids``: the n tokens of the reply as trained. Raises InputError if they do not begin with those of the text alone.
    """
    plain = tokenizer(reply, add_special_tokens=False, return_offsets_mapping=True)
    if list(ids[: len(plain["input_ids"])]) != plain["input_ids"]:
        raise InputError("This template changes the text of replies, so that marks cannot be found; use another one.")
    return [*plain["offset_mapping"], *[(len(reply),) * 2] * (len(ids) - len(plain["input_ids"]))]


def outside_marks(reply: str, offsets: Offsets) -> np.ndarray:
    """Which of the n tokens share no character with a run of marks and the space before it; bool, (n,)."""
    runs = mark_runs(reply)
    return np.array([not any(start < run.end and run.start < end for run in runs) for start, end in offsets])


def mark_places(reply: str) -> list[tuple[int, bool]]:
    """Where a mark could start, with whether one does: the end of each sentence, and wherever else there are marks."""
    runs = mark_runs(reply)
    plain, removed, marked = "", [], set()
    for start, run in zip([0, *(run.end for run in runs)], [*runs, None], strict=True):
        plain += reply[start : run.start if run else None]
        if run:
            removed.append((len(plain), run.end - run.start))
            marked.add(run.start)
    places, end = set(marked), 0
    for sentence in split_sentences(plain):
        body = end + len(sentence.rstrip())
        # Behind the marks of the sentences before, not behind its own.
        places.add(body + sum(length for place, length in removed if place < body))
        end += len(sentence)
    return [(place, place in marked) for place in sorted(places)]


class MarkReader:
    """How a tokenizer writes marks. ``watched``: the tokens whose log-probabilities are needed at every mark."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, facts: Collection[int]):
        """``facts``: all fact numbers that occur, from 0. Raises InputError if a number shares a token with others."""
        self._tokenizer = tokenizer
        self.numbers: dict[int, tuple[int, ...]] = {}
        closings = set()
        for fact in facts:
            text = mark(fact) * 2  # what follows a number is another token at the end of a run than within it
            encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
            for span in mark_runs(text)[0].numbers:
                inside = tokens_of(offsets, *span)
                self.numbers[fact] = tuple(ids[token] for token in inside)
                closings.add(ids[inside.stop])
        self.watched = sorted(closings.union(*self.numbers.values()))
        self._columns: dict[int, list[int]] = {token: [column] for column, token in enumerate(self.watched)}
        self._columns[CLOSE] = [column for column, token in enumerate(self.watched) if token in closings]
        self._closings = closings
        # Behind a sentence: " [" is one token, or two of which the first is a space that begins nothing else.
        sentence = tokenizer("Yes.", add_special_tokens=False)["input_ids"]
        opened = (tokenizer(f"Yes.{space}[P1]", add_special_tokens=False)["input_ids"] for space in ("", " "))
        self._openings = {ids[len(sentence)] for ids in opened if ids[: len(sentence)] == sentence}

    def starts_mark(self, token: int) -> bool:
        """Whether ``token`` opens a bracket, after a space or not."""
        return token in self._openings or self._tokenizer.decode([token]).lstrip(" \t").startswith("[")

    def count(self, reply: str, offsets: Offsets, shown: Collection[int], scores: TokenScores) -> MarkCounts:
        """Marks and places of one reply; ``shown``: numbers of the facts in its message, from 0."""
        counts = MarkCounts()
        for run in mark_runs(reply):
            facts = [int(reply[slice(*span)]) - 1 for span in run.numbers]
            tokens = tokens_of(offsets, *run.numbers[0])
            steps = slice(tokens.start, tokens.stop + 1)
            best = [CLOSE if token in self._closings else int(token) for token in scores.best[steps]]
            anywhere, restricted = (
                right_number(facts[0], facts, shown, self.numbers, choose)
                for choose in (lambda step, _, best=best: best[step], self._best_of(scores.watched[steps]))
            )
            chance = len(set(facts)) / len(set(shown))
            counts.marks += 1
            counts.right += anywhere
            counts.right_shown += restricted
            counts.chance += chance
            if chance < 1:
                counts.open_marks += 1
                counts.open_right_shown += restricted
                counts.open_chance += chance
        starts = {start: token for token, (start, _) in reversed([*enumerate(offsets)])}
        for place, truth in mark_places(reply):
            # A tokenizer may leave the space before a word out of the word's offsets.
            token = starts.get(place, starts.get(place + 1) if reply[place : place + 1].isspace() else None)
            if token is None:
                counts.unseen += 1
                continue
            guess = self.starts_mark(int(scores.best[token]))
            counts.places += 1
            counts.tp += truth and guess
            counts.fp += guess and not truth
            counts.fn += truth and not guess
        return counts

    def _best_of(self, watched: np.ndarray):
        return lambda step, options: max(options, key=lambda token: watched[step, self._columns[token]].max())


def right_number(
    truth: int, accepted: Collection[int], shown: Collection[int], numbers: Mapping[int, tuple[int, ...]], choose
) -> bool:
    """Whether a model that has read ``[P`` goes on with an accepted number. All numbers of facts count from 0.

    ``choose(step, options)`` gives the token that the model takes at each token of the true number and the one after
    it, ``CLOSE`` for the end of the number. The choice is settled as soon as it leaves accepted facts only, or none.
    """
    for step in range(len(numbers[truth]) + 1):
        options: dict[int, set[int]] = {}
        for fact in shown:
            tokens = numbers[fact]
            if tokens[:step] == numbers[truth][:step]:
                options.setdefault(tokens[step] if step < len(tokens) else CLOSE, set()).add(fact)
        left = options.get(choose(step, [*options]), set())
        if left and left <= set(accepted):
            return True
        if truth not in left:
            return False
    raise AssertionError(f"two facts are written like {truth}")


def tokens_of(offsets: Offsets, start: int, end: int) -> range:
    """The tokens that make up the characters from ``start`` to ``end``. Raises InputError if they hold others too."""
    tokens = [token for token, (first, last) in enumerate(offsets) if first < end and start < last]
    if not tokens or offsets[tokens[0]][0] != start or offsets[tokens[-1]][1] != end:
        raise InputError("This tokenizer joins the number of a mark with other characters; marks cannot be scored.")
    return range(tokens[0], tokens[-1] + 1)
