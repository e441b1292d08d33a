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
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import openai

from data_prep.errors import InputError
from data_prep.provenance import git_hash
from data_prep.samples import Sample
from eval.answer_file import answer_all
from eval.arguments import positive
from eval.questions import Asked, add_options, messages_of, open_split
from inference.client import first_model, open_api, sentence_of
from inference.served import BASE_URL
from retrieval.text import mark

MAX_TOKENS = 128  # as most of llamafactory_configs/serve


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


def generate(asked: Asked, config: dict, out: Path, reply: Callable[[list[dict]], dict]) -> int:
    """Append what ``out`` does not hold yet of the replies, and give how many it held before.

    ``reply``: what ``ask`` gives for a prompt. ``config``: what is written beside ``out``, along with ``asked.config``.
    Raises InputError as ``answer_all`` does, and what ``reply`` raises; what was replied until then is
    kept.
    """

    def answer(number: int) -> dict:
        sample = asked.samples[number]
        facts = {"retrieved": retrieved(sample)}
        return asked.questions[number].record | facts | reply(messages_of(sample))

    whole = {"git": git_hash()} | config | asked.config | {"temperature": 0}
    return answer_all(out, whole, asked.ids, answer)


def run(arguments: argparse.Namespace) -> str:
    """Do what the command says, and tell it in a sentence. Raises InputError, ValueError and openai.APIError."""
    split = open_split(arguments.spc, arguments.split)
    asked = split.asked(arguments.samples, arguments.seed, arguments.retriever)
    # The key that LLaMA-Factory's API is started with; `openai` wants one even where the server does not.
    api = open_api(arguments.base_url, os.environ.get("API_KEY") or "none")
    model = arguments.model or first_model(api)
    config = {"served": arguments.served, "model": model, "max_tokens": arguments.max_tokens}
    done = generate(asked, config, arguments.out, lambda messages: ask(api, model, messages, arguments.max_tokens))
    return f"{len(asked.ids):,} replies in {arguments.out}, {len(asked.ids) - done:,} of them new."


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
