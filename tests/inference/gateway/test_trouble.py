"""The backend is down, slow, dies, comes back; the client goes away; two ask at once; bodies are malformed."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from tests.conftest import free_port
from tests.inference.gateway.conftest import FACTS, fake_backend_at, gateway_at
from tests.inference.gateway.test_chat import QUESTION, chat, events, text_of, user

FIELDS = {"persona": FACTS, "model": "m"}


def works(client):
    """Whether the next request works."""
    return chat(client, **FIELDS)["choices"][0]["message"]["content"].startswith("I play")


@pytest.mark.parametrize("stream", [False, True])
def test_a_backend_that_is_down_is_a_502_until_it_is_up(app_with, tmp_path, stream):
    port = free_port()
    client = app_with(backend=f"http://127.0.0.1:{port}")
    assert client.get("/health").status_code == 503
    error = chat(client, **FIELDS, stream=stream, status=502)["error"]
    assert "make serve" in error["message"]
    with fake_backend_at(port, tmp_path / "log"):
        assert works(client)
        assert client.get("/health").json() == {"status": "ok", "model": "fake"}
    assert chat(client, **FIELDS, status=502)["error"]["code"] == "backend_error"
    with fake_backend_at(port, tmp_path / "log"):
        assert works(client)


def test_a_slow_backend_is_a_504_whole_or_streamed(app_with):
    client = app_with("--timeout", "2")
    for stream in (False, True):
        started = time.monotonic()
        assert "too long" in chat(client, user("WAIT 60 x"), **FIELDS, stream=stream, status=504)["error"]["message"]
        assert time.monotonic() - started < 30
        assert works(client)


def test_a_backend_that_dies_in_mid_answer_ends_it_with_an_error(app_with, tmp_path):
    port = free_port()
    client = app_with(backend=f"http://127.0.0.1:{port}")
    with fake_backend_at(port, tmp_path / "log"):
        body = {"messages": [user("DROP")], "stream": True, "conversation": "c1", **FIELDS}
        response = client.post("/v1/chat/completions", json=body)
        *_, last = [line for line in response.text.split("\n") if line]
        assert "broke its answer off" in json.loads(last.removeprefix("data: "))["error"]["message"]
    with fake_backend_at(port, tmp_path / "log"):
        chat(client, user("DROP"), **FIELDS, status=502)
    assert client.get("/v1/conversations/c1").status_code == 404
    with fake_backend_at(port, tmp_path / "log"):
        assert works(client)
        assert chat(client, conversation="c1", **FIELDS)["choices"]


@pytest.mark.parametrize(("order", "status"), [("FAIL 500", 502), ("FAIL 400", 400), ("FAIL 401", 502),
                                               ("FAIL 429", 429), ("GARBAGE", 502)])  # fmt: skip
def test_what_the_backend_says_of_itself_is_told(client, order, status):
    for stream in (False, True):
        error = chat(client, user(order), **FIELDS, stream=stream, status=status)["error"]
        assert error["message"].startswith("The backend")
    assert works(client)


@pytest.mark.parametrize(("odd", "status"), [("3", 502), ("[1]", 502), ('{"a": 1}', 502), ('"\\ud83d x"', 200)])
def test_an_odd_answer_is_an_error_or_mended(client, odd, status):
    for fields in ({}, {"stream": True}, {"stream": True, "n": 2}, {"n": 2}):
        answer = chat(client, user(f"ODD {odd}"), **FIELDS, **fields, status=status)
        assert status == 200 or answer["error"]["message"].startswith("The backend")
    assert works(client)


def test_a_fault_of_ours_ends_a_stream_with_an_error(app_with, monkeypatch):
    def fails(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("inference.responder._Reply.finish", fails)
    client = app_with(raises=False)
    for n in (1, 2):
        request = {"messages": [QUESTION], "stream": True, "n": n, **FIELDS}
        assert "has a fault" in client.post("/v1/chat/completions", json=request).text
    assert "has a fault" in chat(client, **FIELDS, status=500)["error"]["message"]


def test_a_request_cannot_hold_up_all_others(client):
    started = time.monotonic()
    chat(client, user("x" + " " * 90_000 + "[y"), user(" " * 90_000 + "[y"), **FIELDS, status=400)
    assert time.monotonic() - started < 5


def test_an_error_of_one_of_several_streams_ends_them_all(client):
    assert chat(client, user("FAIL 500"), **FIELDS, stream=True, n=3, status=502)["error"]


@pytest.fixture(scope="module")
def gateway(fake_backend, retriever_json, tmp_path_factory):
    """The address of a gateway that is a process of its own."""
    with gateway_at(fake_backend, retriever_json, tmp_path_factory.mktemp("gateway")) as (url, _):
        yield url


def body(*messages, **fields):
    return {"messages": list(messages) or [QUESTION], **FIELDS, **fields}


def test_two_requests_on_one_conversation_at_once(gateway):
    with httpx.Client(base_url=gateway, trust_env=False, timeout=30) as client:

        def ask(text):
            request = body(user(text), conversation="at-once")
            return client.post("/v1/chat/completions", json=request).status_code

        with ThreadPoolExecutor(4) as pool:
            statuses = sorted(pool.map(ask, [f"WAIT 3 reply {n}" for n in range(4)]))
        assert statuses == [200, 409, 409, 409]
        assert len(client.get("/v1/conversations/at-once").json()["turns"]) == 2
        assert ask("And now?") == 200
        assert len(client.get("/v1/conversations/at-once").json()["turns"]) == 4


def test_many_at_once_get_each_their_own_answer(gateway):
    with httpx.Client(base_url=gateway, trust_env=False, timeout=60) as client:

        def ask(number):
            request = body(user(f"SAY reply {number}"), stream=bool(number % 2))
            response = client.post("/v1/chat/completions", json=request)
            if number % 2:
                return text_of(events(response.text))
            return response.json()["choices"][0]["message"]["content"]

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(ask, range(100))) == [f"reply {number}" for number in range(100)]


def test_a_client_that_goes_away_in_mid_stream_leaves_nothing_behind(gateway):
    host, port = gateway.removeprefix("http://").split(":")
    content = json.dumps(body(user("WAIT 1 " + "word " * 200), stream=True, conversation="gone")).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    for wait in (0.3, 1.2):  # before the first word, and after it
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            time.sleep(wait)
    with httpx.Client(base_url=gateway, trust_env=False, timeout=30) as client:
        deadline = time.monotonic() + 10
        while client.post("/v1/chat/completions", json=body(conversation="gone")).status_code == 409:
            assert time.monotonic() < deadline, "the conversation is still taken"
            time.sleep(0.1)


def test_an_acknowledged_conversation_survives_a_kill_of_the_gateway(fake_backend, retriever_json, tmp_path):
    port = free_port()
    with gateway_at(fake_backend, retriever_json, tmp_path, port=port) as (url, process):
        client = httpx.Client(base_url=url, trust_env=False)
        assert client.put("/v1/personas/tim", json={"facts": FACTS}).status_code == 200
        streamed = client.post("/v1/chat/completions", json=body(conversation="c1", stream=True)).text
        assert streamed.endswith("data: [DONE]\n\n")
        process.kill()
        process.wait()
    with gateway_at(fake_backend, retriever_json, tmp_path, port=port) as (url, _):
        client = httpx.Client(base_url=url, trust_env=False)
        assert client.get("/v1/personas/tim").json()["facts"] == FACTS
        turns = client.get("/v1/conversations/c1").json()["turns"]
        assert turns[1]["content"] == text_of(events(streamed))


def test_ctrl_c_ends_the_gateway_in_the_middle_of_a_stream(fake_backend, retriever_json, tmp_path):
    with gateway_at(fake_backend, retriever_json, tmp_path) as (url, process):
        request = body(user("WAIT 60 x"), stream=True)
        asking = threading.Thread(target=lambda: _ignoring(httpx.post, f"{url}/v1/chat/completions", request))
        asking.start()
        time.sleep(0.5)
        process.terminate()
        assert process.wait(timeout=20) in (0, -15)
        asking.join(timeout=20)
        assert not asking.is_alive()


def _ignoring(post, url, request):
    with suppress(httpx.HTTPError):
        post(url, json=request, trust_env=False, timeout=60)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"model": NaN}', b"\xff\xfe", b'"' + b"x" * 1000,
     b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
     b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "seed": 1' + b"0" * 5000 + b"}"],
)  # fmt: skip
def test_bodies_that_are_no_request_are_a_400(client, content):
    headers = {"Content-Type": "application/json"}
    response = client.post("/v1/chat/completions", content=content, headers=headers)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"]
    assert works(client)


def test_a_body_too_large_is_a_413_with_and_without_its_length(client):
    large = b"x" * (1 << 20) + b"x"
    assert client.post("/v1/chat/completions", content=large).status_code == 413
    assert client.post("/v1/chat/completions", content=iter([large])).status_code == 413
    assert client.put("/v1/personas/a", json={"facts": ["x" * 501]}).status_code == 400
    assert client.put("/v1/personas/a", json={"facts": ["x"] * 101}).status_code == 400
    assert client.put("/v1/personas/a", json={"facts": []}).status_code == 400
    assert works(client)


@pytest.mark.slow
def test_a_thousand_malformed_requests(gateway):
    """Schemathesis makes requests, most of them wrong, from the gateway's own OpenAPI document."""
    session = requests.Session()
    session.trust_env = False
    document = session.get(f"{gateway}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    statuses = []

    def send(case):
        response = case.call(session=session, base_url=gateway, timeout=30)
        statuses.append(response.status_code)
        assert response.status_code < 500, (case.as_curl_command(), response.text)
        if response.status_code >= 400:
            assert response.json()["error"]["message"]

    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode.NEGATIVE, GenerationMode.POSITIVE:
            many = operation.body and mode is GenerationMode.NEGATIVE
            careless = settings(
                max_examples=550 if many else 20, deadline=None, database=None,
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            with suppress(Unsatisfiable):  # some requests cannot be wrong
                careless(given(case=operation.as_strategy(generation_mode=mode))(send))()
    assert statuses.count(400) >= 1000
    assert {200, 400, 404} <= set(statuses)
    assert session.post(f"{gateway}/v1/chat/completions", json=body()).json()["citations"]
