"""Conversations to samples: one per side, every reply with the facts retrieved for it and the marks it earns."""

from collections.abc import Sequence
from dataclasses import dataclass

from data_prep.grounding import add_marks, used_facts
from data_prep.placeholders import fill, has_placeholder
from data_prep.reader import Conversation, Reject
from retrieval.base import Retriever
from retrieval.dialogue import Dialogue, Hit
from retrieval.text import neutralise


@dataclass(frozen=True)
class Sample:
    """One side's view of a conversation, the replies with their marks. ``hits``: the facts of each user turn."""

    split: str
    row: int
    side: int
    dialogue: Dialogue
    hits: list[list[Hit]]


def make_samples(conversations: Sequence[Conversation], retriever: Retriever) -> tuple[list[Sample], list[Reject]]:
    """Two samples per conversation, in order, less those without a single exchange, which are in the rejects."""
    sides, rejects = [], []
    for conversation in map(fill, conversations):
        for side in (0, 1):
            exchanges, unused = _exchanges(conversation, side)
            rejects += unused
            if exchanges:
                turns = [neutralise(text) for exchange in exchanges for text in exchange]
                sides.append((conversation, side, Dialogue(conversation.cards[side], turns)))
            else:
                rejects.append(Reject(conversation.split, conversation.row, None, "side without a reply", ""))
    found = retriever.retrieve([dialogue for _, _, dialogue in sides])
    samples = [
        Sample(conversation.split, conversation.row, side, _with_marks(dialogue, hits), hits)
        for (conversation, side, dialogue), hits in zip(sides, found, strict=True)
    ]
    return samples, rejects


def _exchanges(conversation: Conversation, side: int) -> tuple[list[tuple[str, str]], list[Reject]]:
    """(message, reply) pairs in which ``side`` replies, and those left out for a placeholder nobody could fill.

    What the responder says before the other side has spoken, and a last message without reply, are in no pair: they
    belong to the other side's sample.
    """
    turns = conversation.turns[1:] if conversation.turns[0].side == side else conversation.turns
    exchanges, unused = [], []
    for message, reply in zip(turns[::2], turns[1::2], strict=False):
        if has_placeholder(message.text) or has_placeholder(reply.text):
            text = f"{message.text}\n{reply.text}"
            unused.append(Reject(conversation.split, conversation.row, None, "placeholder in an exchange", text))
        else:
            exchanges.append((message.text, reply.text))
    return exchanges, unused


def _with_marks(dialogue: Dialogue, hits: list[list[Hit]]) -> Dialogue:
    turns = list(dialogue.turns)
    for number, found in enumerate(hits):
        reply = turns[2 * number + 1]
        turns[2 * number + 1] = add_marks(reply, used_facts(reply, dialogue.card, [hit.index for hit in found]))
    return Dialogue(dialogue.card, turns)
