"""hits@1: how often a model finds the true reply likelier than 19 others:
``python -m eval.choice --model models/persona-tiny --spc sample --retriever small --out FILE.jsonl --json OUT``.

The measure of ConvAI2 (Dinan et al. 2019, https://arxiv.org/abs/1902.00098), with distractors drawn from other
conversations of the split. Candidates are ranked by perplexity, the mean nats per token, tokens that end the turn
included, in the template of training. No candidate has marks, since only those of the true one would fit the facts;
earlier replies in the prompt have theirs. By chance hits@1 is 1 / 20.

With a 95 % interval from a bootstrap over replies, also for the replies that use a fact of the card, by the labels
that ship, and for those that do not.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.samples import Sample
from data_prep.sources import find_files
from eval.arguments import positive
from eval.intervals import RESAMPLES, SEED, cell, with_interval
from eval.questions import SYSTEM, Question, add_options, draw, read_questions, sample_hash, shown
from eval.results import write_result

if TYPE_CHECKING:
    from eval.teacher_forced import TeacherForced

OTHERS = 19
TOGETHER = 16  # questions whose candidates are sorted by length and batched together


@dataclass(frozen=True)
class Choice:
    """How the candidates of a question fared.

    ``candidates``: ids of the questions whose replies they are, the true one first; ``nats``: per token, of each.
    """

    id: str
    uses_fact: bool
    candidates: list[str]
    nats: list[float]

    @property
    def rank(self) -> int:
        """Of the true reply, from 1; one that is as likely goes before it, so that a model with no opinion fails."""
        return sum(nats <= self.nats[0] for nats in self.nats)

    def line(self) -> str:
        """As a line of JSON Lines."""
        nats = [round(value, 5) for value in self.nats]
        return json.dumps({"id": self.id, "uses_fact": self.uses_fact, "rank": self.rank, "hit": self.rank == 1,
                           "candidates": self.candidates, "nats_per_token": nats}) + "\n"  # fmt: skip


def candidates(question: Question, pool: Sequence[Question], seed: int) -> list[Question]:
    """``question`` itself, and ``OTHERS`` of other conversations, drawn from ``seed``, no two replies alike.

    Raises InputError if ``pool`` has too few.
    """
    chosen, texts = [question], {question.reference}
    for other in Random(f"others-{seed}-{question.id}").sample(pool, len(pool)):
        if other.sample.row != question.sample.row and other.reference not in texts:
            chosen.append(other)
            texts.add(other.reference)
            if len(chosen) == OTHERS + 1:
                return chosen
    raise InputError(f"Other conversations than that of {question.id} have fewer than {OTHERS} replies.")


def choose(
    scorer: "TeacherForced", questions: Sequence[Question], samples: Sequence[Sample], pool: Sequence[Question],
    seed: int,
) -> list[Choice]:  # fmt: skip
    """How the candidates of each question fare. ``samples``: the questions' with facts; ``pool``: all questions."""
    found = []
    with tqdm(total=len(questions), desc="choice", unit="question") as bar:
        for start in range(0, len(questions), TOGETHER):
            group = questions[start : start + TOGETHER]
            drawn = [candidates(question, pool, seed) for question in group]
            prompts = [sample.turns[:-1] for sample in samples[start : start + TOGETHER]]
            asked = [(prompt, one.reference) for prompt, each in zip(prompts, drawn, strict=True) for one in each]
            scores = scorer.score_replies(SYSTEM, asked)
            nats = [-float(score.log_probabilities.mean(dtype=np.float64)) for score in scores]
            for number, (question, each) in enumerate(zip(group, drawn, strict=True)):
                own = nats[number * (OTHERS + 1) : (number + 1) * (OTHERS + 1)]
                uses_fact = bool(question.record["used"])
                found.append(Choice(question.id, uses_fact, [one.id for one in each], own))
            bar.update(len(group))
    return found


def _mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    return values.mean(axis)


def summarise(choices: Sequence[Choice]) -> dict[str, dict]:
    """hits@1 with its interval and ``n``; a group of fewer than two replies is left out.

    Raises InputError if there are fewer than two in all.
    """
    if len(choices) < 2:
        raise InputError("hits@1 needs at least two replies; take more with --samples.")
    groups = {"all": (True, False), "uses_fact": (True,), "uses_no_fact": (False,)}
    hits = {
        name: np.array([float(choice.rank == 1) for choice in choices if choice.uses_fact in members])
        for name, members in groups.items()
    }
    return {name: with_interval(_mean, some) | {"n": len(some)} for name, some in hits.items() if len(some) > 1}


def main() -> None:
    # PyTorch and LLaMA-Factory take seconds; nothing else here needs them.
    from eval.teacher_forced import TEMPLATE, TeacherForced, weight_files

    parser = argparse.ArgumentParser(prog="python -m eval.choice", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--model", required=True, help="folder or hub id of the model")
    add("--adapter", help="output folder of a LoRA run on that model")
    add("--template", default=TEMPLATE, help=f"of LLaMA-Factory, as in training (default: {TEMPLATE})")
    add_options(parser)
    add("--batch-tokens", type=positive, metavar="N", help="at once through the model; fewer take less memory")
    add("--out", type=Path, required=True, metavar="FILE", help="where to write each choice, JSON Lines")
    add("--json", type=Path, required=True, metavar="OUT", help="where to write the result")
    arguments = parser.parse_args()
    try:
        path = find_files(arguments.spc)[arguments.split]
        pool = read_questions(path, arguments.split)
        questions = draw(pool, arguments.samples, arguments.seed)
        samples, identity = shown(questions, arguments.retriever)
        scorer = TeacherForced(arguments.model, arguments.adapter, arguments.template, arguments.batch_tokens)
        choices = choose(scorer, questions, samples, pool, arguments.seed)
        hits = summarise(choices)
    except (InputError, ValueError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text("".join(choice.line() for choice in choices), encoding="utf-8")
    asked = {name: value for name, value in vars(arguments).items() if name not in ("out", "json", "spc")}
    config = asked | {"retriever_identity": identity, "sample_sha256": sample_hash(questions), "others": OTHERS,
                      "device": scorer.device.type, "dtype": str(scorer.dtype),
                      "resamples": RESAMPLES, "bootstrap_seed": SEED}  # fmt: skip
    inputs = [path, *weight_files(arguments.model, arguments.adapter)]
    write_result(arguments.json, config, inputs, {"chance": 1 / (OTHERS + 1), "hits_at_1": hits})
    for name, measure in hits.items():
        print(f"hits@1  {name:14}{cell(measure)}   n={measure['n']:,}")


if __name__ == "__main__":
    main()
