"""Which of two replies is better, asked in both orders, several times each.

Judges prefer a place: swapping the replies and drawing several answers ("evidences") balances it (Wang et al. 2023,
"Large Language Models are not Fair Evaluators"). The bias itself is reported too.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from eval.intervals import mean, with_interval
from eval.judge.asking import Question
from eval.judge.prompts import pairwise_prompt
from eval.judge.replies import Situation
from eval.judge.verdicts import FIRST, SECOND, TIE, parse_verdict

ORDERS = ("AB", "BA")
MEASURES = ("win", "tie", "lose", "first_place", "second_place", "flipped")
Verdicts = Mapping[str, Mapping[str, Sequence[str | None]]]


def pairwise_questions(
    situations: Mapping[str, Situation], a: Mapping[str, str], b: Mapping[str, str], samples: int
) -> list[Question]:
    """``samples`` questions per order and id; ``a`` and ``b``: the replies of each side by id."""
    return [
        Question(
            "pairwise",
            name,
            order,
            sample,
            pairwise_prompt(situation, *((a[name], b[name]) if order == "AB" else (b[name], a[name]))),
            parse_verdict,
        )
        for name, situation in situations.items()
        for order in ORDERS
        for sample in range(samples)
    ]


def grouped(questions: Iterable[Question], verdicts: Iterable[str | None]) -> Verdicts:
    """The verdicts of each id in each order: ``first``, ``second``, ``tie``, None where none could be read."""
    found: dict[str, dict[str, list[str | None]]] = {}
    for question, verdict in zip(questions, verdicts, strict=True):
        found.setdefault(question.id, {order: [] for order in ORDERS})[question.order].append(verdict)
    return found


def for_a(verdict: str | None, order: str) -> str | None:
    """A verdict over places as one over A: ``win``, ``tie``, ``lose``; None stays None."""
    if verdict in (None, TIE):
        return verdict
    return "win" if (verdict == FIRST) == (order == "AB") else "lose"


def outcome(orders: Mapping[str, Sequence[str | None]]) -> np.ndarray:
    """The six ``MEASURES`` of one id, each from 0 to 1; shares count both orders alike, however many could be read.

    ``flipped``: 1 if A is ahead, level or behind in one order and not so in the other.
    """
    read = {order: [verdict for verdict in orders[order] if verdict] for order in ORDERS}

    def share(wanted: str, order: str) -> float:
        return float(np.mean([wanted in (verdict, for_a(verdict, order)) for verdict in read[order]]))

    shares = [np.mean([share(wanted, order) for order in ORDERS]) for wanted in ("win", TIE, "lose", FIRST, SECOND)]
    lead = [np.sign(share("win", order) - share("lose", order)) for order in ORDERS]
    return np.array([*shares, float(lead[0] != lead[1])])


def pairwise_measures(verdicts: Verdicts) -> dict:
    """Each of ``MEASURES`` with its interval over ids, None if fewer than two ids are judged.

    ``ids_judged``: with a verdict that could be read in each order; an id without is in no measure, since one order
    alone would let the judge's bias in.
    """
    judged = [orders for orders in verdicts.values() if all(any(orders[order]) for order in ORDERS)]
    columns = np.array([outcome(orders) for orders in judged]).T
    measures = {
        name: with_interval(mean, columns[place]) if len(judged) > 1 else None for place, name in enumerate(MEASURES)
    }
    return {"ids_judged": len(judged), "measures": measures}
