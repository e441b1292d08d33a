"""What one model makes of messages: likelihoods from the model itself, replies from it as it is served.

Both are files that grow by a line an answer, and go on where they were interrupted.
"""

import gc
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import openai

from data_prep.errors import InputError
from eval.choice import choose_all
from eval.generation import ask, generate
from eval.models import Model
from eval.questions import Asked, Split
from inference.client import first_model, open_api
from inference.serving import model_api
from llamafactory_configs.run_record import hardware

SECONDS_TO_START = 1800  # a model may have to be fetched first


@dataclass(frozen=True)
class Work:
    """A model, and the folder where its answers lie: another model, or the same with other weights, has another."""

    model: Model
    folder: Path

    def choices(self, asked: Asked) -> Path:
        return self.folder / f"{_name_of(asked)}.choices.jsonl"

    def replies(self, asked: Asked, max_tokens: int) -> Path:
        return self.folder / f"{_name_of(asked)}-{max_tokens}.replies.jsonl"

    def measures(self, asked: Asked, max_tokens: int, judge: str) -> Path:
        name = re.sub(r"[^\w.-]", "_", judge)
        return self.folder / f"{_name_of(asked)}-{max_tokens}-{name}.measures.jsonl"


def _name_of(asked: Asked) -> str:
    """Other messages, other labels and another retriever have another name."""
    return "{split}-{samples}-{retriever}-{sample_sha256:.8}-{prompts_sha256:.8}".format(**asked.config)


def work_of(root: Path, model: Model) -> Work:
    """Raises InputError if the folder cannot be written."""
    digest = hashlib.sha256(json.dumps(model.record, sort_keys=True).encode()).hexdigest()
    folder = root / f"{model.name.replace('/', '_')}-{digest:.8}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); name another --work.") from None
    return Work(model, folder)


def take_likelihoods(work: Work, split: Split, asked: Mapping[str, Asked]) -> None:
    """What the model thinks of the true replies under every retriever, into ``work``. Raises InputError."""

    @cache
    def scorer():
        from eval.teacher_forced import TeacherForced  # PyTorch takes seconds, and is not needed if all is there

        model = work.model
        return TeacherForced(model.model_name_or_path, model.adapter_name_or_path, model.template)

    config = {"model": work.model.record, "device": hardware()["gpus"] or "cpu"}
    for one in asked.values():
        choose_all(scorer, one, split.questions, config, work.choices(one))
    if scorer.cache_info().currsize:
        import torch

        scorer.cache_clear()
        gc.collect()
        torch.cuda.empty_cache()  # the API that comes next needs the memory


def take_replies(work: Work, asked: Sequence[Asked], max_tokens: int) -> None:
    """The replies of the model, served for as long as it takes, into ``work``.

    Raises InputError, also if the API fails, and NotServed if it does not start.
    """
    log = work.folder / "serve.log"
    with ExitStack() as stack:

        @cache
        def api() -> tuple[openai.OpenAI, str]:
            base_url = stack.enter_context(model_api(work.model.name, log=log, seconds=SECONDS_TO_START))
            client = open_api(base_url, os.environ.get("API_KEY") or "none")
            return client, first_model(client)

        config = {"model": work.model.record, "max_tokens": max_tokens}
        try:
            for one in asked:
                out = work.replies(one, max_tokens)
                generate(one, config, out, lambda messages: ask(*api(), messages, max_tokens))
        except openai.APIError as error:
            raise InputError(
                f"The API that serves {work.model.name} failed ({error.message}); see {log}, the same command goes on."
            ) from None
