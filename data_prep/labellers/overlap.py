"""``overlap``: a fact is used by the sentences that share its telling words. Needs nothing, misses much."""

import re
from collections.abc import Sequence

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from data_prep.labellers.base import Labeller, TurnLabels
from data_prep.reader import Conversation
from retrieval.lexical import TOKEN_PATTERN
from retrieval.sentences import split_sentences

# Chosen on labelled replies of SPC's training split.
THRESHOLD = 0.2  # least share of a fact's telling words
STEM = 5  # letters by which words are compared
_WORDS = re.compile(TOKEN_PATTERN)
# Words that fit any fact.
_GENERIC = frozenset(
    ("day", "don", "enjoy", "favorite", "favourite", "good", "got", "great", "just", "know", "like", "ll", "lot",
     "love", "really", "thing", "things", "think", "time", "ve", "want")
)  # fmt: skip


class OverlapLabeller(Labeller):
    """Word overlap; a question uses no fact."""

    def label(self, conversations: Sequence[Conversation]) -> list[TurnLabels]:
        """One dictionary per turn."""
        return [
            [used_facts(turn.text, conversation.cards[turn.side]) for turn in conversation.turns]
            for conversation in conversations
        ]


def telling_words(text: str) -> set[str]:
    """The stems of the words of ``text`` that can tell one fact from another."""
    words = _WORDS.findall(text.lower())
    return {word[:STEM] for word in words if word not in ENGLISH_STOP_WORDS and word not in _GENERIC}


def used_facts(reply: str, card: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """Facts of ``card`` that ``reply`` uses (numbers from 0), each with the numbers of its sentences."""
    sentences = [
        set() if sentence.rstrip().endswith(("?", "？")) else telling_words(sentence)
        for sentence in split_sentences(reply)
    ]
    used = {}
    for index, fact in enumerate(card):
        words = telling_words(fact)
        shared = [len(words & sentence) for sentence in sentences]
        if places := tuple(n for n, count in enumerate(shared) if count and count >= THRESHOLD * len(words)):
            used[index] = places
    return used
