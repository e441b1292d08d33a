"""Preference pairs from samples: a grounded, rightly cited reply against one that grounds or cites wrongly."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from data_prep.labellers.overlap import telling_words, used_facts
from data_prep.marks import add_marks
from data_prep.samples import Exchange, Sample
from retrieval.sentences import split_sentences

# First-person claims and their opposites, for the rejected reply that contradicts its fact.
_STATE = (
    r"(?=(?:an?|the|from|in|at|on|my|\d+|married|divorced|single|vegan|vegetarian|allergic|retired|afraid|\w+ing)\b)"
)
_OPPOSITES = tuple(
    (re.compile(rf"\b{claim}"), opposite)
    for claim, opposite in (
        (r"I (?:don't|do not|didn't|never) ", "I "),
        (rf"I(?:'m| am) not {_STATE}", "I'm "),
        (r"I (?:can't|cannot|can not) ", "I can "),
        (rf"I(?:'m| am) {_STATE}", "I'm not "),
        (rf"I was {_STATE}", "I was never "),
        (r"I(?:'ve| have) never ", "I have "),
        (r"I(?:'ve| have) been ", "I have never been "),
        (r"I(?:'ve| have)(?: got)? ", "I don't have "),
        (r"I can ", "I can't "),
        (r"I (?:also |really |just |usually |often )*(like|love|enjoy|work|live|want|play|go|listen|watch|read|teach"
         r"|study|collect|cook|drive|eat|drink|run|write|sing|prefer|own|know|need|grow|make|travel|hate) ",
         r"I don't \1 "),
        (r"([Mm])y favou?rite ", r"\1y least favorite "),
    )
)  # fmt: skip
_CLAUSE_END = re.compile(r"[,;.!?]")


@dataclass(frozen=True)
class Preference:
    """Two replies to the last message of ``sample``, with their marks; ``kind``: what is wrong with the second."""

    sample: Sample
    chosen: str
    rejected: str
    kind: str


def preferences(samples: Sequence[Sample]) -> Iterator[Preference]:
    """One pair for each reply that uses facts and shows them all; its kind is drawn from those that can be made.

    ``another card``: what someone with other facts answered to the same message, under this card's marks (looked for
    in ``samples`` alone). ``wrong mark``: the right reply, citing other facts of the card, shown ones first.
    ``contradicted fact``: a claim turned into its opposite, mark and all.
    """
    answers = defaultdict(list)
    for sample in samples:
        for exchange in sample.exchanges:
            if exchange.used:
                answers[_question(exchange)].append(exchange)
    for sample in samples:
        for place, (exchange, hits) in enumerate(zip(sample.exchanges, sample.hits, strict=True)):
            shown = [hit.index for hit in hits]
            if not exchange.used or not exchange.used.keys() <= set(shown):
                continue
            random = Random(f"preference-{sample.split}-{sample.row}-{sample.side}-{exchange.turn}")
            others = [other for other in answers[_question(exchange)] if not used_facts(other.reply, sample.card)]
            made = {
                "another card": _another_card(others, shown, random),
                "wrong mark": _wrong_mark(exchange, shown, len(sample.card), random),
                "contradicted fact": _contradicted(exchange, sample.card),
            }
            chosen = add_marks(exchange.reply, exchange.used)
            kinds = [kind for kind, rejected in made.items() if rejected and rejected != chosen]
            if kinds:
                kind = random.choice(kinds)
                until = replace(sample, exchanges=sample.exchanges[: place + 1], hits=sample.hits[: place + 1])
                yield Preference(until, chosen, made[kind], kind)


def _question(exchange: Exchange) -> str:
    return " ".join(exchange.message.lower().split())


def _another_card(others: list[Exchange], shown: list[int], random: Random) -> str | None:
    if not others:
        return None
    exchange = random.choice(others)
    return add_marks(exchange.reply, dict(zip(random.sample(shown, len(shown)), exchange.used.values(), strict=False)))


def _wrong_mark(exchange: Exchange, shown: list[int], size: int, random: Random) -> str | None:
    """Each used fact's mark becomes that of a fact not used; as many marks as before, if the card has enough facts."""
    unused = [fact for fact in range(size) if fact not in exchange.used]
    random.shuffle(unused)
    wrong = sorted(unused, key=lambda fact: fact not in shown)
    if len(wrong) < len(exchange.used):
        return None
    return add_marks(exchange.reply, dict(zip(wrong, exchange.used.values(), strict=False)))


def _contradicted(exchange: Exchange, card: Sequence[str]) -> str | None:
    """A claim whose clause shares a word with a fact it rests on, turned into its opposite; None if there is none."""
    sentences = split_sentences(exchange.reply)
    places = [(fact, number) for fact, numbers in sorted(exchange.used.items()) for number in numbers]
    for fact, number in places:
        for claim, opposite in _OPPOSITES:
            for match in claim.finditer(sentences[number]):
                clause = _CLAUSE_END.split(sentences[number][match.start() :], maxsplit=1)[0]
                if telling_words(clause) & telling_words(card[fact]):
                    before, after = sentences[number][: match.start()], sentences[number][match.end() :]
                    sentences[number] = before + match.expand(opposite) + after
                    return add_marks("".join(sentences), exchange.used)
    return None
