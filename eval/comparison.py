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


@dataclass(frozen=True, eq=False)
class System:
    """A model with a retriever, and what it made of n messages.

    ``choices``: lines of ``eval.choice``; ``replies``: of ``eval.generation``.
    """

    model: str
    retriever: str
    choices: Sequence[Mapping]
    replies: Sequence[Line]

    def statistics(self, judge: Judge) -> Groups:
        """All measures, by group and name."""
        cut = np.array([float(line.finish_reason == "length") for line in self.replies])
        latency = {
            "p50_seconds": Statistic(np.median, (np.array([line.seconds for line in self.replies]),)),
            "cut": Statistic(mean, (cut,)),
        }
        judged = reply_statistics(self.replies, [line.reply for line in self.replies], judge)
        return {"likelihood": choice_statistics(self.choices)} | judged | {"latency": latency}

    def per_reply(self, groups: Groups) -> list[dict]:
        """A line for each message: its ``id``, and by group and name what it brings to each of ``groups``.

        One number: they take the mean (of seconds the median; of distinct-2 it is a pseudo-value). Two: they divide the
        sums (of perplexity, e to the power of that); a message with 0 of 0 does not count. Ten: BLEU's counts.
        """
        return [
            {"id": line.id}
            | {
                group: {name: [round(values[number].item(), 5) for values in one.values] for name, one in found.items()}
                for group, found in groups.items()
            }
            for number, line in enumerate(self.replies)
        ]


def compare(statistics: Mapping[System, Groups], judge: Judge) -> dict:
    """Systems with their measures and their paired differences: ``difference_to_base``, the first system;
    ``difference_by_model``, to the first model with the same retriever; ``difference_by_retriever``, to the same model
    with the first retriever. Also ``true_replies``, which have no marks.

    ``statistics``: of each system, by ``judge``, which says what facts support. Raises InputError if there are fewer
    than two messages.
    """
    base = next(iter(statistics))
    named = {(system.model, system.retriever): groups for system, groups in statistics.items()}
    first = (base.model, base.retriever)
    lines = base.replies
    true = reply_statistics(lines, [line.reference for line in lines], judge)
    return {
        "n": len(lines),
        "n_uses_fact": sum(choice["uses_fact"] for choice in base.choices),
        "base": dict(zip(("model", "retriever"), first, strict=True)),
        "headline": [dict(zip(("group", "measure", "better"), each, strict=True)) for each in HEADLINE],
        "systems": [_entry(model, retriever, named, first) for model, retriever in named],
        "true_replies": {group: intervals(true[group]) for group in ("text", "consistency")},
    }


def _entry(model: str, retriever: str, statistics: Mapping[tuple[str, str], Groups], first: tuple[str, str]) -> dict:
    own = statistics[model, retriever]
    others = {
        "difference_to_base": first,
        "difference_by_model": (first[0], retriever),
        "difference_by_retriever": (model, first[1]),
    }
    entry = {"model": model, "retriever": retriever}
    entry |= {"measures": {group: intervals(measures) for group, measures in own.items()}}
    return entry | {
        name: {group: paired_differences(measures, statistics[other][group]) for group, measures in own.items()}
        for name, other in others.items()
        if other != (model, retriever)
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
