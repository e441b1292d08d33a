"""Labelled conversations to samples: one side's exchanges, every reply with the facts shown for it and its marks."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

from data_prep.labellers.base import TurnLabels
from data_prep.marks import add_marks
from data_prep.placeholders import has_placeholder
from data_prep.reader import Conversation, Reject
from data_prep.slips import slipped_turns
from retrieval.base import Retriever
from retrieval.dialogue import Dialogue, Hit
from retrieval.prompt import render
from retrieval.sentences import split_sentences
from retrieval.text import neutralise

_SIDES = {
    "both": lambda conversation: (0, 1),
    "one": lambda conversation: (Random(f"side-{conversation.split}-{conversation.row}").randrange(2),),
}
SIDES = tuple(_SIDES)


@dataclass(frozen=True)
class Exchange:
    """A message and the reply to it. ``used``: the facts of the card that the reply uses, with the sentences that do.

    ``turn``: number of the reply in its conversation.
    """

    turn: int
    message: str
    reply: str
    used: dict[int, tuple[int, ...]]


@dataclass(frozen=True)
class Sample:
    """Successive exchanges of one side of a conversation. ``hits``: the facts shown with each message."""

    split: str
    row: int
    side: int
    card: list[str]
    exchanges: list[Exchange]
    hits: list[list[Hit]]

    @cached_property
    def dialogue(self) -> Dialogue:
        """Messages and replies, with a mark after each sentence that uses a fact shown."""
        turns = []
        for exchange, hits in zip(self.exchanges, self.hits, strict=True):
            shown = {hit.index for hit in hits}
            marked = {fact: sentences for fact, sentences in exchange.used.items() if fact in shown}
            turns += [exchange.message, add_marks(exchange.reply, marked)]
        return Dialogue(self.card, turns)

    @cached_property
    def turns(self) -> list[str]:
        """Messages with their facts, and replies, as the model sees them."""
        return render(self.dialogue, self.hits)


@dataclass(frozen=True)
class SampleSettings:
    """``sides``: ``both`` gives a sample for either side of a conversation, ``one`` for one drawn from split and row.

    ``missed``: what becomes of a reply that uses a fact which retrieval did not find, see ``MISSED``.
    ``distractors``: of the replies that use no fact, the share that keep the facts found for them; the others show
    none. ``only_grounded``: take just the exchanges whose reply uses a fact.
    """

    sides: str = "both"
    missed: str = "show"
    distractors: float = 1.0
    only_grounded: bool = False


def make_samples(
    conversations: Sequence[Conversation],
    labels: Sequence[TurnLabels],
    retriever: Retriever,
    settings: SampleSettings = SampleSettings(),
) -> tuple[list[Sample], list[Reject]]:
    """Samples in the order of the conversations, and what is left out of them with its reason.

    An exchange that is left out ends its sample, and the one after it begins another: history and facts of every
    sample are what serving would see.
    """
    pending, rejects = [], []
    for conversation, turn_labels in zip(conversations, labels, strict=True):
        slipped = slipped_turns(conversation, turn_labels)
        for side in _SIDES[settings.sides](conversation):
            view = _view(conversation, side, turn_labels)
            left_out = _slipped(view, slipped) | _unfillable(view)
            if settings.only_grounded:
                left_out = _ungrounded(view) | left_out
            parts, unused = _without(view, left_out)
            rejects += unused
            pending += parts
            if not parts:
                rejects.append(Reject(conversation.split, conversation.row, None, "side without an exchange", ""))
    samples = []
    while pending:
        found = retriever.retrieve([view.dialogue for view in pending])
        again = []
        for view, hits in zip(pending, found, strict=True):
            shown = replace(view, hits=_distractors_thinned(view, hits, settings.distractors))
            parts, unused = MISSED[settings.missed].apply(shown, retriever.settings.k)
            rejects += unused
            if [part.exchanges for part in parts] == [view.exchanges]:
                samples += parts
            else:
                again += parts
        pending = again
    return sorted(samples, key=lambda sample: (sample.row, sample.side, sample.exchanges[0].turn)), rejects


def _view(conversation: Conversation, side: int, labels: TurnLabels) -> Sample:
    """All exchanges in which ``side`` replies, no facts shown yet.

    What the responder says before the other side has spoken, and a last message without reply, are in no exchange:
    they belong to the other side's sample.
    """
    turns = conversation.turns
    first = 1 if turns[0].side == side else 0
    exchanges = [
        Exchange(number + 1, neutralise(turns[number].text), neutralise(turns[number + 1].text), labels[number + 1])
        for number in range(first, len(turns) - 1, 2)
    ]
    return Sample(
        conversation.split, conversation.row, side, conversation.cards[side], exchanges, [[]] * len(exchanges)
    )


def _without(view: Sample, left_out: dict[int, str]) -> tuple[list[Sample], list[Reject]]:
    """The stretches of ``view`` between the exchanges ``left_out`` (their places, with reasons), and the rejects."""
    parts, start = [], 0
    for end in [*sorted(left_out), len(view.exchanges)]:
        if start < end:
            parts.append(replace(view, exchanges=view.exchanges[start:end], hits=view.hits[start:end]))
        start = end + 1
    rejects = [
        Reject(view.split, view.row, None, reason, f"{view.exchanges[place].message}\n{view.exchanges[place].reply}")
        for place, reason in sorted(left_out.items())
    ]
    return parts, rejects


def _unfillable(view: Sample) -> dict[int, str]:
    return {
        place: "placeholder in an exchange"
        for place, exchange in enumerate(view.exchanges)
        if has_placeholder(exchange.message) or has_placeholder(exchange.reply)
    }


def _slipped(view: Sample, turns: Collection[int]) -> dict[int, str]:
    return {
        place: "reply states a fact of the other side"
        for place, exchange in enumerate(view.exchanges)
        if exchange.turn in turns
    }


def _ungrounded(view: Sample) -> dict[int, str]:
    return {place: "reply uses no fact" for place, exchange in enumerate(view.exchanges) if not exchange.used}


def _distractors_thinned(view: Sample, hits: list[list[Hit]], share: float) -> list[list[Hit]]:
    def kept(exchange: Exchange) -> bool:
        return Random(f"distractors-{view.split}-{view.row}-{exchange.turn}").random() < share

    return [
        found if exchange.used or share == 1 or kept(exchange) else []
        for exchange, found in zip(view.exchanges, hits, strict=True)
    ]


def _keep(view: Sample, k: int) -> tuple[list[Sample], list[Reject]]:
    return [view], []


def _show(view: Sample, k: int) -> tuple[list[Sample], list[Reject]]:
    """Used facts that retrieval missed take the places of facts that the reply does not use.

    The place of an added fact is drawn, so that it does not tell which fact is used.
    """
    shown = []
    for exchange, found in zip(view.exchanges, view.hits, strict=True):
        hits = found
        if missed := sorted(exchange.used.keys() - {hit.index for hit in found}):
            unused = [hit for hit in found if hit.index not in exchange.used]
            surplus = unused[len(unused) - max(0, len(found) + len(missed) - k) :]
            hits = [hit for hit in found if hit not in surplus]
            random = Random(f"show-{view.split}-{view.row}-{exchange.turn}")
            for index in missed:
                hits.insert(random.randint(0, len(hits)), Hit(index, 0.0))
        shown.append(hits)
    too_many = {place: "reply uses more facts than k" for place, hits in enumerate(shown) if len(hits) > k}
    return _without(replace(view, hits=shown), too_many)


def _leave(view: Sample, k: int) -> tuple[list[Sample], list[Reject]]:
    return _without(view, dict.fromkeys(_unsupported(view), "reply uses a fact not shown"))


def _drop(view: Sample, k: int) -> tuple[list[Sample], list[Reject]]:
    exchanges = list(view.exchanges)
    left_out = {}
    for place, facts in _unsupported(view).items():
        used = exchanges[place].used
        if shorter := _without_sentences(exchanges[place], {number for fact in facts for number in used[fact]}):
            exchanges[place] = shorter
        else:
            left_out[place] = "reply uses a fact not shown"
    return _without(replace(view, exchanges=exchanges), left_out)


def _unsupported(view: Sample) -> dict[int, set[int]]:
    """Places of replies that use facts not shown, with those facts."""
    missed = (
        exchange.used.keys() - {hit.index for hit in hits}
        for exchange, hits in zip(view.exchanges, view.hits, strict=True)
    )
    return {place: facts for place, facts in enumerate(missed) if facts}


def _without_sentences(exchange: Exchange, numbers: set[int]) -> Exchange | None:
    sentences = split_sentences(exchange.reply)
    kept = [number for number in range(len(sentences)) if number not in numbers]
    if not kept:
        return None
    used = {
        fact: places
        for fact, numbers in exchange.used.items()
        if (places := tuple(kept.index(number) for number in numbers if number in kept))
    }
    return replace(exchange, reply="".join(sentences[number] for number in kept).strip(), used=used)


@dataclass(frozen=True)
class Policy:
    """``apply``: (sample, k) to the samples it becomes and what is left out; ``says``: the same in words."""

    apply: Callable[[Sample, int], tuple[list[Sample], list[Reject]]]
    says: str


# What becomes of a reply that uses a fact which retrieval did not find.
MISSED = {
    "show": Policy(_show, "the fact is shown all the same, in the place of a weaker one"),
    "drop": Policy(_drop, "the sentences that use it are cut out of the reply"),
    "leave": Policy(_leave, "the exchange is left out"),
    "keep": Policy(_keep, "facts and reply stay as they are, so that such a reply states what it was not shown"),
}
