"""Conversations as token windows: a card, then a stretch of turns, with the places of its facts and sentences.

A window reads ``[CLS] <fact> fact 1 <fact> fact 2 ... [SEP] <other> turn <own> turn ... [SEP]``. What is scored is
each sentence of the card owner's turns against each fact of the window.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Tokenizer

from retrieval.sentences import split_sentences

CONTROL = ("[CLS]", "[SEP]", "[unused0]", "[unused1]", "[unused2]")  # the last three: fact, other turn, own turn
MAX_TOKENS = 384  # of a window
MAX_FACT, MAX_SENTENCE, MAX_TURN, MAX_CARD = 40, 64, 160, 160  # tokens; the rest is not seen
CONTEXT = 5  # turns that are seen before the first one scored: as many as the labelled replies show


@dataclass
class Tokens:
    """One side's view of a conversation in token ids. ``turns[t]``: a list of sentences; ``own``: the turns scored."""

    card: list[list[int]]
    turns: list[list[list[int]]]
    own: list[bool]


@dataclass
class Window:
    """``fact_spans`` and ``sentence_spans``: (first, past the last) token; ``facts``, ``turns``: whose spans they are.

    ``sentences``: number of each sentence in its turn.
    """

    ids: list[int]
    facts: list[int] = field(default_factory=list)
    fact_spans: list[tuple[int, int]] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    sentences: list[int] = field(default_factory=list)
    sentence_spans: list[tuple[int, int]] = field(default_factory=list)


class WindowCutter:
    """Turns text into windows with one tokenizer, which must have BERT's control tokens. Raises ValueError if not."""

    def __init__(self, tokenizer: Tokenizer):
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        ids = [tokenizer.token_to_id(token) for token in CONTROL]
        if None in ids:
            raise ValueError(f"the tokenizer has no token {CONTROL[ids.index(None)]}")
        self.cls, self.sep, self.fact, self.other, self.own = ids

    def tokens(self, card: Sequence[str], turns: Sequence[str], own: Sequence[bool]) -> Tokens:
        """Token ids of a card and of turns, turns split into sentences."""
        sentences = [split_sentences(turn) for turn in turns]
        flat = [*card, *(sentence for turn in sentences for sentence in turn)]
        ids = iter([encoding.ids for encoding in self.tokenizer.encode_batch_fast(flat, add_special_tokens=False)])
        facts = [next(ids)[:MAX_FACT] for _ in card]
        return Tokens(facts, [[next(ids)[:MAX_SENTENCE] for _ in turn] for turn in sentences], list(own))

    def cut(self, tokens: Tokens) -> Iterator[Window]:
        """Windows in which every own turn is scored against every fact once, with ``CONTEXT`` turns before it."""
        for facts in _card_parts(tokens.card):
            scored = 0
            while scored < len(tokens.turns):
                window, end = self.window(tokens, max(0, scored - CONTEXT), scored, facts)
                if window.turns:
                    yield window
                scored = end

    def window(self, tokens: Tokens, start: int, scored: int, facts: Sequence[int]) -> tuple[Window, int]:
        """The window of ``facts`` and the turns from ``start``, own turns scored from ``scored``, and where it ends.

        The turn ``scored`` is always in it; more follow as long as they fit. Turns before it that do not fit are left
        out, the earliest first.
        """
        window = Window([self.cls])
        for number in facts:
            window.ids.append(self.fact)
            window.facts.append(number)
            window.fact_spans.append(_appended(window.ids, tokens.card[number]))
        window.ids.append(self.sep)
        while start < scored and len(window.ids) + sum(map(_length, tokens.turns[start : scored + 1])) >= MAX_TOKENS:
            start += 1
        end = start
        while end < len(tokens.turns) and (end <= scored or len(window.ids) + _length(tokens.turns[end]) < MAX_TOKENS):
            self._add_turn(window, tokens, end, end >= scored)
            end += 1
        window.ids.append(self.sep)
        return window, end

    def _add_turn(self, window: Window, tokens: Tokens, turn: int, is_scored: bool) -> None:
        window.ids.append(self.own if tokens.own[turn] else self.other)
        room = MAX_TURN
        for number, sentence in enumerate(tokens.turns[turn]):
            span = _appended(window.ids, sentence[:room])
            room -= span[1] - span[0]
            if is_scored and tokens.own[turn] and span[1] > span[0]:
                window.turns.append(turn)
                window.sentences.append(number)
                window.sentence_spans.append(span)


def last_full_start(tokens: Tokens) -> int:
    """The last turn from which a window of the whole card can start and still be full; 0 if all fits into one."""
    room = MAX_TOKENS - sum(len(fact) + 1 for fact in tokens.card) - 3
    start = len(tokens.turns)
    while start > 0 and (room := room - _length(tokens.turns[start - 1])) > 0:
        start -= 1
    return start


def _card_parts(card: list[list[int]]) -> Iterator[list[int]]:
    """Fact numbers in groups of at most ``MAX_CARD`` tokens."""
    part: list[int] = []
    size = 0
    for number, fact in enumerate(card):
        if part and size + len(fact) + 1 > MAX_CARD:
            yield part
            part, size = [], 0
        part.append(number)
        size += len(fact) + 1  # its mark
    if part:
        yield part


def _appended(ids: list[int], more: Sequence[int]) -> tuple[int, int]:
    start = len(ids)
    ids.extend(more)
    return start, len(ids)


def _length(turn: list[list[int]]) -> int:
    return 1 + min(MAX_TURN, sum(map(len, turn)))


def collate(windows: Sequence[Window], pad: int = 0) -> dict[str, np.ndarray]:
    """A batch of windows as arrays; every (sentence, fact) pair of a window is one row of ``pairs``.

    ``ids`` and ``mask``: shape (windows, longest). ``facts``, ``sentences``: (count, 3), window, first token, past
    the last. ``pairs``: (count, 2), row of ``sentences``, row of ``facts``.
    """
    ids = np.full((len(windows), max(len(window.ids) for window in windows)), pad)
    mask = np.zeros_like(ids)
    facts, sentences, pairs = [], [], []
    for row, window in enumerate(windows):
        ids[row, : len(window.ids)] = window.ids
        mask[row, : len(window.ids)] = 1
        first = len(facts)
        facts += [(row, *span) for span in window.fact_spans]
        for span in window.sentence_spans:
            pairs += [(len(sentences), first + number) for number in range(len(window.fact_spans))]
            sentences.append((row, *span))
    return {
        "ids": ids,
        "mask": mask,
        "facts": np.array(facts).reshape(-1, 3),
        "sentences": np.array(sentences).reshape(-1, 3),
        "pairs": np.array(pairs).reshape(-1, 2),
    }
