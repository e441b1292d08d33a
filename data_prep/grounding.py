"""Which of the facts shown a reply uses, by word overlap, and where the marks go.

A fact counts as used by the sentence that shares most of its telling words, if that is at least ``THRESHOLD`` of
them. Words are compared by their first ``STEM`` letters; stop words and words that fit any fact do not count.
Questions use no fact. Both constants were chosen on labelled replies of SPC's training split.
"""

import re
from collections.abc import Sequence

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from retrieval.text import mark
from retrieval.tfidf import TOKEN_PATTERN

THRESHOLD = 0.2
STEM = 5
_WORDS = re.compile(TOKEN_PATTERN)
_GENERIC = frozenset(
    ("day", "don", "enjoy", "favorite", "favourite", "good", "got", "great", "just", "know", "like", "ll", "lot",
     "love", "really", "thing", "things", "think", "time", "ve", "want")
)  # fmt: skip
_SENTENCE_GAP = re.compile(r"(?<=[.!?。！？])\s+|(?<=[。！？])(?=[^\s])")


def split_sentences(text: str) -> list[str]:
    """The sentences of ``text``, each with the white space that follows it: joined they give ``text`` again."""
    ends = [match.end() for match in _SENTENCE_GAP.finditer(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def telling_words(text: str) -> set[str]:
    """The stems of the words of ``text`` that can tell one fact from another."""
    words = _WORDS.findall(text.lower())
    return {word[:STEM] for word in words if word not in ENGLISH_STOP_WORDS and word not in _GENERIC}


def used_facts(reply: str, card: Sequence[str], shown: Sequence[int]) -> dict[int, int]:
    """Facts that ``reply`` uses, out of ``shown`` (numbers from 0), each with the number of its sentence."""
    sentences = [
        set() if sentence.rstrip().endswith(("?", "？")) else telling_words(sentence)
        for sentence in split_sentences(reply)
    ]
    used = {}
    for index in sorted(shown):
        words = telling_words(card[index])
        overlaps = [len(words & sentence) / len(words) if words else 0.0 for sentence in sentences]
        if max(overlaps) >= THRESHOLD:
            used[index] = overlaps.index(max(overlaps))
    return used


def add_marks(reply: str, used: dict[int, int]) -> str:
    """``reply`` with the mark of each used fact after its sentence: ``I play tennis. [P1] And you?``"""
    marked = ""
    for number, sentence in enumerate(split_sentences(reply)):
        marks = "".join(mark(index) for index, place in sorted(used.items()) if place == number)
        body = sentence.rstrip()
        marked += f"{body} {marks}{sentence[len(body) :]}" if marks else sentence
    return marked
