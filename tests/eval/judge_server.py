"""A judge that is none, behind a real HTTP server, and replies for it to judge."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from eval.judge.prompts import DIMENSIONS
from tests.conftest import in_process

FIRST, SECOND, TIE = (f"Because.\nVerdict: {verdict}" for verdict in ("first", "second", "tie"))


def scores(*numbers):
    return "\n".join(["Because.", *(f"{name}: {number}" for name, number in zip(DIMENSIONS, numbers, strict=True))])


class FakeJudge:
    """An OpenAI-compatible server. ``answer(material, number)``: text, or an HTTP status, for the number-th request."""

    def __init__(self, answer):
        self.answer, self.requests, self.lock = answer, [], threading.Lock()

    def reply(self, body):
        with self.lock:
            self.requests.append(body)
            number = len(self.requests)
        return self.answer(json.loads(body["messages"][-1]["content"]), number)

    @property
    def prompts(self):
        return [json.loads(body["messages"][-1]["content"]) for body in self.requests]


@contextmanager
def serving(judge, monkeypatch):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            answer = judge.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
            content = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            if isinstance(answer, dict):
                content = answer
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setenv("JUDGE_MODEL", "strong")
    yield judge
    server.shutdown()
    server.server_close()


def row(name, reply, **changes):
    return {
        "id": name,
        "card": ["I keep bees.", "I live in Oslo."],
        "history": ["Hello!", "Hi there!"],
        "message": f"What do you do, {name}?",
        "reply": reply,
        "reference": "I keep bees.",
    } | changes


def write(path, rows):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def judged(out, *arguments):
    done = in_process("eval.judge.__main__", "--json", str(out), *map(str, arguments))
    return done, json.loads(out.read_text(encoding="utf-8")) if out.is_file() else None


def better(material, _):
    """A is better for ids 0 to 3, B for 4, neither for 5; whatever the order."""
    side, number = material["first_reply"].split()
    wins = {"4": "B", "5": ""}.get(number, "A")
    return FIRST if side == wins else SECOND if wins else TIE
