"""From the command line to a Responder: what the gateway and the chat have in common."""

import argparse
import os
from pathlib import Path

from data_prep.labellers.base import Labeller
from inference.backend import KINDS, Backend
from inference.memory import MODES, Memory
from inference.prompts import PromptBuilder
from inference.responder import CITATIONS, Responder
from inference.served import BASE_URL
from inference.tokens import TokenCounter
from retrieval.registry import load_retriever
from retrieval.store import FactStore

SHORTEST = 256  # tokens: of less, the instructions leave nothing


def add_options(parser: argparse.ArgumentParser) -> None:
    """What ``build_responder`` reads, and how replies are made if nothing else is asked."""
    add = parser.add_argument
    add("--backend", "--base-url", default=BASE_URL, metavar="URL",
        help=f"the API that has the model (default: {BASE_URL})")  # fmt: skip
    add("--backend-kind", choices=KINDS, default="llamafactory", help="openai: it takes all that OpenAI's API takes")
    add("--backend-model", metavar="NAME", help="name of the served model (default: the first the backend lists)")
    add("--timeout", type=float, default=120, metavar="SECONDS", help="for the backend's next word (default: 120)")
    add("--retriever", type=Path, default=Path("data/retriever.json"), help="what `make data` saved")
    add("--documents", type=Path, help="what `python -m retrieval.documents` wrote (default: none)")
    add("--tokenizer", help="of the model, a folder or a hub name, to count tokens (default: estimated from bytes)")
    add("--max-length", type=int, default=2048, help="tokens of prompt and reply at most (default: 2048)")
    add("--memory", choices=MODES, default="drop", help="what happens to turns that do not fit (default: drop)")
    add("--citations", choices=CITATIONS, default="model", help="verified: by the grounding labeller (default: model)")


def build_responder(arguments: argparse.Namespace) -> Responder:
    """The Responder that the command line asks for; the backend's key is in API_KEY. Raises ValueError."""
    try:
        retriever = load_retriever(arguments.retriever)
    except OSError:
        raise ValueError(
            f"{arguments.retriever} cannot be read; make it with `make data`, or name another with --retriever."
        ) from None
    if arguments.max_length < SHORTEST or not arguments.timeout > 0:
        raise ValueError(f"--max-length must be at least {SHORTEST}, and --timeout more than 0.")
    backend = Backend(
        arguments.backend, retriever, api_key=os.environ.get("API_KEY") or "none", kind=arguments.backend_kind,
        model=arguments.backend_model, timeout=arguments.timeout,
    )  # fmt: skip
    documents = FactStore.open(arguments.documents) if arguments.documents else None
    memory = Memory(TokenCounter(arguments.tokenizer), retriever, arguments.max_length)
    return Responder(PromptBuilder(retriever, documents), backend, memory, open_labeller)


def open_labeller() -> Labeller:
    """The grounding labeller that ships; PyTorch takes seconds to import."""
    from data_prep.labellers.encoder import EncoderLabeller
    from data_prep.labellers.precomputed import MODEL

    return EncoderLabeller(MODEL)
