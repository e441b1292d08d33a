import json

import pytest

from data_prep.formats import FORMATS, Examples
from data_prep.inverse import INVERSE_SYSTEM_PROMPTS, is_blank
from data_prep.reader import Conversation, Turn
from data_prep.rows import facts_of
from data_prep.samples import SampleSettings, make_samples
from data_prep.sources import FILE_NAMES
from retrieval.prompt import SYSTEM_PROMPTS
from retrieval.registry import open_retriever
from retrieval.text import marked_indices, neutralise
from tests.conftest import python_m


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def turned_round(conversations):
    """The inverse rows that the rows of sharegpt amount to, told by their texts alone."""
    for conversation in conversations:
        turns = [turn["value"] for turn in conversation["conversations"]]
        for asked, reply in zip(turns[::2], turns[1::2], strict=True):
            if marked_indices(reply):
                lines = asked.split("\n")
                first = len(lines) - len(facts_of(asked))
                message, facts = "\n".join(lines[:first]), "\n".join(lines[first:])
                yield {"instruction": reply, "input": facts, "output": message}


def check(data):
    """Every exchange of sharegpt with a mark is one row, in order, and nothing else is; the manifest counts them."""
    splits = load(data / "manifest.json")["splits"]
    for split in FILE_NAMES:
        rows = load(data / f"spc_inverse_{split}.json")
        for row in rows:
            assert (row.pop("system"), row.pop("history")) == (INVERSE_SYSTEM_PROMPTS["en"], [])
            # A fact line is told from a reply's last line: nothing of the reply reads as a fact.
            assert facts_of(f"{row['instruction']}\n{row['input']}") == facts_of(row["input"])
            assert set(marked_indices(row["instruction"])) <= facts_of(row["input"]).keys()
            assert neutralise(row["output"]) == row["output"].strip() != ""
        assert rows == list(turned_round(load(data / f"spc_sharegpt_{split}.json")))
        counts = splits[split]
        assert len(rows) == counts["rows_out"][f"spc_inverse_{split}"] == counts["replies_with_marks"] > 0


def test_the_inverse_rows_of_the_sample(sample_data):
    check(sample_data)


@pytest.mark.slow
def test_the_inverse_rows_of_spc(spc_dir, tmp_path):
    arguments = ("--spc", str(spc_dir), "--formats", "sharegpt", "inverse", "--out", str(tmp_path / "data"))
    done = python_m("data_prep.build", *arguments)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "data")


def rows_of(turns, labels, card=("I keep a snake.", "I sing."), language="en", **settings):
    conversation = Conversation("train", 0, ([], list(card)), [Turn(n % 2, text) for n, text in enumerate(turns)])
    settings = SampleSettings(**settings)
    samples, _ = make_samples([conversation], [labels], open_retriever("tfidf"), settings)
    return list(FORMATS["inverse"].rows(Examples(samples, language)))


def test_the_reply_and_its_facts_ask_for_the_message():
    turns = ["Hi!", "Hello.", "Any snake?", "I keep a green snake. And you?"]
    assert rows_of(turns, [{}, {}, {}, {0: (0,)}]) == [
        {
            "instruction": "I keep a green snake. [P1] And you?",
            "input": "[P1] I keep a snake.",
            "output": "Any snake?",
            "system": INVERSE_SYSTEM_PROMPTS["en"],
            "history": [],
        }
    ]


def test_a_reply_without_a_mark_makes_no_row():
    turns = ["Do you keep a snake?", "Why do you ask?", "Tell me!", "I sing all day."]
    assert rows_of(turns[:2], [{}, {}]) == []  # the snake is shown, but not used
    assert len(rows_of(turns, [{}, {}, {}, {1: (0,)}])) == 1
    assert rows_of(turns, [{}, {}, {}, {1: (0,)}], missed="keep") == []  # used, but not shown


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u200b", " \ufeff\u200d "])
def test_a_blank_message_is_no_output(blank):
    assert is_blank(blank)
    rows = rows_of([blank, "I sing.", "Oh?", "I sing."], [{}, {1: (0,)}, {}, {1: (0,)}])
    assert [row["output"] for row in rows] == ["Oh?"]


@pytest.mark.parametrize("message", ["?", "🙂", "👩‍👩‍👧‍👦", "猫", "...", "\u200bHi"])
def test_a_message_of_which_something_shows_is_one(message):
    [row] = rows_of([message, "I sing."], [{}, {1: (0,)}])
    assert row["output"] == message


def test_what_looks_like_a_mark_or_a_control_token_is_harmless_in_the_output():
    [row] = rows_of(["What is [P1]? <|im_end|>", "I sing."], [{}, {1: (0,)}])
    assert row["output"] == "What is (P1)? ‹|im_end|›"


def test_the_instruction_is_of_the_language_and_not_that_of_serving():
    assert INVERSE_SYSTEM_PROMPTS.keys() == SYSTEM_PROMPTS.keys()
    assert not set(INVERSE_SYSTEM_PROMPTS.values()) & set(SYSTEM_PROMPTS.values())
    [row] = rows_of(["Hi", "I sing."], [{}, {1: (0,)}], language="zh")
    assert row["system"] == INVERSE_SYSTEM_PROMPTS["zh"]
