"""Replies of a served model to the questions of a split, one JSON object a line:
``python -m eval.generation --base-url http://127.0.0.1:8000/v1 --spc hub --samples 300 --retriever small --out FILE``.

The prompt is that of training under the same retriever (``eval.questions``), with the true earlier turns. ``none``
shows no facts under the same system line: an untouched model (``make serve CONFIG=qwen3-1.7b/base``) with ``none`` is
"base answering directly", which knows of the card only what the true earlier replies tell.

Beside FILE lies FILE.config.json: commit, settings, and hashes of the sample and of the prompts. Started again, the
command goes on after the last whole line, if all of these but the commit are the same: where a commit changes what is
asked, the hash of the prompts tells. Decoding is greedy, so the result is the same but for the seconds.
"""

import argparse
import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import openai
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.provenance import git_hash, sha256
from data_prep.samples import Sample
from data_prep.sources import find_files
from eval.arguments import positive
from eval.questions import SYSTEM, Question, add_options, draw, read_questions, sample_hash, shown
from inference.client import first_model, open_api, sentence_of
from inference.served import BASE_URL
from retrieval.text import mark

MAX_TOKENS = 128  # as in llamafactory_configs/serve


def messages_of(sample: Sample) -> list[dict]:
    """The prompt for the last reply of ``sample``, in OpenAI's form."""
    roles = ("user", "assistant")
    turns = [{"role": roles[number % 2], "content": turn} for number, turn in enumerate(sample.turns[:-1])]
    return [{"role": "system", "content": SYSTEM}, *turns]


def retrieved(sample: Sample) -> list[dict]:
    """The facts shown with the last message, best first."""
    card = sample.dialogue.card
    return [{"mark": mark(hit.index), "fact": card[hit.index], "score": round(hit.score, 4)} for hit in sample.hits[-1]]


def ask(api: openai.OpenAI, model: str, messages: list[dict], max_tokens: int) -> dict:
    """``reply``, ``seconds`` that it took and ``finish_reason``, which is ``length`` if ``max_tokens`` cut it off.

    Raises openai.APIError if the API fails, and InputError if its answer is none.
    """
    start = time.perf_counter()
    answer = api.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=max_tokens)
    seconds = time.perf_counter() - start
    try:
        choice = answer.choices[0]
        text = choice.message.content or ""
    except (AttributeError, IndexError, TypeError):
        raise InputError(f"The API's answer is not in OpenAI's form: {str(answer)[:200]!r}.") from None
    return {"reply": text, "seconds": round(seconds, 3), "finish_reason": choice.finish_reason}


def config_path(out: Path) -> Path:
    """Where it stands how ``out`` was made."""
    return out.with_name(f"{out.name}.config.json")


def check_config(out: Path, config: dict) -> None:
    """Note ``config`` beside ``out``. Raises InputError if ``out`` was begun with another."""
    beside = config_path(out)
    if beside.is_file():
        try:
            begun = dict(json.loads(beside.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise InputError(f"{beside} cannot be read; move it and {out.name} away.") from None
        changed = [name for name in config if name != "git" and begun.get(name) != config[name]]
        if changed:
            name = changed[0]
            raise InputError(
                f"{out} was begun with {name} {begun.get(name)!r}, not {config[name]!r}; name another --out, or move it"
                f" and {beside.name} away."
            )
        return
    if out.stat().st_size:
        raise InputError(f"{out} has no {beside.name}, which says how it was made; name another --out.")
    staging = beside.with_name(f".{beside.name}.staging")
    staging.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    staging.replace(beside)


def whole_lines(out: Path, questions: Sequence[Question]) -> tuple[int, int]:
    """How many replies ``out`` holds, and the bytes that they take; a line cut in the middle does not count.

    Raises InputError if they are not the replies to the first of ``questions``.
    """
    content = out.read_bytes()
    size = content.rfind(b"\n") + 1
    lines = content[:size].split(b"\n")[:-1]
    for number, line in enumerate(lines):
        try:
            same = json.loads(line)["id"] == questions[number].id
        except (ValueError, TypeError, LookupError):
            same = False
        if not same:
            raise InputError(f"{out}, line {number + 1} is not the reply that belongs there; move the file away.")
    return len(lines), size


def generate(
    api: openai.OpenAI, config: dict, questions: Sequence[Question], samples: Sequence[Sample], out: Path
) -> int:
    """Ask what ``out`` does not hold yet, append the replies to it, and return how many it held before.

    ``samples``: the questions' with facts. Raises InputError if ``out`` is of another run or being written, and
    openai.APIError if the API fails; what was replied until then is kept.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = out.open("ab")
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); name another --out.") from None
    with file:
        _lock(file, out)
        check_config(out, config)
        done, size = whole_lines(out, questions)
        file.truncate(size)
        left = list(zip(questions, samples, strict=True))[done:]
        for question, sample in tqdm(left, initial=done, total=len(questions), desc=out.name, unit="reply"):
            answer = ask(api, config["model"], messages_of(sample), config["max_tokens"])
            # In ASCII: half of a surrogate pair, which a model's reply can hold, has no UTF-8.
            line = json.dumps(question.record | {"retrieved": retrieved(sample)} | answer)
            file.write(line.encode() + b"\n")
            file.flush()
    return done


def _lock(file: BinaryIO, out: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"Another run is writing {out}; wait until it has ended.") from None


def run(arguments: argparse.Namespace) -> str:
    """Do what the command says, and tell it in a sentence. Raises InputError, ValueError and openai.APIError."""
    path = find_files(arguments.spc)[arguments.split]
    questions = draw(read_questions(path, arguments.split), arguments.samples, arguments.seed)
    samples, identity = shown(questions, arguments.retriever)
    # The key that LLaMA-Factory's API is started with; `openai` wants one even where the server does not.
    api = open_api(arguments.base_url, os.environ.get("API_KEY") or "none")
    prompts = json.dumps([messages_of(sample) for sample in samples]).encode()
    config = {
        "git": git_hash(),
        "served": arguments.served,
        "model": arguments.model or first_model(api),
        "retriever": arguments.retriever,
        "retriever_identity": identity,
        "split": arguments.split,
        "seed": arguments.seed,
        "samples": len(questions),
        "temperature": 0,
        "max_tokens": arguments.max_tokens,
        "input_sha256": {path.name: sha256(path)},
        "sample_sha256": sample_hash(questions),
        "prompts_sha256": hashlib.sha256(prompts).hexdigest(),
    }
    done = generate(api, config, questions, samples, arguments.out)
    return f"{len(questions):,} replies in {arguments.out}, {len(questions) - done:,} of them new."


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.generation", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--base-url", default=BASE_URL, help=f"of the API (default: {BASE_URL})")
    add("--model", help="name of the served model (default: the first the API lists)")
    add("--served", metavar="WHAT", help="what is served, for the record, such as base: the API's names may not tell")
    add_options(parser)
    add("--max-tokens", type=positive, default=MAX_TOKENS, help=f"length of a reply at most (default: {MAX_TOKENS})")
    add("--out", type=Path, required=True, metavar="FILE", help="JSON Lines; started again, the command goes on there")
    arguments = parser.parse_args()
    try:
        print(run(arguments))
    except (InputError, ValueError) as error:
        _stop(str(error), 2)
    except openai.APIError as error:
        _stop(sentence_of(error, arguments.base_url), 2)
    except KeyboardInterrupt:
        _stop("Stopped; the same command goes on from here.", 130)


def _stop(sentence: str, code: int) -> None:
    print(sentence, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
