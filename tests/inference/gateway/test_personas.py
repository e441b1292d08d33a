"""Cards over HTTP, documents, and the command line's faults."""

import json

import pytest

from inference.gateway.__main__ import parser
from retrieval.documents import build_store
from tests.conftest import ROOT, in_process
from tests.inference.gateway.conftest import FACTS
from tests.inference.gateway.test_chat import chat, user


def test_a_card_is_put_read_listed_and_deleted(client):
    assert client.get("/v1/personas/tim").json() == {"id": "tim", "name": "Tim", "facts": FACTS}
    client.put("/v1/personas/eve", json={"facts": [" I sing. "]})
    assert client.get("/v1/personas").json()["data"][0] == {"id": "eve", "name": "", "facts": ["I sing."]}
    assert client.delete("/v1/personas/eve").status_code == 204
    assert client.delete("/v1/personas/eve").status_code == 404
    assert client.get("/v1/personas/eve").status_code == 404


def test_a_character_card_goes_in_and_comes_out(client):
    data = {"name": "Mira", "description": "{{char}} is a potter.\nI like tea.", "scenario": "A workshop."}
    put = client.put("/v1/personas/mira", json={"spec": "chara_card_v2", "spec_version": "2.0", "data": data})
    assert put.json() == {"id": "mira", "name": "Mira", "facts": ["Mira is a potter.", "I like tea."]}
    card = client.get("/v1/personas/mira?format=chara_card_v2").json()
    assert card["data"]["scenario"] == "A workshop."
    client.put("/v1/personas/again", json=card)
    assert client.get("/v1/personas/again").json()["facts"] == put.json()["facts"]
    not_json = json.dumps({"data": {"description": "I sing.", "extensions": {"w": float("nan")}}})
    sent = client.put("/v1/personas/mira", content=not_json, headers={"Content-Type": "application/json"})
    assert sent.status_code == 400
    for wrong in ({}, {"facts": FACTS, "spec": "chara_card_v2", "data": data}, {"data": {"description": ""}}):
        assert client.put("/v1/personas/mira", json=wrong).status_code == 400
    assert client.get("/v1/personas/mira").json()["facts"] == put.json()["facts"]


@pytest.mark.parametrize("name", ["a b", "ä", "-a", "a" * 65, "a%2Fb", "%00"])
def test_a_name_that_is_none_is_refused(client, name):
    response = client.put(f"/v1/personas/{name}", json={"facts": FACTS})
    assert response.status_code in (400, 404, 405)
    assert response.json()["error"]["message"]


def test_documents_are_shown_and_cited(app_with, tmp_path, asked):
    build_store(ROOT / "tests/retrieval/documents", "tfidf", threshold=0.2).save(tmp_path / "store")
    client = app_with("--documents", str(tmp_path / "store"))
    ask = user("When does the museum open in the morning?")
    whole = chat(client, ask, persona=FACTS, model="m")
    shown = [found["mark"] for found in whole["retrieval"] if found["source"] == "museum.txt"]
    assert shown
    assert shown[0] in asked()[-1]["messages"][-1]["content"]
    number = shown[0].strip("[]")
    whole = chat(client, user(f"SAY When does the museum open in the morning? {{{number}}}"), persona=FACTS, model="m")
    assert [(c["mark"], c["source"]) for c in whole["citations"]] == [(shown[0], "museum.txt")]
    assert not [f for f in chat(client, user("Hi!"), persona=FACTS, model="m")["retrieval"] if f["source"]]


def test_the_openapi_document_describes_every_route(client):
    document = client.get("/openapi.json").json()
    assert len(document["paths"]) >= 7
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)


def test_each_fault_of_the_command_line_is_one_sentence(retriever_json, tmp_path):
    (tmp_path / "keys").write_text("alice\n", encoding="utf-8")
    (tmp_path / "none").write_text("# nobody\n", encoding="utf-8")
    good = ("--retriever", str(retriever_json), "--store", ":memory:")
    for words, arguments in {
        "--keys": (*good, "--host", "0.0.0.0"),
        "no.json": ("--retriever", "no.json"),
        "line 1": (*good, "--keys", str(tmp_path / "keys")),
        "no key": (*good, "--keys", str(tmp_path / "none")),
        "no address": (*good, "--backend", "localhost"),
        "no whole store": (*good, "--documents", str(tmp_path)),
        "cannot be opened": (*good, "--store", str(tmp_path)),
        "--port": (*good, "--port", "99999"),
        "no tokenizer": (*good, "--tokenizer", str(tmp_path / "nothing")),
    }.items():
        done = in_process("inference.gateway.__main__", *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert words in done.stderr


def test_prompts_are_in_the_log_only_if_asked_for(app_with, caplog):
    caplog.set_level("INFO")
    chat(app_with(), persona=FACTS, model="m")
    assert "banjo" not in caplog.text
    chat(app_with("--log-prompts"), persona=FACTS, model="m")
    assert json.dumps(FACTS[1]).strip('"') in caplog.text


def test_the_help_names_every_default():
    for action in parser()._actions:
        assert action.help, action.dest
