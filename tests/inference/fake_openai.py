"""A tiny OpenAI-compatible API on a port of its own, and a backend without any network."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from inference.backend import Piece

Say = Callable[[list[dict]], list[str]]  # messages to the pieces of the reply


class FakeBackend:
    """Stands in for ``Backend``: answers with the pieces of ``say``, and records what it was asked."""

    kind = "openai"

    def __init__(self, say: Say):
        self.say, self.asked = say, []

    async def complete(self, messages, options):
        self.asked.append((messages, options))
        return Piece("".join(self.say(messages)), "stop")

    async def stream(self, messages, options):
        self.asked.append((messages, options))
        for piece in self.say(messages):
            yield Piece(piece)
        yield Piece("", "stop")


class FakeServer(ThreadingHTTPServer):
    """``say``: as above; ``pause``: seconds before each piece but the first; ``broken``: ends after the first one."""

    daemon_threads = True

    def __init__(self, port: int = 0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.say: Say = lambda messages: ["Hello."]
        self.pause, self.broken, self.status = 0.0, False, 200
        self.requests: list[dict] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self._answer({"object": "list", "data": [{"id": "some-model", "object": "model"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.keys.append(self.headers["Authorization"])
        if self.server.status != 200:
            return self._answer({"detail": "no"}, self.server.status)
        pieces = self.server.say(body["messages"])
        if not body.get("stream"):
            message = {"role": "assistant", "content": "".join(pieces)}
            return self._answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number, piece in enumerate(pieces):
            if number:
                time.sleep(self.server.pause)
            self._event({"delta": {"content": piece}, "finish_reason": None})
            if self.server.broken:
                return None
        self._event({"delta": {}, "finish_reason": "stop"})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, choice: dict) -> None:
        self.wfile.write(f"data: {json.dumps({'choices': [{'index': 0, **choice}]})}\n\n".encode())

    def _answer(self, answer: dict, status: int = 200) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def serving(port: int = 0) -> Iterator[FakeServer]:
    """A server until the block ends."""
    server = FakeServer(port)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
