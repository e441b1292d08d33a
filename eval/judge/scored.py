"""How good a reply is by itself: 1 to 5 in each of six dimensions, asked several times."""

from collections.abc import Iterable, Mapping

import numpy as np

from eval.intervals import mean, with_interval
from eval.judge.asking import Question
from eval.judge.prompts import DIMENSIONS, scored_prompt
from eval.judge.replies import Situation
from eval.judge.verdicts import parse_scores


def scored_questions(situations: Mapping[str, Situation], replies: Mapping[str, str], samples: int) -> list[Question]:
    """``samples`` questions per id."""
    return [
        Question("scored", name, None, sample, scored_prompt(situation, replies[name]), parse_scores)
        for name, situation in situations.items()
        for sample in range(samples)
    ]


def scored_measures(questions: Iterable[Question], scores: Iterable[dict[str, int] | None]) -> dict:
    """The mean of each dimension, 1 to 5, with its interval over ids, None if fewer than two ids are judged.

    Every id counts alike; ``ids_judged``: those with scores that could be read.
    """
    found: dict[str, list[list[int]]] = {}
    for question, score in zip(questions, scores, strict=True):
        if score:
            found.setdefault(question.id, []).append([score[name] for name in DIMENSIONS])
    columns = np.array([np.mean(samples, axis=0) for samples in found.values()]).T
    means = {
        name: with_interval(mean, columns[place]) if len(found) > 1 else None for place, name in enumerate(DIMENSIONS)
    }
    return {"ids_judged": len(found), "measures": means}
