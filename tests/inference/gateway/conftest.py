"""The gateway in this process, or as one of its own, before a backend that does as it is told, or the real one."""

import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from inference.gateway.__main__ import build, parser
from retrieval.registry import open_retriever, save_retriever
from tests.conftest import free_port, running

FACTS = ["I drive a night bus in Leeds.", "I play the banjo after dinner.", "I have two cats."]


@pytest.fixture(scope="session")
def retriever_json(tmp_path_factory) -> Path:
    """Which retriever facts are found with."""
    path = tmp_path_factory.mktemp("retriever") / "retriever.json"
    save_retriever(path, open_retriever("small"))
    return path


@contextmanager
def fake_backend_at(port, log):
    """The backend of ``fake_backend.py``."""
    command = [sys.executable, str(Path(__file__).with_name("fake_backend.py")), str(port)]
    with running(command, f"http://127.0.0.1:{port}/v1/models", log) as process:
        yield process


@contextmanager
def gateway_at(backend, retriever_json, folder, *arguments, port=None, **env):
    """The gateway as a process of its own; gives its address and the process."""
    port = port or free_port()
    command = [
        sys.executable, "-m", "inference.gateway", "--backend", f"{backend}/v1", "--retriever", str(retriever_json),
        "--store", str(folder / "gateway.sqlite"), "--port", str(port), *arguments,
    ]  # fmt: skip
    with running(command, f"http://127.0.0.1:{port}/", folder / "gateway.log", **env) as process:
        yield f"http://127.0.0.1:{port}", process


@pytest.fixture(scope="module")
def fake_backend(tmp_path_factory):
    """The address of a backend that does as it is told."""
    port = free_port()
    with fake_backend_at(port, tmp_path_factory.mktemp("backend") / "log"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def app_with(fake_backend, retriever_json):
    """``app_with(*arguments)``: a client of the gateway in this process, started with further arguments.

    ``raises``: a fault of the gateway's own fails the test; else it is answered as people would see it.
    """
    clients = []

    def start(*arguments, backend=fake_backend, raises=True):
        given = ["--backend", f"{backend}/v1", "--retriever", str(retriever_json), "--store", ":memory:", *arguments]
        app = build(parser().parse_args(given))
        client = TestClient(app, base_url="http://localhost", raise_server_exceptions=raises)
        clients.append(client.__enter__())
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(app_with):
    """A client of the gateway, with one card, ``tim``."""
    client = app_with()
    assert client.put("/v1/personas/tim", json={"name": "Tim", "facts": FACTS}).status_code == 200
    return client


@pytest.fixture
def asked(fake_backend):
    """All that the backend was asked so far."""
    return lambda: httpx.get(f"{fake_backend}/asked", trust_env=False).json()
