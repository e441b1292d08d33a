import json
import shutil

import pytest

from retrieval.dialogue import Dialogue
from retrieval.registry import entries, load_retriever, open_entry, open_retriever, save_retriever
from tests.conftest import ROOT

TALK = [Dialogue(["I have a dog.", "I swim."], ["Hello!", "Hi!", "Any pets?"])]


@pytest.mark.parametrize("name", ["tfidf", "bm25", "small", "hybrid", "none", "random"])
def test_saved_and_opened_again_it_is_the_same(tmp_path, name):
    retriever = open_retriever(name, query_turns=2, k=1, language="zh")
    save_retriever(tmp_path / "retriever.json", retriever)
    opened = load_retriever(tmp_path / "retriever.json")
    assert (opened.settings, opened.name, opened.identity) == (retriever.settings, name, retriever.identity)
    assert opened.retrieve(TALK) == retriever.retrieve(TALK)


def test_every_setting_that_changes_the_prompt_changes_the_identity():
    changes = [{}, {"query_turns": 1}, {"whose": "user"}, {"threshold": 0.9}, {"k": 1}, {"language": "zh"}]
    identities = [open_retriever("tfidf", **change).identity for change in changes]
    identities += [open_retriever(name).identity for name in ("bm25", "small", "hybrid")]
    assert len(set(identities)) == len(identities)


def test_a_model_that_has_changed_is_refused(tmp_path):
    words = tmp_path / "words.json"
    shutil.copy(ROOT / "retrieval/models/words.json", words)
    save_retriever(tmp_path / "retriever.json", open_retriever("tfidf", model=str(words)))
    words.write_text(words.read_text().replace('"documents":', '"documents": 1'))
    with pytest.raises(ValueError, match=r"retriever\.json was saved with tfidf-\w{8}, but tfidf is tfidf-\w{8} now"):
        load_retriever(tmp_path / "retriever.json")


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"retriever": "nonsense", "entry": 1, "identity": ""}'])
def test_a_file_that_is_no_retriever_is_refused(tmp_path, content):
    path = tmp_path / "retriever.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="not a saved retriever"):
        load_retriever(path)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"kind": "magic"}, "'magic'"),
        ({}, "None"),
        ({"kind": "tfidf"}, "model"),
        ({"kind": "tfidf", "model": "no/words.json"}, "no/words.json"),
        ({"kind": "static", "model": "no/folder"}, "no/folder"),
        ({"kind": "static", "model": "retrieval/models/small", "query_turns": 9}, "not 9"),
        ({"kind": "none", "colour": "blue"}, "colour"),
        ({"kind": "none", "whose": "mine"}, "'mine'"),
        ({"kind": "none", "query_turns": 0}, "not 0"),
        ({"kind": "none", "k": "two"}, "two"),
        ({"kind": "none", "threshold": "1e-2"}, "1e-2"),
        ({"kind": "none", "query_turns": 2.5}, "2.5"),
    ],
)
def test_a_fault_in_an_entry_is_named(entry, says, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match=says):
        open_entry(entry)


def test_an_unknown_name_is_answered_with_the_choices():
    with pytest.raises(ValueError, match=r"no retriever 'magic'; choose tfidf, bm25, small"):
        open_retriever("magic")


def test_what_is_listed_is_what_was_chosen():
    """The settings of retrievers.yaml are those that eval.retrieval_settings chose."""
    chosen = json.loads((ROOT / "reports/results/retrieval_settings.json").read_text(encoding="utf-8"))["retrievers"]
    assert set(chosen) == {"tfidf", "bm25", "small", "dense", "encoder"}
    for name, found in chosen.items():
        assert entries()[name].items() >= found["chosen"].items(), name
