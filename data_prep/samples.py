"""Conversations to samples: one per side, every reply with the facts retrieved for it and the marks it earns."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from data_prep.grounding import add_marks, used_facts
from data_prep.placeholders import fill, has_placeholder
from data_prep.reader import Conversation, Reject
from retrieval.base import Retriever
from retrieval.dialogue import Dialogue, Hit
from retrieval.text import neutralise

_SIDES = {
    "both": lambda conversation: (0, 1),
    "one": lambda conversation: (Random(f"side-{conversation.split}-{conversation.row}").randrange(2),),
}
SIDES, MISSED = tuple(_SIDES), ("keep", "show")


@dataclass(frozen=True)
class Sample:
    """One side's view of a conversation, the replies with their marks. ``hits``: the facts of each user turn."""

    split: str
    row: int
    side: int
    dialogue: Dialogue
    hits: list[list[Hit]]


def make_samples(
    conversations: Sequence[Conversation],
    retriever: Retriever,
    *,
    sides: str = "both",
    missed: str = "keep",
    only_grounded: bool = False,
) -> tuple[list[Sample], list[Reject]]:
    """Samples in the order of the conversations; sides without a single exchange are in the rejects.

    ``sides``: ``both`` gives two samples per conversation, ``one`` a single one, its side drawn from split and row.
    ``missed`` says what a turn shows whose reply uses a fact that retrieval did not find: ``keep`` shows what was
    retrieved, as serving will; ``show`` puts the used fact in the place of the weakest unused one. ``only_grounded``
    takes just the exchanges whose reply uses a fact of the card.
    """
    views, rejects = [], []
    for conversation in map(fill, conversations):
        for side in _SIDES[sides](conversation):
            exchanges, unused = _exchanges(conversation, side)
            rejects += unused
            if only_grounded:
                exchanges, unused = _split_by_grounding(conversation, side, exchanges)
                rejects += unused
            if exchanges:
                turns = [neutralise(text) for exchange in exchanges for text in exchange]
                views.append((conversation, side, Dialogue(conversation.cards[side], turns)))
            else:
                rejects.append(Reject(conversation.split, conversation.row, None, "side without an exchange", ""))
    found = retriever.retrieve([dialogue for _, _, dialogue in views])
    samples = []
    for (conversation, side, dialogue), hits in zip(views, found, strict=True):
        if missed == "show":
            hits = _used_facts_shown(dialogue, hits, retriever.k)
        samples.append(Sample(conversation.split, conversation.row, side, _with_marks(dialogue, hits), hits))
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


def _split_by_grounding(
    conversation: Conversation, side: int, exchanges: list[tuple[str, str]]
) -> tuple[list[tuple[str, str]], list[Reject]]:
    card = conversation.cards[side]
    grounded, rejects = [], []
    for message, reply in exchanges:
        if used_facts(reply, card, range(len(card))):
            grounded.append((message, reply))
        else:
            rejects.append(Reject(conversation.split, conversation.row, None, "reply uses no fact", reply))
    return grounded, rejects


def _used_facts_shown(dialogue: Dialogue, hits: list[list[Hit]], k: int) -> list[list[Hit]]:
    shown = []
    for reply, found in zip(dialogue.turns[1::2], hits, strict=True):
        used = used_facts(reply, dialogue.card, range(len(dialogue.card)))
        retrieved = {hit.index for hit in found}
        added = [Hit(index, 0.0) for index in used if index not in retrieved]
        ranked = [hit for hit in found if hit.index in used] + added + [hit for hit in found if hit.index not in used]
        shown.append(ranked[:k])
    return shown


def _with_marks(dialogue: Dialogue, hits: list[list[Hit]]) -> Dialogue:
    turns = list(dialogue.turns)
    for number, found in enumerate(hits):
        reply = turns[2 * number + 1]
        turns[2 * number + 1] = add_marks(reply, used_facts(reply, dialogue.card, [hit.index for hit in found]))
    return Dialogue(dialogue.card, turns)
