"""Judges of whether facts support a sentence of a reply: what citations and consistency are measured with."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from data_prep.errors import InputError
from data_prep.labellers.base import Labeller
from data_prep.labellers.registry import LABELLERS
from data_prep.labellers.windows import CONTEXT
from data_prep.reader import Conversation, Turn
from retrieval.sentences import split_sentences
from retrieval.text import strip_marks

# ``supports(sentence, facts)``: whether ``facts`` together support ``sentence``, given as in ``plain_sentences``.
Supports = Callable[[str, Sequence[str]], bool]
# Of each of some conversations, what says which sentences of its reply, the last turn, facts support.
Judge = Callable[[Sequence[Conversation]], list[Supports]]

NLI = "nli:"
JUDGES = f"{', '.join(LABELLERS)}, or {NLI}MODEL, a model of natural-language inference by folder or hub id"


def open_judge(name: str) -> Judge:
    """Who judges, one of ``JUDGES``. Raises InputError if there is no such judge, or something it needs is missing."""
    if name.startswith(NLI):
        from eval.nli import NliJudge  # transformers takes seconds to import

        return NliJudge(name.removeprefix(NLI))
    if name not in LABELLERS:
        raise InputError(f"There is no judge {name!r}; choose {JUDGES}.")
    return partial(labeller_supports, LABELLERS[name]())


def plain_sentences(reply: str) -> list[str]:
    """The sentences of ``reply`` without marks and the spaces around them; one empty one if there is no text."""
    return [sentence.strip() for sentence in split_sentences(strip_marks(reply))]


def unmarked(conversation: Conversation) -> Conversation:
    """The same without marks."""
    return replace(conversation, turns=[Turn(turn.side, strip_marks(turn.text)) for turn in conversation.turns])


def labeller_supports(labeller: Labeller, conversations: Sequence[Conversation]) -> list[Supports]:
    """The judge of each reply, the last turn of its conversation; the labeller is asked once, about all of them.

    A labeller names each fact that a sentence uses, so several support it together if one of them does alone; what
    only two facts together would support is not supported. A sentence said twice has the labels of both places.
    """
    asked = [_for_labeller(conversation) for conversation in conversations]
    labels = labeller.label(asked)
    return [_judge(conversation, turns[-1]) for conversation, turns in zip(asked, labels, strict=True)]


def _for_labeller(conversation: Conversation) -> Conversation:
    """The responder's card alone, and no more turns than a labeller looks at: the others would only cost time."""
    said = unmarked(conversation)
    card = said.cards[said.turns[-1].side]
    cards = (card, []) if said.turns[-1].side == 0 else ([], card)
    return replace(said, cards=cards, turns=said.turns[-CONTEXT - 1 :])


def _judge(conversation: Conversation, used: dict[int, tuple[int, ...]]) -> Supports:
    """``used``: fact number to sentence numbers, of the last turn, which holds no marks any more."""
    reply = conversation.turns[-1]
    sentences, card = split_sentences(reply.text), conversation.cards[reply.side]
    found = {(sentences[place].strip(), card[fact]) for fact, places in used.items() for place in places}
    return lambda sentence, facts: any((sentence, fact) in found for fact in facts)
