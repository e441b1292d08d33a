import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data_prep.errors import InputError
from data_prep.labellers.llm import LlmLabeller, parse_uses, show
from data_prep.reader import Conversation, Turn

TURNS = [Turn(0, "Any pets?"), Turn(1, "Hi! I have a cat."), Turn(0, "Me too. And I sing."), Turn(1, "Nice.")]
TALK = Conversation("train", 7, (["I sing."], ["I work.", "I have a cat."]), TURNS)


@contextmanager
def endpoint(*answers, status=200):
    """An OpenAI-compatible server that gives ``answers`` in turn (the last one for ever) and keeps the prompts."""
    prompts = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompts.append(body["messages"][0]["content"])
            answer = answers[min(len(prompts), len(answers)) - 1]
            answer = answer(prompts[-1]) if callable(answer) else answer
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
            content = json.dumps(
                {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            )
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", prompts
    server.shutdown()


def labeller(monkeypatch, tmp_path, url):
    for name, value in (("OPENAI_BASE_URL", url), ("OPENAI_API_KEY", "any"), ("LABELLER_MODEL", "strong")):
        monkeypatch.setenv(name, value)
    return LlmLabeller(tmp_path / "saves" / "llm.jsonl")


def by_side(prompt):
    return "Sure:\n[[2, 2, 2]]" if "Fact 2:" in prompt else "[[3, 2, 1]]"


def test_what_the_model_says_becomes_labels_and_is_kept(monkeypatch, tmp_path):
    with endpoint(by_side) as (url, prompts):
        assert labeller(monkeypatch, tmp_path, url).label([TALK]) == [[{}, {1: (1,)}, {0: (1,)}, {}]]
        assert len(prompts) == 2
        assert labeller(monkeypatch, tmp_path, url).label([TALK]) == [[{}, {1: (1,)}, {0: (1,)}, {}]]
        assert len(prompts) == 2  # the second time nobody was asked


def test_a_killed_run_is_taken_up_where_it_was(monkeypatch, tmp_path):
    with endpoint(by_side) as (url, prompts):
        labeller(monkeypatch, tmp_path, url).label([TALK])
        cache = tmp_path / "saves" / "llm.jsonl"
        cache.write_text(cache.read_text(encoding="utf-8")[:-9], encoding="utf-8")
        assert labeller(monkeypatch, tmp_path, url).label([TALK]) == [[{}, {1: (1,)}, {0: (1,)}, {}]]
        assert len(prompts) == 3
        assert len(labeller(monkeypatch, tmp_path, url).known) == 2


def test_a_model_that_does_not_answer_the_question_is_asked_again_and_then_named(monkeypatch, tmp_path):
    with endpoint("Hm.", "[[9, 9, 9]]", "[]") as (url, _):
        assert labeller(monkeypatch, tmp_path, url).label([TALK]) == [[{}] * 4]
    with endpoint("I cannot do that.") as (url, _), pytest.raises(InputError, match="stronger"):
        labeller(monkeypatch, tmp_path / "other", url).label([TALK])


def test_an_endpoint_that_fails_is_one_sentence(monkeypatch, tmp_path):
    with endpoint("no", status=401) as (url, _), pytest.raises(InputError, match=r"127\.0\.0\.1"):
        labeller(monkeypatch, tmp_path, url).label([TALK])


def test_what_is_not_set_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("LABELLER_MODEL", raising=False)
    with pytest.raises(InputError, match="LABELLER_MODEL"):
        LlmLabeller(tmp_path)
    monkeypatch.setenv("LABELLER_MODEL", "strong")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        LlmLabeller(tmp_path)


def test_what_the_model_is_shown():
    assert show(TALK, 1) == (
        "Fact 1: I work.\nFact 2: I have a cat.\n"
        "OTHER: Any pets?\nOWN: (2.1) Hi! (2.2) I have a cat.\nOTHER: Me too. And I sing.\nOWN: (4.1) Nice."
    )


@pytest.mark.parametrize("text", ["[[2, 2, 3]]", "[[1, 1, 1]]", "[[2, 3, 1]]", "[[2, 2]]", "none", "[[2, 2,"])
def test_an_answer_that_names_what_is_not_there_is_none(text):
    assert parse_uses(text, TALK, 1) is None


def test_answers_are_found_in_prose():
    assert parse_uses("The list: [[2, 2, 2], [4, 1, 1]].", TALK, 1) == [(1, 1, 1), (3, 0, 0)]
    assert parse_uses("```json\n[\n [2, 1, 1]\n]\n```", TALK, 1) == [(1, 0, 0)]
    assert parse_uses("[]", TALK, 1) == []
