"""Labellers by name."""

from collections.abc import Callable

from data_prep.labellers.base import Labeller
from data_prep.labellers.overlap import OverlapLabeller
from data_prep.labellers.precomputed import PrecomputedEncoder


def _llm() -> Labeller:
    from data_prep.labellers.llm import LlmLabeller  # openai takes half a second to import

    return LlmLabeller()


# To be called; that raises InputError if something that the labeller needs is missing.
LABELLERS: dict[str, Callable[[], Labeller]] = {
    "encoder": PrecomputedEncoder,
    "overlap": OverlapLabeller,
    "llm": _llm,
}
