"""What systems, each a model with a retriever, make of the same messages: measures, and differences to the base.

Every measure has its 95 % interval from a bootstrap over replies. The base is the first model with the first retriever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.choice import choice_statistics
from eval.intervals import Statistic, intervals, mean, paired_differences, ratio
from eval.judging import Judge
from eval.questions import Asked
from eval.replies import Line, reply_statistics
from eval.retrieval import recall_at

# What the verdict is over: (group, measure, which way is better).
HEADLINE = (
    ("likelihood", "loss_uses_fact", "lower"),
    ("likelihood", "hits_at_1", "higher"),
    ("text", "f1", "higher"),
    ("text", "rouge_l", "higher"),
    ("text", "bleu", "higher"),
    ("citations", "recall_worthy", "higher"),
    ("citations", "precision_marked", "higher"),
    ("consistency", "unsupported", "lower"),
)

Groups = dict[str, dict[str, Statistic]]


@dataclass(frozen=True)
class Answers:
    """What a system made of n messages. ``choices``: lines of ``eval.choice``; ``replies``: of ``eval.generation``."""

    model: str
    retriever: str
    choices: Sequence[Mapping]
    replies: Sequence[Line]

    def statistics(self, judge: Judge) -> Groups:
        """All measures, by group and name."""
        latency = {"p50_seconds": Statistic(np.median, (np.array([line.seconds for line in self.replies]),))}
        judged = reply_statistics(self.replies, [line.reply for line in self.replies], judge)
        return {"likelihood": choice_statistics(self.choices)} | judged | {"latency": latency}


def compare(systems: Sequence[Answers], judge: Judge) -> dict:
    """``systems`` with their measures and, but for the first, differences to it; ``true_replies``, which have no marks.

    ``judge``: says what facts support. Raises InputError if there are fewer than two messages.
    """
    base: Groups | None = None
    found = []
    for system in systems:
        statistics = system.statistics(judge)
        entry = {"model": system.model, "retriever": system.retriever}
        entry["measures"] = {group: intervals(measures) for group, measures in statistics.items()}
        if base is None:
            base = statistics
        else:
            entry["difference_to_base"] = {
                group: paired_differences(measures, base[group]) for group, measures in statistics.items()
            }
        found.append(entry)
    lines = systems[0].replies
    true = reply_statistics(lines, [line.reference for line in lines], judge)
    return {
        "n": len(lines),
        "n_uses_fact": sum(choice["uses_fact"] for choice in systems[0].choices),
        "base": {name: found[0][name] for name in ("model", "retriever")},
        "headline": [dict(zip(("group", "measure", "better"), each, strict=True)) for each in HEADLINE],
        "systems": found,
        "true_replies": {group: intervals(true[group]) for group in ("text", "consistency")},
    }


def retrieval_measures(asked: Asked) -> dict:
    """``recall_used``: recall@2 of the facts that the replies use, by those shown, over the replies that use one, left
    out if there are none; ``messages_shown_a_fact``: the share of all messages."""
    shown = [[hit.index for hit in sample.hits[-1]] for sample in asked.samples]
    used = [frozenset(fact - 1 for fact in question.record["used"]) for question in asked.questions]
    found = np.array([recall_at(2, *pair) if pair[1] else 0.0 for pair in zip(shown, used, strict=True)])
    counts = np.array([float(bool(facts)) for facts in used])
    any_shown = np.array([float(bool(facts)) for facts in shown])
    recall = {"recall_used": Statistic(ratio, (found, counts))} if counts.any() else {}
    return intervals(recall | {"messages_shown_a_fact": Statistic(mean, (any_shown,))})
