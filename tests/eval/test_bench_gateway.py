"""The benchmark of the gateway: small, it measures everything and loses nothing; its stand-in is as the real API."""

import json
import time

import pytest
from fastapi.testclient import TestClient

from eval.bench_gateway import Asks, is_right
from eval.load import Answer
from eval.stand_in import MODEL, StandIn, reply_to
from tests.conftest import ENV, in_process, python_m

BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": "Do you? (no. 3)"}, {"role": "user", "content": "(no. 17)"}],
}


def test_the_stand_in_answers_whole_after_its_time():
    client = TestClient(StandIn(0.1))
    assert client.get("/v1/models").json()["data"][0]["id"] == MODEL
    started = time.monotonic()
    answer = client.post("/v1/chat/completions", json=BODY).json()
    assert 0.1 <= time.monotonic() - started < 2
    assert answer["choices"][0] == {
        "index": 0, "message": {"role": "assistant", "content": reply_to(17)}, "finish_reason": "stop",
    }  # fmt: skip
    assert answer["usage"]["total_tokens"] == 240
    assert client.get("/requests").json() == {"requests": 1}
    assert client.get("/v1/other").status_code == 404


def test_the_stand_in_streams_as_llama_factory_does():
    started = time.monotonic()
    response = TestClient(StandIn(0.1)).post("/v1/chat/completions", json=BODY | {"stream": True})
    assert time.monotonic() - started >= 0.1
    assert response.headers["content-type"].startswith("text/event-stream")
    *lines, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines]
    assert chunks[0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    words = [chunk["delta"]["content"] for chunk in chunks[1:-1]]
    assert "".join(words) == reply_to(17)
    assert len(words) == len(reply_to(17).split())


def test_a_wrong_answer_counts_as_lost():
    [ask, other] = Asks().some(2, ("127.0.0.1", 1))
    assert ask.citations

    def answer(text, status=200):
        marks = [{"mark": mark, "start": start, "end": end} for mark, start, end in ask.citations]
        body = {"choices": [{"message": {"content": text}}], "citations": marks}
        return Answer(status, json.dumps(body).encode(), 0.1, 0.1)

    assert is_right(ask, answer(ask.text), "gateway", "plain")
    assert not is_right(ask, answer(other.text), "gateway", "plain")
    assert not is_right(ask, answer(ask.text, 502), "gateway", "plain")
    assert not is_right(ask, Answer(200, b'data: {"choices": []}\n\n', 0.1, 0.1), "gateway", "streamed")


@pytest.mark.slow
def test_the_command_measures_all_and_loses_none(tmp_path):
    out = tmp_path / "bench.json"
    arguments = ("--requests", "40", "--seconds", "0.02", "--per-client", "1", "--json", str(out))
    done = python_m("eval.bench_gateway", *arguments, env=ENV)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["git"] is None or len(result["git"]) >= 40
    assert result["config"]["seconds"] == 0.02
    settings = [f"{mode}, {clients}" for mode in ("plain", "streamed") for clients in (1, 16, 64)]
    for kind in ("usual", "at_once"):
        assert list(result[kind]) == settings
        for found in result[kind].values():
            assert found["direct"]["lost"] == found["gateway"]["lost"] == 0
            assert found["gateway"]["p50_ms"] <= found["gateway"]["p95_ms"]
            assert 0 < found["share_of_direct"] < 2
    assert result["usual"]["plain, 1"]["direct"]["p50_ms"] >= 20
    long = result["long_run"]
    assert (long["requests"], long["lost"], long["asked_of_the_backend"]) == (40, 0, 40)
    assert long["cited"] > 40
    assert long["rss_mib"]["end"] > 50
    assert "Long run: 40 requests" in done.stdout


def test_numbers_that_make_no_sense_are_one_sentence(tmp_path):
    done = in_process("eval.bench_gateway", "--requests", "0", "--json", str(tmp_path / "out.json"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
