"""An OpenAI-compatible API whose models are persons: ``python -m inference.gateway`` (``make gateway``).

Stands before any OpenAI-compatible backend, LLaMA-Factory's API by default. A page to talk on is at its address.
"""

import argparse
import logging
import os
import socket
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from inference.backend import KINDS, Backend
from inference.gateway.app import create_app
from inference.gateway.completions import Defaults
from inference.gateway.keys import read_keys
from inference.gateway.store import Store
from inference.memory import MODES, Memory
from inference.prompts import PromptBuilder
from inference.responder import CITATIONS, Responder
from inference.served import BASE_URL, LOOPBACK
from inference.tokens import TokenCounter
from retrieval.registry import load_retriever
from retrieval.store import FactStore


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m inference.gateway", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--backend", default=BASE_URL, metavar="URL", help=f"the API that has the model (default: {BASE_URL})")
    add("--backend-kind", choices=KINDS, default="llamafactory", help="openai: it takes all that OpenAI's API takes")
    add("--backend-model", metavar="NAME", help="name of the served model (default: the first the backend lists)")
    add("--timeout", type=float, default=120, metavar="SECONDS", help="for the backend's next word (default: 120)")
    add("--retriever", type=Path, default=Path("data/retriever.json"), help="what `make data` saved")
    add("--documents", type=Path, help="what `python -m retrieval.documents` wrote (default: none)")
    add("--tokenizer", help="of the model, a folder or a hub name, to count tokens (default: estimated from bytes)")
    add("--max-length", type=int, default=2048, help="tokens of prompt and reply at most (default: 2048)")
    add("--memory", choices=MODES, default="drop", help="what happens to turns that do not fit (default: drop)")
    add("--citations", choices=CITATIONS, default="model", help="verified: by the grounding labeller (default: model)")
    add("--store", default="saves/gateway.sqlite", help="SQLite file, or :memory: (default: saves/gateway.sqlite)")
    add("--host", default="127.0.0.1", help="to listen on (default: 127.0.0.1; others need --keys)")
    add("--port", type=int, default=8001, help="to listen on (default: 8001)")
    add("--keys", type=Path, help="file with a name and a key a line; each sees its own cards only")
    add("--cors", action="append", default=[], metavar="ORIGIN", help="whose pages may use the API; can be repeated")
    add("--log-prompts", action="store_true", help="write prompts to the log (default: never)")
    return parser


def build(arguments: argparse.Namespace) -> FastAPI:
    """The application that the command line asks for. Raises ValueError."""
    keys = read_keys(arguments.keys) if arguments.keys else {}
    if arguments.host not in LOOPBACK and not keys:
        raise ValueError(f"On {arguments.host} anyone could use the gateway; give it --keys, or leave --host out.")
    try:
        retriever = load_retriever(arguments.retriever)
    except OSError:
        raise ValueError(
            f"{arguments.retriever} cannot be read; make it with `make data`, or name another with --retriever."
        ) from None
    if arguments.max_length < 256 or arguments.timeout <= 0:
        raise ValueError("--max-length must be at least 256, and --timeout more than 0.")
    backend = Backend(
        arguments.backend, retriever, api_key=os.environ.get("API_KEY") or "none", kind=arguments.backend_kind,
        model=arguments.backend_model, timeout=arguments.timeout,
    )  # fmt: skip
    documents = FactStore.open(arguments.documents) if arguments.documents else None
    memory = Memory(TokenCounter(arguments.tokenizer), retriever, arguments.max_length)
    responder = Responder(PromptBuilder(retriever, documents), backend, memory, open_labeller)
    defaults = Defaults(arguments.citations, arguments.memory, arguments.log_prompts)
    hosts = None if keys else {"127.0.0.1", "localhost", "[::1]"}
    return create_app(responder, Store(arguments.store), keys=keys, hosts=hosts, cors=arguments.cors, defaults=defaults)


def open_labeller():
    """The grounding labeller that ships; PyTorch takes seconds to import."""
    from data_prep.labellers.encoder import EncoderLabeller
    from data_prep.labellers.precomputed import MODEL

    return EncoderLabeller(MODEL)


def listen(host: str, port: int) -> socket.socket:
    """Raises ValueError if the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ValueError(f"{host}:{port} cannot be listened on ({error}); choose another with --port.") from None


def main() -> None:
    arguments = parser().parse_args()
    try:
        app = build(arguments)
        listener = listen(arguments.host, arguments.port)
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("inference.gateway").setLevel(logging.INFO)
    port = listener.getsockname()[1]
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"Page: http://{host}:{port}/   API: http://{host}:{port}/v1   backend: {arguments.backend}", flush=True)
    config = uvicorn.Config(app, log_level="info", timeout_graceful_shutdown=5, server_header=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
