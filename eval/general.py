"""What fine-tuning cost elsewhere: ``python -m eval.general qwen3-1.7b/base qwen3-1.7b/lora --json OUT``.

Asks the untouched and the tuned model the questions of general benchmarks, by lm-evaluation-harness: the share that
each gets right, with 95 % intervals from a bootstrap over the questions, and the paired difference of the last model to
the first. Models are named as for `make serve`. Started again, the command goes on where it was interrupted.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.errors import InputError
from eval.answering import work_of
from eval.arguments import positive, whole
from eval.intervals import RESAMPLES, SEED, cell, mean, paired_difference, with_interval
from eval.models import Model, folder_of, open_model
from eval.results import check_writable, write_lines, write_result
from llamafactory_configs.config import find_config
from llamafactory_configs.run_record import hardware

if TYPE_CHECKING:
    from eval.harness import Answer, Benchmark

TASKS = "hellaswag,winogrande,arc_easy,arc_challenge,boolq,mmlu"
BATCH_SIZE = 8


def how(batch_size: int) -> dict:
    """What, besides model and question, an answer may depend on: a near tie falls one way or the other."""
    packages = {name: version(name) for name in ("lm_eval", "torch", "transformers", "peft")}
    return packages | {"batch_size": batch_size, "device": hardware()["gpus"] or "cpu"}


def answers_of(
    models: Sequence[Model], caches: Mapping[str, Path], benchmarks: Sequence["Benchmark"], asked: argparse.Namespace
) -> dict:
    """By model and benchmark, its answers; ``caches``: by model, where those given are kept. Raises InputError."""
    import torch

    from eval.harness import answer
    from eval.teacher_forced import load_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {}
    for model in models:
        print(f"== {model.name}", flush=True)
        path, adapter = model.model_name_or_path, model.adapter_name_or_path
        loaded = load_model(path, adapter, torch.bfloat16 if device == "cuda" else torch.float32).to(device).eval()
        tokenizer, few_shot, batch_size = str(folder_of(path)), asked.few_shot, asked.batch_size
        found[model.name] = answer(loaded, tokenizer, benchmarks, asked.limit, few_shot, batch_size, caches[model.name])
        del loaded  # before the next one comes: two may not fit
    return found


def compare(metric: str, answers: Mapping[str, Sequence["Answer"]]) -> dict:
    """Of one benchmark: the share of right answers of each model, and the difference of the last to the first.

    Raises ValueError if the models were not asked the same, InputError if there are fewer than two questions.
    """
    first, *others = answers.values()
    for other in others:
        if [one.question for one in other] != [one.question for one in first]:
            raise ValueError("The models were not asked the same questions.")
    if len(first) < 2:
        raise InputError("An interval needs at least two questions; ask for more with --limit.")
    correct = {name: np.array([one.correct for one in given], dtype=float) for name, given in answers.items()}
    names = list(correct)
    return {
        "metric": metric,
        "n": len(first),
        "models": {name: with_interval(mean, values) for name, values in correct.items()},
        "difference": paired_difference(mean, (correct[names[-1]],), (correct[names[0]],)),
    }


def questions_hash(answers: Sequence["Answer"]) -> str:
    """SHA-256 of what was asked, in its order."""
    return hashlib.sha256(json.dumps([one.question for one in answers]).encode()).hexdigest()


def write_answers(folder: Path, found: Mapping[str, Mapping[str, Sequence["Answer"]]]) -> None:
    """A file of JSON Lines for each model and benchmark, whole or not at all."""
    for model, benchmarks in found.items():
        for name, answers in benchmarks.items():
            write_lines(folder / f"{name}.{model.replace('/', '_')}.jsonl", map(asdict, answers))


def table(results: dict) -> str:
    """The result for people: a line for each benchmark, a column for each model."""
    names = [*next(iter(results.values()))["models"], "last - first"]
    lines = [f"{'':16}{'metric':>9}{'n':>8}" + "".join(f"{name[-25:]:>27}" for name in names)]
    for task, found in results.items():
        cells = map(cell, [*found["models"].values(), found["difference"]])
        lines.append(f"{task:16}{found['metric']:>9}{found['n']:8,}" + "".join(f"{text:>27}" for text in cells))
    return "\n".join(lines)


def measure(asked: argparse.Namespace) -> tuple[dict, dict]:
    """What the configuration of the result is, and the result. Raises InputError."""
    check_writable(asked.json)
    models = [open_model(name) for name in asked.models]
    if len(models) < 2 or len({model.name for model in models}) < len(models):
        raise InputError("Name two different models or more, the untouched one first.")
    records = [model.record for model in models]
    answered = how(asked.batch_size)
    digest = hashlib.sha256(json.dumps(answered, sort_keys=True).encode()).hexdigest()
    caches = {model.name: work_of(asked.work, model).folder / f"general-{digest:.8}" for model in models}
    from eval.harness import open_benchmarks  # takes seconds to import

    benchmarks = open_benchmarks(asked.tasks.split(","), asked.few_shot, asked.include_path)
    found = answers_of(models, caches, benchmarks, asked)
    by_task = {one.name: {model: answers[one.name] for model, answers in found.items()} for one in benchmarks}
    results = {one.name: compare(one.metric, by_task[one.name]) for one in benchmarks}
    if asked.out:
        write_answers(asked.out, found)
    config = {
        "tasks": {one.name: one.version for one in benchmarks},
        "limit": asked.limit,
        "few_shot": asked.few_shot,
        **answered,
        "models": records,
        "questions_sha256": {task: questions_hash(next(iter(given.values()))) for task, given in by_task.items()},
        "resamples": RESAMPLES,
        "bootstrap_seed": SEED,
    }
    return config, {"results": results}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.general", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL_CONFIG", help="e.g. qwen3-1.7b/base qwen3-1.7b/lora, or YAML files")
    add("--tasks", default=TASKS, help=f"of lm-evaluation-harness, with commas (default: {TASKS})")
    add("--limit", type=positive, metavar="N", help="the first N questions of each task only")
    add("--few-shot", type=whole, default=0, metavar="N", help="solved examples before each question (default: 0)")
    add(
        "--batch-size",
        type=positive,
        default=BATCH_SIZE,
        metavar="N",
        help=f"questions at once (default: {BATCH_SIZE})",
    )
    add("--include-path", type=Path, metavar="FOLDER", help="YAML files of tasks of your own")
    add("--work", type=Path, default=Path("saves/eval"), help="where answers are kept (default: saves/eval)")
    add("--out", type=Path, metavar="FOLDER", help="for every single answer, as JSON Lines")
    add("--json", type=Path, required=True, metavar="OUT", help="where to write the result")
    arguments = parser.parse_args()
    try:
        config, result = measure(arguments)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
    write_result(arguments.json, config, [find_config("serve", name) for name in arguments.models], result)
    print(table(result["results"]))


if __name__ == "__main__":
    main()
