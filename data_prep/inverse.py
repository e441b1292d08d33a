"""Inverse data: the message predicted from the reply to it and the facts shown, as an auxiliary task in training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data_prep.samples import Sample
from retrieval.prompt import fact_lines

# Here and not beside the prompt that serving uses: no one is ever served in this direction.
INVERSE_SYSTEM_PROMPTS = {
    "en": (
        "You are shown a person's reply and, as [P1], [P2] and so on, facts of that person; a mark in the reply says"
        " which fact the sentence before it uses. Write the message that the reply answers, briefly and naturally, in"
        " the words of the one who sent it. Write no marks."
    ),
    "zh": (
        "下面是某个人的一条回复,以及此人的 [P1]、[P2] 等事实;回复中的标记说明前面那句话用到了哪条事实。"
        "请以发消息者的口吻,简短自然地写出这条回复所回应的那条消息,不要写标记。"
    ),
}


@dataclass(frozen=True)
class InverseExchange:
    """``reply``: with its marks; ``facts``: those shown with the message, a line each; ``message``: without them."""

    reply: str
    facts: str
    message: str


def inverse_exchanges(samples: Sequence[Sample]) -> Iterator[InverseExchange]:
    """The exchanges whose reply cites a fact, in order, each on its own; those with a blank message are left out.

    A reply without a mark asks nothing of the facts: where none is shown, the message has to be guessed from the reply
    alone ("Sounds good!"), and where some are, they were retrieved with the message and would give it away without
    the reply. Facts that are shown beside the cited ones stay, so that the prompt is the one of the other direction.
    """
    for sample in samples:
        turns = sample.dialogue.turns
        exchanges = zip(turns[::2], turns[1::2], sample.exchanges, sample.hits, strict=True)
        for message, reply, exchange, hits in exchanges:
            if exchange.used.keys() & {hit.index for hit in hits} and not is_blank(message):
                yield InverseExchange(reply, fact_lines(sample.dialogue.card, hits), message)


def is_blank(text: str) -> bool:
    """Whether nothing of ``text`` can be seen: it is empty, or of spaces, control and zero-width characters alone."""
    return not any(character.isprintable() and not character.isspace() for character in text)
