"""What a model thinks of the true replies: their loss, and how often one is likelier than 19 others (hits@1):
``python -m eval.choice --model models/persona-tiny --spc sample --retriever small --out FILE.jsonl --json OUT``.

The loss is that of the reply as training has it, with the marks of the facts shown, over its tokens outside of marks,
those that end the turn included; in nats per token, as perplexity (exp of it), and per character of the reply, which
compares models with different tokenizers.

hits@1 is the measure of ConvAI2 (Dinan et al. 2019, https://arxiv.org/abs/1902.00098), with distractors drawn from
other conversations of the split. Candidates are ranked by perplexity. None has marks, since only those of the true one
would fit the facts; earlier replies in the prompt have theirs. By chance hits@1 is 1 / 20.

With 95 % intervals from a bootstrap over replies, also over the replies alone that use a fact of the card, by the
labels that ship. Started again, the command goes on after the last whole line of FILE.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from data_prep.errors import InputError
from data_prep.json_lines import json_lines
from data_prep.provenance import git_hash, sha256
from data_prep.samples import Sample
from eval.answer_file import answer_all
from eval.arguments import positive
from eval.intervals import RESAMPLES, SEED, Statistic, cell, intervals, ratio
from eval.models import weight_files
from eval.questions import SYSTEM, Asked, Question, add_options, open_split
from eval.results import check_writable, write_result
from retrieval.text import strip_marks

if TYPE_CHECKING:
    from eval.teacher_forced import TeacherForced

OTHERS = 19
USES_FACT = "_uses_fact"  # ends the names of measures over the replies that use a fact


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


def choose(scorer: "TeacherForced", question: Question, sample: Sample, pool: Sequence[Question], seed: int) -> dict:
    """A line about ``question``, whose facts ``sample`` has; ``pool``: all questions.

    ``rank``: of the true reply among the ``candidates``, ids of the questions whose replies they are, itself first; one
    that is as likely goes before it, so that a model with no opinion fails. ``nats``, ``tokens``, ``characters``: of
    the true reply, outside of marks.
    """
    from eval.mark_scores import align, outside_marks  # not before PyTorch is needed

    drawn = candidates(question, pool, seed)
    *prompt, true = sample.turns
    trained, *scores = scorer.score_replies(SYSTEM, prompt, [true, *(one.reference for one in drawn)])
    outside = outside_marks(true, align(scorer.tokenizer, true, trained.ids.tolist()))
    per_token = [-float(score.log_probabilities.mean(dtype=np.float64)) for score in scores]
    return {
        "id": question.id,
        "uses_fact": bool(question.record["used"]),
        "nats": round(-float(trained.log_probabilities[outside].sum(dtype=np.float64)), 5),
        "tokens": int(outside.sum()),
        "characters": len(strip_marks(true)),
        "rank": sum(nats <= per_token[0] for nats in per_token),
        "candidates": [one.id for one in drawn],
        "nats_per_token": [round(nats, 5) for nats in per_token],
    }


def _perplexity(nats: np.ndarray, tokens: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.exp(ratio(nats, tokens, axis))


def choice_statistics(lines: Sequence[Mapping]) -> dict[str, Statistic]:
    """Name to ``Statistic`` over lines of ``choose``: ``loss``, ``perplexity``, ``nats_per_character``, ``hits_at_1``,
    and the same with ``USES_FACT`` behind, which are left out if no reply uses a fact."""
    column = {name: np.array([line[name] for line in lines]) for name in ("nats", "tokens", "characters")}
    hits = np.array([float(line["rank"] == 1) for line in lines])
    uses_fact = np.array([float(line["uses_fact"]) for line in lines])
    found = {}
    for ending, weight in (("", np.ones_like(hits)), (USES_FACT, uses_fact)):
        if weight.any():
            nats, tokens, characters = (values * weight for values in column.values())
            found[f"loss{ending}"] = Statistic(ratio, (nats, tokens))
            found[f"perplexity{ending}"] = Statistic(_perplexity, (nats, tokens))
            found[f"nats_per_character{ending}"] = Statistic(ratio, (nats, characters))
            found[f"hits_at_1{ending}"] = Statistic(ratio, (hits * weight, weight))
    return found


def choose_all(
    scorer: "Callable[[], TeacherForced]", asked: Asked, pool: Sequence[Question], config: dict, out: Path
) -> int:
    """Append what ``out`` does not hold yet of the lines, and give how many it held before.

    ``config``: what is written beside ``out``, along with ``asked.config``. Raises InputError as ``answer_all`` does.
    """
    seed = asked.config["seed"]
    pairs = list(zip(asked.questions, asked.samples, strict=True))
    whole = {"git": git_hash()} | config | asked.config | {"others": OTHERS}
    return answer_all(out, whole, asked.ids, lambda number: choose(scorer(), *pairs[number], pool, seed))


def main() -> None:
    # PyTorch and LLaMA-Factory take seconds; nothing else here needs them.
    from eval.teacher_forced import TEMPLATE, TeacherForced

    parser = argparse.ArgumentParser(prog="python -m eval.choice", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--model", required=True, help="folder or hub id of the model")
    add("--adapter", help="output folder of a LoRA run on that model")
    add("--template", default=TEMPLATE, help=f"of LLaMA-Factory, as in training (default: {TEMPLATE})")
    add_options(parser)
    add("--batch-tokens", type=positive, metavar="N", help="at once through the model; fewer take less memory")
    add("--out", type=Path, required=True, metavar="FILE", help="JSON Lines; started again, the command goes on there")
    add("--json", type=Path, required=True, metavar="OUT", help="where to write the result")
    arguments = parser.parse_args()
    try:
        check_writable(arguments.json)
        split = open_split(arguments.spc, arguments.split)
        asked = split.asked(arguments.samples, arguments.seed, arguments.retriever)
        if len(asked.questions) < 2:
            raise InputError("An interval needs at least two replies; take more with --samples.")
        scorer = TeacherForced(arguments.model, arguments.adapter, arguments.template, arguments.batch_tokens)
        weights = weight_files(arguments.model, arguments.adapter)
        config = {name: getattr(arguments, name) for name in ("model", "adapter", "template")}
        config |= {"weights_sha256": {file.name: sha256(file) for file in weights}}
        config |= {"device": scorer.device.type, "dtype": str(scorer.dtype)}
        choose_all(lambda: scorer, asked, split.questions, config, arguments.out)
        lines = [line for _, line in json_lines(arguments.out)]
    except (InputError, ValueError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
    measures = intervals(choice_statistics(lines))
    config |= asked.config | {"others": OTHERS, "resamples": RESAMPLES, "bootstrap_seed": SEED}
    counts = {"n": len(lines), "n_uses_fact": sum(line["uses_fact"] for line in lines)}
    write_result(arguments.json, config, [split.path, *weights], counts | {"measures": measures})
    for name, measure in measures.items():
        print(f"{name:32}{cell(measure)}")


if __name__ == "__main__":
    main()
