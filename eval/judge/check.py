"""Pairs of replies that nobody would disagree about, written for this project: how often does the judge see it?

``eval/judge_check.jsonl``, in English and Chinese: a situation, the replies ``a`` and ``b``, and whether ``a`` should
``win``, ``tie`` or ``lose``. Five kinds: a reply that contradicts its card against one that fits; rude against kind;
gibberish against a sentence; a mark on the wrong fact against one on the right fact; and the same reply twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import InputError
from data_prep.json_lines import json_lines
from eval.intervals import mean, with_interval
from eval.judge.pairwise import ORDERS, Verdicts, for_a
from eval.judge.replies import Situation, situation_of, text_of

CHECK = Path(__file__).parents[1] / "judge_check.jsonl"
OUTCOMES = ("win", "tie", "lose")


@dataclass(frozen=True)
class CheckItem:
    """``expected``: what the verdict over ``a`` must be, of ``OUTCOMES``."""

    kind: str
    language: str
    situation: Situation
    a: str
    b: str
    expected: str


def read_check(path: Path = CHECK) -> dict[str, CheckItem]:
    """The items by id. Raises InputError for a line that is not as it must be."""
    items = {}
    for place, row in json_lines(path):
        name, *groups, a, b, expected = (
            text_of(row, key, place) for key in ("id", "kind", "language", "a", "b", "expected")
        )
        if expected not in OUTCOMES:
            raise InputError(f"{place}: 'expected' is {expected!r}; choose from {', '.join(OUTCOMES)}.")
        if name in items:
            raise InputError(f"{place}: the id {name!r} is there twice; give each item an id of its own.")
        items[name] = CheckItem(*groups, situation_of(row, place), a, b, expected)
    return items


def agreement(items: Mapping[str, CheckItem], verdicts: Verdicts) -> dict[str, dict]:
    """``accuracy``, the share of verdicts that are as expected, for all items, for each kind and each language.

    The interval is over ids. A verdict that could not be read is not as expected.
    """
    right = {
        name: np.mean([for_a(v, order) == item.expected for order in ORDERS for v in verdicts[name][order]])
        for name, item in items.items()
    }
    groups: dict[str, list[float]] = {}
    for name, item in items.items():
        for group in ("all", item.kind, item.language):
            groups.setdefault(group, []).append(right[name])
    return {
        group: {"ids": len(values), "accuracy": with_interval(mean, np.array(values))}
        for group, values in groups.items()
    }
