"""General benchmarks of lm-evaluation-harness (Gao et al.), asked of a model: which of their questions it gets right.

The prompts are the harness's own, without a chat template, and an answer is chosen by its log-likelihood, as on the
Open LLM leaderboard. So nothing is said in the way that fine-tuning taught, and what it cost elsewhere shows.
"""

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import httpx
from lm_eval import simple_evaluate
from lm_eval.api.task import Task
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from peft import PeftModel
from transformers import PreTrainedModel

from data_prep.errors import InputError

# As on version 1 of the Open LLM leaderboard: length-normalised where answers differ much in length, else plain.
METRICS = {"hellaswag": "acc_norm", "arc_challenge": "acc_norm"}
METRIC = "acc"

# It warns of every single task whose number of examples is the one that was asked for.
logging.getLogger("lm_eval.evaluator").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Benchmark:
    """A task of the harness, or a group of them, such as mmlu, whose questions are pooled."""

    name: str
    version: str | float | None
    metric: str
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Answer:
    """Of a model to one question. ``task``: its own, within a group; ``hash``: of the question's text."""

    task: str
    id: int
    hash: str
    correct: bool

    @property
    def question(self) -> tuple[str, int, str]:
        """What was asked, without what was answered."""
        return self.task, self.id, self.hash


def open_benchmarks(names: Sequence[str], few_shot: int, include_path: Path | None = None) -> list[Benchmark]:
    """With their data, fetched if need be. ``include_path``: a folder with YAML files of further tasks.

    Raises InputError if there is no such benchmark, its data cannot be had, or it does not fit: no choice among
    answers, asked for twice, or no examples taken.
    """
    manager = TaskManager(include_path=include_path)
    known = {*manager.all_subtasks, *manager.all_groups}
    for name in names:
        if name not in known:
            near = ", ".join(get_close_matches(name, known)) or "one of `.venv/bin/lm_eval ls tasks`"
            raise InputError(f"lm-evaluation-harness has no task {name!r}; did you mean {near}?")
    found = [_open(manager, name) for name in names]
    tasks = [task for benchmark in found for task in benchmark.tasks]
    twice = {task.task_name for task in tasks if sum(task.task_name == other.task_name for other in tasks) > 1}
    if twice:
        raise InputError(f"--tasks asks for {min(twice)} twice; name each task once, and none that is in a group.")
    for task in tasks:
        if task.get_config("output_type") != "multiple_choice":
            raise InputError(f"{task.task_name} is no choice among answers; name a task that is, such as arc_easy.")
        if few_shot and task.get_config("num_fewshot") == 0:
            raise InputError(f"{task.task_name} takes no examples; leave --few-shot out.")
    return found


def _open(manager: TaskManager, name: str) -> Benchmark:
    """Raises InputError if its data cannot be had."""
    try:
        loaded = manager.load([name])
    except (OSError, httpx.HTTPError) as error:  # no network, no such data set, or a break in mid-download
        reason = " ".join(str(error).split())
        raise InputError(
            f"The data of {name} could not be had ({reason}); check the network, or name a mirror with HF_ENDPOINT=."
        ) from None
    own = loaded["groups"].get(name) or loaded["tasks"][name]
    version = own.version if name in loaded["groups"] else own.VERSION
    return Benchmark(name, version, METRICS.get(name, METRIC), tuple(loaded["tasks"].values()))


def answer(
    model: PreTrainedModel | PeftModel,
    tokenizer: str,
    benchmarks: Sequence[Benchmark],
    limit: int | None,
    few_shot: int,
    batch_size: int,
    cache: Path,
) -> dict[str, list[Answer]]:
    """By benchmark, the answers to the first ``limit`` questions of each of its tasks (None: to all), in their order.

    ``cache``: of this model alone, where the harness keeps what it has answered, and looks before it asks again.
    ``few_shot``: solved examples before each question, drawn by the harness's own fixed seed, the same for each model.
    Raises InputError if ``cache`` cannot be used.
    """
    # Loaded by us: of a path, the harness would cut the embeddings of a model with an adapter to its tokenizer's size.
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    tasks = [task for benchmark in benchmarks for task in benchmark.tasks]
    nothing_more = TaskManager(include_defaults=False)  # to look for the harness's tasks anew takes half a minute
    try:
        samples = simple_evaluate(
            lm, tasks=tasks, num_fewshot=few_shot, limit=limit, bootstrap_iters=0, task_manager=nothing_more,
            use_cache=str(cache),
        )["samples"]  # fmt: skip
    except sqlite3.Error as error:
        raise InputError(f"{cache}_rank0.db cannot be used ({error}); remove it, or name another --work.") from None
    return {
        benchmark.name: [
            Answer(task.task_name, sample["doc_id"], sample["doc_hash"], bool(sample[benchmark.metric]))
            for task in benchmark.tasks
            for sample in samples[task.task_name]
        ]
        for benchmark in benchmarks
    }
