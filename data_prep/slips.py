"""Replies in which the sides slip: someone claims as their own a fact of the other side's card.

Found by words, and only where all of a fact's telling words are there: a careful rule that misses paraphrases.
"""

import re
from collections.abc import Collection, Sequence

from data_prep.labellers.base import TurnLabels
from data_prep.labellers.overlap import telling_words
from data_prep.reader import Conversation, Turn
from retrieval.sentences import split_sentences

LEAST_WORDS = 2  # telling words of a fact; those with fewer are too common to tell whose they are
_FIRST_PERSON = re.compile(r"\b(?:I|my|mine|we|our)\b", re.IGNORECASE)
# No claim about oneself as one is: a question, about the listener, denied, wished for, past, or in agreement.
_NO_CLAIM = re.compile(
    r"\?|n['’]t|\b(?:you|your|yours|not|never|no|wish|want|wanted|would|could|if|too|also|used)\b", re.IGNORECASE
)


def slipped_turns(conversation: Conversation, labels: TurnLabels) -> set[int]:
    """Turns with a sentence that claims a fact of the other card, while the other side has not told it before.

    ``labels``: what each turn uses of its speaker's own card; such sentences are no slips, nor is a fact that
    stands on both cards.
    """
    words = _card_words(conversation)
    supported = [{place for places in used.values() for place in places} for used in labels]
    return {n for n in range(len(conversation.turns)) if _slipped(conversation.turns[: n + 1], words, supported[n])}


def slipped_sentences(conversation: Conversation, supported: Collection[int]) -> set[int]:
    """Sentences of the last turn, numbered from 0, that claim a fact of the other card, by the same rule.

    ``supported``: those that a fact of the speaker's own card supports.
    """
    return _slipped(conversation.turns, _card_words(conversation), supported)


def claims_of_oneself(sentence: str) -> bool:
    """Whether ``sentence`` says something of its speaker, as far as words tell: in the first person, and as a plain
    statement, neither asked, denied nor wished for, nor about the listener."""
    return bool(_FIRST_PERSON.search(sentence)) and not _NO_CLAIM.search(sentence)


CardWords = list[list[set[str]]]


def _card_words(conversation: Conversation) -> CardWords:
    """The telling words of each fact of each card."""
    return [[telling_words(fact) for fact in card] for card in conversation.cards]


def _slipped(turns: Sequence[Turn], words: CardWords, supported: Collection[int]) -> set[int]:
    """Sentences of the last of ``turns``."""
    *before, turn = turns
    lower = turn.text.lower()
    facts = [
        stems
        for stems in words[1 - turn.side]
        if len(stems) >= LEAST_WORDS
        and all(stem in lower for stem in stems)
        and not any(stems <= own for own in words[turn.side])
    ]
    if not facts:
        return set()
    told = _told(before, 1 - turn.side)
    return _claiming(turn.text, [stems for stems in facts if not stems <= told], supported)


def _told(turns: Sequence[Turn], side: int) -> set[str]:
    """The telling words of all that ``side`` has said, questions left out."""
    sentences = [sentence for turn in turns if turn.side == side for sentence in split_sentences(turn.text)]
    return telling_words(" ".join(sentence for sentence in sentences if not sentence.rstrip().endswith("?")))


def _claiming(text: str, facts: Sequence[set[str]], supported: Collection[int]) -> set[int]:
    """Sentences that claim something of oneself, not among ``supported``, with all words of one of ``facts``."""
    found = set()
    for place, sentence in enumerate(split_sentences(text)):
        if place not in supported and claims_of_oneself(sentence):
            words = telling_words(sentence)
            if any(stems <= words for stems in facts):
                found.add(place)
    return found
