"""Whether generated replies keep to their speaker's card: claims that it does not support, and facts of the other's.

A claim is a sentence that ``data_prep.slips`` takes for one, by its words. Of 60 sentences of true SPC replies that it
takes for claims, 48 were ("I might just do that!" was not), and of 60 other statements 13 were ("I also love the
beach."), in the eyes of a language model that read them. An unsupported claim need not be wrong either: a card does not
hold a whole life, and true replies have many. The numbers compare systems on the same messages; they count no lies.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np

from data_prep.reader import Conversation
from data_prep.slips import claims_of_oneself, slipped_sentences
from eval.intervals import Statistic, mean, ratio
from eval.judging import Supports, plain_sentences, unmarked


@dataclass(frozen=True)
class ConsistencyCounts:
    """Sentences of one reply. ``claims``: about oneself; ``unsupported``: those that no fact of the own card supports;
    ``slips``: those of them that hold a fact of the other card, which the other side has not told before."""

    claims: int
    unsupported: int
    slips: int


def count_claims(conversation: Conversation, supports: Supports) -> ConsistencyCounts:
    """Of the reply that ends ``conversation``; the other card is empty where it is not known, and then no one slips."""
    reply = conversation.turns[-1]
    sentences, card = plain_sentences(reply.text), conversation.cards[reply.side]
    claims = {place for place, sentence in enumerate(sentences) if claims_of_oneself(sentence)}
    supported = {place for place in claims if any(supports(sentences[place], [fact]) for fact in card)}
    slips = slipped_sentences(unmarked(conversation), supported)
    return ConsistencyCounts(len(claims), len(claims - supported), len(slips))


def consistency_statistics(conversations: Sequence[Conversation], judges: Sequence[Supports]) -> dict[str, Statistic]:
    """Name to ``Statistic`` over replies: ``claims``, mean number a reply; ``unsupported``, share of all claims;
    ``replies_unsupported``, ``replies_slipped``, shares of replies with at least one."""
    counts = [
        count_claims(conversation, supports) for conversation, supports in zip(conversations, judges, strict=True)
    ]
    table = np.array([astuple(row) for row in counts], dtype=int).reshape(-1, len(fields(ConsistencyCounts)))
    claims, unsupported, slips = table.T
    return {
        "claims": Statistic(mean, (claims,)),
        "unsupported": Statistic(ratio, (unsupported, claims)),
        "replies_unsupported": Statistic(mean, ((unsupported > 0).astype(int),)),
        "replies_slipped": Statistic(mean, ((slips > 0).astype(int),)),
    }
