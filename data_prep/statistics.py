"""What a build counts while it runs: rows, replies, marks, lengths, and what valid and test share with train."""

from collections import Counter
from collections.abc import Iterable, Sequence

from data_prep.labellers.base import TurnLabels
from data_prep.reader import Conversation, Reject
from data_prep.samples import Sample

COUNTED = (
    "conversations", "turns", "turns_with_placeholder_filled", "turns_using_facts", "samples", "replies",
    "replies_using_facts", "replies_shown_facts", "replies_with_marks", "replies_with_distractors_only",
    "replies_using_facts_not_shown",
)  # fmt: skip


class SplitStatistics:
    """Counts of one split that add up; memory grows with the number of distinct cards and facts only."""

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()
        self.reply_words: Counter[int] = Counter()
        self.message_words: Counter[int] = Counter()
        self.cards: set[int] = set()  # by hash, which is another one in another process: count a source in one
        self.facts: set[str] = set()

    def add_source(self, read: Sequence[Conversation], filled: Sequence[Conversation]) -> None:
        """Count conversations as read, and with their placeholders filled."""
        self.counts["conversations"] += len(read)
        for conversation, other in zip(read, filled, strict=True):
            pairs = zip(conversation.turns, other.turns, strict=True)
            self.counts["turns"] += len(conversation.turns)
            self.counts["turns_with_placeholder_filled"] += sum(turn != changed for turn, changed in pairs)
            self.cards.update(hash(tuple(card)) for card in conversation.cards)
            self.facts.update(fact for card in conversation.cards for fact in card)

    def add_labels(self, labels: Iterable[TurnLabels]) -> None:
        """Count the turns that use a fact of their speaker's card."""
        self.counts["turns_using_facts"] += sum(bool(used) for turns in labels for used in turns)

    def add_samples(self, samples: Iterable[Sample]) -> None:
        """Count what goes into the datasets."""
        for sample in samples:
            self.counts["samples"] += 1
            self.counts["replies"] += len(sample.exchanges)
            for exchange, hits in zip(sample.exchanges, sample.hits, strict=True):
                shown = {hit.index for hit in hits}
                self.counts["replies_using_facts"] += bool(exchange.used)
                self.counts["replies_shown_facts"] += bool(shown)
                self.counts["replies_with_marks"] += bool(exchange.used.keys() & shown)
                self.counts["replies_with_distractors_only"] += bool(shown) and not exchange.used.keys() & shown
                self.counts["replies_using_facts_not_shown"] += not exchange.used.keys() <= shown
                self.reply_words[len(exchange.reply.split())] += 1
                self.message_words[len(exchange.message.split())] += 1

    def add_rejects(self, rejects: Iterable[Reject]) -> None:
        """Count rejects by reason."""
        self.rejects.update(reject.reason for reject in rejects)

    def merge(self, other: "SplitStatistics") -> None:
        """Add the counts of another part of the split."""
        for name, mine in vars(self).items():
            mine.update(getattr(other, name))

    def summary(self) -> dict:
        """All of it as JSON types."""
        rows = self.counts["conversations"] + self.rejects["conversation without a turn"]
        return (
            {"rows_in": rows}
            | {name: self.counts[name] for name in COUNTED}
            | {
                "reply_words": quantiles(self.reply_words),
                "message_words": quantiles(self.message_words),
                "distinct_cards": len(self.cards),
                "distinct_facts": len(self.facts),
                "rejects": dict(sorted(self.rejects.items())),
            }
        )

    def shared_with(self, other: "SplitStatistics") -> dict[str, int]:
        """How many of the distinct cards and facts of this split stand in another one too."""
        return {"cards": len(self.cards & other.cards), "facts": len(self.facts & other.facts)}


def quantiles(histogram: Counter[int]) -> dict[str, int]:
    """Median, 95th percentile and maximum of values with their counts."""
    total, below, found = histogram.total(), 0, {}
    for value, count in sorted(histogram.items()):
        below += count
        for name, share in (("median", 0.5), ("p95", 0.95), ("max", 1.0)):
            if name not in found and below >= share * total:
                found[name] = value
    return found
