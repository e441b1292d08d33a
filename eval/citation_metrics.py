"""Whether the marks of generated replies are right: citation recall and precision as in ALCE, form and target.

ALCE: Gao et al. 2023, "Enabling Large Language Models to Generate Text with Citations", section 3 and ``eval.py``.
Where this differs from its program: marks are ``[P1]`` (it knows ``[1]`` only); a mark after the full stop belongs to
the sentence before it; a mark that points at nothing counts as a wrong one (its program leaves the marks of such a
sentence out of precision); pieces without a word are no sentences; all marks of a sentence count (it reads three).
Marks of documents are not looked at.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import accumulate

import numpy as np

from data_prep.reader import Conversation
from eval.intervals import Statistic, ratio
from eval.judging import Supports
from retrieval.sentences import split_sentences
from retrieval.text import mark_runs, strip_marks

# A mark, or what a model may write for one: "[p1]", "[P 1]", "[P1, P2]", "[P1P2]", "(P1)", "[P0]", "[P1" cut off.
_MARK_LIKE = re.compile(
    r"[\[(（【]\s*P\s*\d+(?:[\s,;&/-]+(?:P\s*)?\d+|P\s*\d+)*\s*(?:[\])）】]|(?=\[)|\Z)", re.IGNORECASE
)

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class CitedSentence:
    """A sentence without marks, and the fact numbers (from 0) of its marks, in order, repeated ones too."""

    text: str
    cited: tuple[int, ...]


@dataclass(frozen=True)
class CitationCounts:
    """Of one reply. ``supported``: sentences whose cited facts together support them; ``precise``: marks in such
    sentences that are not irrelevant; ``worthy``: sentences that some fact of the card supports, and ``worthy_*`` the
    same counts over them alone. ``off_card``, ``not_shown``: marks that point at no fact of the card, or at none that
    the prompt showed. ``malformed``: what was meant as a mark and is none, ``[P1, P2]`` being one.
    """

    sentences: int
    supported: int
    marks: int
    precise: int
    worthy: int
    worthy_supported: int
    worthy_marks: int
    worthy_precise: int
    off_card: int
    not_shown: int
    malformed: int


def cited_sentences(reply: str) -> list[CitedSentence]:
    """The sentences of ``reply`` that hold a word, with their marks. A mark belongs to the sentence of the last word
    before it; before all words, to the first. Of marks alone, one sentence without text."""
    pieces = split_sentences(strip_marks(reply))
    places = [place for place, piece in enumerate(pieces) if _WORD.search(_MARK_LIKE.sub("", piece))]
    texts = [pieces[place].strip() for place in places]
    ends = list(accumulate(map(len, pieces)))
    runs = mark_runs(reply)
    if not texts and runs:
        texts, places = [""], [0]
    cited: list[list[int]] = [[] for _ in texts]
    for run in runs:
        words = _WORD.finditer(strip_marks(reply[: run.start]))
        last = max((word.end() for word in words), default=0)
        piece = bisect_left(ends, last)
        owner = max(bisect_right(places, piece) - 1, 0)
        cited[owner] += [int(reply[start:end]) - 1 for start, end in run.numbers]
    return [CitedSentence(text, tuple(facts)) for text, facts in zip(texts, cited, strict=True)]


def malformed_marks(reply: str) -> list[str]:
    """What in ``reply`` looks like a mark of the card and is none."""
    return [found for found in _MARK_LIKE.findall(reply) if not re.fullmatch(r"\[P[1-9][0-9]*\]", found)]


def is_supported(sentence: CitedSentence, card: Sequence[str], supports: Supports) -> bool:
    """Citation recall of a sentence: it has marks, all point at facts of ``card``, and these support it together."""
    on_card = all(fact < len(card) for fact in sentence.cited)
    return bool(sentence.cited) and on_card and supports(sentence.text, [card[fact] for fact in sentence.cited])


def precise_marks(sentence: CitedSentence, card: Sequence[str], supports: Supports) -> int:
    """How many of the marks count for citation precision: the sentence is supported, and its fact supports it alone,
    or the others do not without it."""
    if not is_supported(sentence, card, supports):
        return 0
    if len(sentence.cited) == 1:
        return 1
    facts = [card[fact] for fact in sentence.cited]
    return sum(
        supports(sentence.text, [fact]) or not supports(sentence.text, facts[:place] + facts[place + 1 :])
        for place, fact in enumerate(facts)
    )


def count_citations(reply: str, card: Sequence[str], shown: Collection[int], supports: Supports) -> CitationCounts:
    """``shown``: the facts of ``card`` in the prompt, counted from 0."""
    sentences = cited_sentences(reply)
    supported = [is_supported(sentence, card, supports) for sentence in sentences]
    precise = [precise_marks(sentence, card, supports) for sentence in sentences]
    worthy = [any(supports(sentence.text, [fact]) for fact in card) for sentence in sentences]
    marks = [fact for sentence in sentences for fact in sentence.cited]
    chosen = [place for place, is_worthy in enumerate(worthy) if is_worthy]
    return CitationCounts(
        sentences=len(sentences),
        supported=sum(supported),
        marks=len(marks),
        precise=sum(precise),
        worthy=len(chosen),
        worthy_supported=sum(supported[place] for place in chosen),
        worthy_marks=sum(len(sentences[place].cited) for place in chosen),
        worthy_precise=sum(precise[place] for place in chosen),
        off_card=sum(fact >= len(card) for fact in marks),
        not_shown=sum(fact not in shown for fact in marks),
        malformed=len(malformed_marks(reply)),
    )


def citation_statistics(
    conversations: Sequence[Conversation], shown: Sequence[Collection[int]], judges: Sequence[Supports]
) -> dict[str, Statistic]:
    """Name to ``Statistic`` over replies, the last turns of ``conversations``, marks and all; see ``_statistics``."""
    counts = []
    for conversation, facts, supports in zip(conversations, shown, judges, strict=True):
        reply = conversation.turns[-1]
        counts.append(count_citations(reply.text, conversation.cards[reply.side], facts, supports))
    return _statistics(counts)


def _statistics(counts: Sequence[CitationCounts]) -> dict[str, Statistic]:
    """Means over replies, as ALCE's: ``recall``, ``precision`` (0 without a mark, empty replies left out);
    ``recall_worthy``, ``precision_worthy``: over worthy sentences, replies without one, or without a mark at one, left
    out; ``precision_marked``: over replies with a mark. Shares of all marks: ``well_formed``, ``off_card``,
    ``not_shown``.
    """
    table = np.array([astuple(row) for row in counts], dtype=int).reshape(-1, len(fields(CitationCounts)))
    of = {field.name: column for field, column in zip(fields(CitationCounts), table.T, strict=True)}
    said = of["sentences"] > 0
    return {
        "recall": _mean_share(of["supported"], of["sentences"], said),
        "precision": _mean_share(of["precise"], of["marks"], said),
        "recall_worthy": _mean_share(of["worthy_supported"], of["worthy"], of["worthy"] > 0),
        "precision_worthy": _mean_share(of["worthy_precise"], of["worthy_marks"], of["worthy_marks"] > 0),
        "precision_marked": _mean_share(of["precise"], of["marks"], of["marks"] > 0),
        "well_formed": Statistic(ratio, (of["marks"], of["marks"] + of["malformed"])),
        "off_card": Statistic(ratio, (of["off_card"], of["marks"])),
        "not_shown": Statistic(ratio, (of["not_shown"], of["marks"])),
    }


def _mean_share(part: np.ndarray, whole: np.ndarray, counted: np.ndarray) -> Statistic:
    """The mean of part / whole, 0 where the whole is 0, over the replies that are ``counted``."""
    return Statistic(ratio, (part / np.maximum(whole, 1), counted.astype(int)))
