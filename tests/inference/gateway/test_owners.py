"""One key can neither read nor change what is another's, on every route; and nobody who should not gets in."""

import json
import re

import pytest
from starlette.routing import Route

from inference.gateway.keys import read_keys
from tests.inference.gateway.conftest import FACTS

ALICE, BOB = ({"Authorization": f"Bearer sk-{name}"} for name in ("alice", "bob"))
BODY = {"model": "persona/tim", "messages": [{"role": "user", "content": "What do you play?"}]}
PUBLIC = {("GET", "/"), ("GET", "/health"), ("GET", "/openapi.json")}


@pytest.fixture
def shared(app_with, tmp_path):
    """A gateway with two keys; Alice has a card and a conversation."""
    (tmp_path / "keys").write_text("# who may\nalice sk-alice\nbob   sk-bob\n", encoding="utf-8")
    client = app_with("--keys", str(tmp_path / "keys"))
    assert client.put("/v1/personas/tim", json={"facts": FACTS}, headers=ALICE).status_code == 200
    assert client.post("/v1/chat/completions", json=BODY | {"conversation": "c1"}, headers=ALICE).status_code == 200
    return client


def routes(app):
    """Every route and method, with names filled in that exist for Alice."""
    for route in app.routes:
        if isinstance(route, Route):
            kind = "tim" if "personas" in route.path else "c1"
            for method in route.methods - {"HEAD"}:
                yield method, re.sub(r"\{\w+\}", kind, route.path)


def send(client, method, path, headers):
    body = BODY if "chat" in path else {"facts": ["I am Bob's."]}
    return client.request(method, path, headers=headers, json=body if method in ("POST", "PUT") else None)


def state(client):
    paths = ("/v1/personas", "/v1/personas/tim", "/v1/conversations", "/v1/conversations/c1")
    return [client.get(path, headers=ALICE).json() for path in paths]


def test_another_key_reads_and_changes_nothing_on_any_route(shared):
    before = state(shared)
    seen = set()
    for method, path in routes(shared.app):
        response = send(shared, method, path, BOB)
        seen.add((method, path))
        assert response.status_code < 500, (method, path)
        if (method, path) not in PUBLIC:
            assert "banjo" not in response.text, (method, path)
        if "c1" in path or ("tim" in path and method == "DELETE"):
            assert response.status_code in (404, 204), (method, path)
    assert len(seen) > len(PUBLIC) + 8
    assert state(shared) == before


def test_a_card_or_conversation_of_another_is_not_there_for_a_chat(shared):
    before = state(shared)
    assert shared.post("/v1/chat/completions", json=BODY, headers=BOB).status_code == 404
    own = BODY | {"persona": ["I am Bob."], "conversation": "c1"}
    assert shared.post("/v1/chat/completions", json=own, headers=BOB).status_code == 200
    assert state(shared) == before
    assert shared.get("/v1/conversations/c1", headers=BOB).json()["facts"] == ["I am Bob."]


def test_a_key_is_what_stands_in_its_line(tmp_path):
    path = tmp_path / "keys"
    path.write_text("alice sk-ab#cd  # hers\n#bob sk-bob\n", encoding="utf-8")
    assert read_keys(path) == {"sk-ab#cd": "alice"}
    path.write_text("alice schlüssel\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 1"):
        read_keys(path)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "sk-alice"},
                                     {"Authorization": "Basic sk-alice"}, {"Authorization": "Bearer "}])  # fmt: skip
def test_without_a_right_key_every_route_is_a_401(shared, headers):
    for method, path in routes(shared.app):
        response = send(shared, method, path, headers)
        expected = 200 if (method, path) in PUBLIC else 401
        assert response.status_code == expected, (method, path)
        if expected == 401:
            assert response.json()["error"]["type"] == "authentication_error"


def test_without_keys_only_the_loopbacks_names_are_answered(client):
    assert client.get("/v1/personas", headers={"Host": "127.0.0.1:8001"}).status_code == 200
    assert client.get("/v1/personas", headers={"Host": "[::1]:8001"}).status_code == 200
    for host in ("evil.example", "evil.example:8001", "127.0.0.1.evil.example", ""):
        response = client.get("/v1/personas", headers={"Host": host})
        assert response.status_code == 400
        assert "error" in response.json()


def test_a_web_page_of_another_origin_gets_nothing_unless_asked_for(client, app_with):
    origin = {"Origin": "https://evil.example"}
    assert "access-control-allow-origin" not in client.get("/v1/personas", headers=origin).headers
    text = {"Content-Type": "text/plain"}  # what a page may send without asking first
    body = json.dumps({"persona": FACTS, "messages": BODY["messages"]})
    assert client.post("/v1/chat/completions", content=body, headers=origin | text).status_code == 400
    as_json = {"Content-Type": "application/json"}
    assert client.post("/v1/chat/completions", content=body, headers=origin | as_json).status_code == 200
    asked_for = app_with("--cors", "https://good.example")
    headers = asked_for.get("/v1/personas", headers={"Origin": "https://good.example"}).headers
    assert headers["access-control-allow-origin"] == "https://good.example"
    assert "access-control-allow-origin" not in asked_for.get("/v1/personas", headers=origin).headers
