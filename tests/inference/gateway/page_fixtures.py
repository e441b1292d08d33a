"""What the page's tests run against besides the gateway: a backend whose replies can be held up, and Chromium."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data_prep.errors import InputError
from eval import browser as browser_module


class FakeBackend:
    """An OpenAI-compatible API that streams ``pieces``; the tests set the rest for what they are about.

    ``gate``: once ``pieces`` are sent, the reply waits for it. ``dies``: the connection ends before the reply does.
    ``status``: of the answer. ``hung_up``: set when a client went away before its reply was whole.
    """

    def __init__(self):
        self.hung_up = threading.Event()
        self.says("Hello.")
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._answer(200, {"object": "list", "data": [{"id": "fake", "object": "model"}]})

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                if backend.status != 200:
                    self._answer(backend.status, {"detail": "no memory left"})
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                try:
                    self._stream()
                except OSError:
                    backend.hung_up.set()

            def _stream(self):
                for piece in backend.pieces:
                    self._chunk({"content": piece})
                while not backend.gate.wait(0.1):
                    self._chunk({"content": ""})  # fails once nobody reads
                if not backend.dies:
                    self._chunk({}, "stop")
                    self.wfile.write(b"data: [DONE]\n\n")

            def _chunk(self, delta, finish_reason=None):
                choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
                self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())

            def _answer(self, status, body):
                body = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def says(self, *pieces: str, dies: bool = False, status: int = 200, waits: bool = False) -> None:
        """What the next replies are."""
        self.pieces, self.dies, self.status, self.gate = pieces, dies, status, threading.Event()
        if not waits:
            self.gate.set()

    @contextmanager
    def running(self) -> Iterator["FakeBackend"]:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self.gate.set()
            self.server.shutdown()
            self.server.server_close()


@contextmanager
def chromium() -> Iterator:
    """The system's Chromium, driven by playwright."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with ExitStack() as stack:
        try:
            browser = stack.enter_context(browser_module.chromium())
        except InputError as error:
            pytest.skip(str(error))
        yield browser
