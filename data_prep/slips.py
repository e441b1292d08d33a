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
    words = [[telling_words(fact) for fact in card] for card in conversation.cards]
    slipped = set()
    for number, turn in enumerate(conversation.turns):
        lower = turn.text.lower()
        facts = [
            stems
            for stems in words[1 - turn.side]
            if len(stems) >= LEAST_WORDS
            and all(stem in lower for stem in stems)
            and not any(stems <= own for own in words[turn.side])
        ]
        if facts:
            told = _told(conversation.turns[:number], 1 - turn.side)
            supported = {place for places in labels[number].values() for place in places}
            if _claims(turn.text, [stems for stems in facts if not stems <= told], supported):
                slipped.add(number)
    return slipped


def _told(turns: Sequence[Turn], side: int) -> set[str]:
    """The telling words of all that ``side`` has said, questions left out."""
    sentences = [sentence for turn in turns if turn.side == side for sentence in split_sentences(turn.text)]
    return telling_words(" ".join(sentence for sentence in sentences if not sentence.rstrip().endswith("?")))


def _claims(text: str, facts: Sequence[set[str]], supported: Collection[int]) -> bool:
    """Whether a sentence in the first person, not among ``supported``, holds all words of one of ``facts``."""
    for place, sentence in enumerate(split_sentences(text)):
        if place not in supported and _FIRST_PERSON.search(sentence) and not _NO_CLAIM.search(sentence):
            words = telling_words(sentence)
            if any(stems <= words for stems in facts):
                return True
    return False
