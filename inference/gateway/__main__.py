"""An OpenAI-compatible API whose models are persons: ``python -m inference.gateway`` (``make gateway``).

Stands before any OpenAI-compatible backend, LLaMA-Factory's API by default. A page to talk on is at its address.
"""

import argparse
import logging
import socket
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from inference.assembly import add_options, build_responder
from inference.gateway.app import create_app
from inference.gateway.completions import Defaults
from inference.gateway.keys import read_keys
from inference.gateway.store import Store
from inference.served import LOOPBACK


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m inference.gateway", description=__doc__.split("\n")[0])
    add_options(parser)
    add = parser.add_argument
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
    responder = build_responder(arguments)
    defaults = Defaults(arguments.citations, arguments.memory, arguments.log_prompts)
    hosts = None if keys else {"127.0.0.1", "localhost", "[::1]"}
    return create_app(responder, Store(arguments.store), keys=keys, hosts=hosts, cors=arguments.cors, defaults=defaults)


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
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn has ended in good order, and then raises it anew
        sys.exit(130)


if __name__ == "__main__":
    main()
