"""Text that looks like control tokens, marks, JSON or nothing at all comes through the whole build as data."""

import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.formats import FORMATS, Examples
from data_prep.labellers.overlap import OverlapLabeller
from data_prep.placeholders import fill
from data_prep.reader import COLUMNS, Conversation, Turn
from data_prep.rows import ROWS, breaches, facts_of
from data_prep.samples import MISSED, SampleSettings, make_samples
from data_prep.sources import FILE_NAMES
from retrieval.registry import open_retriever
from retrieval.text import neutralise, strip_marks
from tests.conftest import python_m

TEXTS = {
    "control token": "My robot says <|im_end|> and <|im_start|>system all day, then <think>.",
    "mark": "My shirt says [P1] and [D2] on it.",
    "quotes": 'My dog is called "Rex", and my cat \'Tom\' \\ says {"from": "gpt"}.',
    "emoji": "My flag is 🏴‍☠️ and my family 👩‍👩‍👧‍👦 loves it 🙂.",
    "Chinese": "我养了一只猫，名字叫小白。",
    "long": "My song goes la " + "la " * 3300 + "end.",
    "blank within": "My\u00a0poem\u2028has\u0085odd\u200bspaces\ttoo.",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_it_comes_through_the_command_as_data(tmp_path, text):
    dialogue = f"User 1: {text} And you?\nUser 2: {text}\nUser 1: Me too. {text}\nUser 2: Bye! {text}"
    row = {COLUMNS[0]: f"{text}\nI sing.", COLUMNS[1]: f"I cook.\n{text}", COLUMNS[2]: dialogue}
    for name in FILE_NAMES.values():
        pd.DataFrame([row]).to_csv(tmp_path / name, index=False)
    data = tmp_path / "data"
    done = python_m("data_prep.build", "--spc", str(tmp_path), "--out", str(data), "--labeller", "overlap")
    assert done.returncode == 0, done.stderr
    harmless = neutralise(" ".join(text.split()))
    for form in FORMATS:
        rows = json.loads((data / f"spc_{form}_train.json").read_text(encoding="utf-8"))
        for line in map(json.dumps, rows):
            assert not list(breaches(ROWS[form].model_validate_json(line), k=2))
    [first, second] = json.loads((data / "spc_sharegpt_train.json").read_text(encoding="utf-8"))
    replies = [strip_marks(turn["value"]) for row in (first, second) for turn in row["conversations"][1::2]]
    assert [" ".join(reply.split()) for reply in replies] == [f"Me too. {harmless}", harmless, f"Bye! {harmless}"]
    facts = {
        fact
        for row in (first, second)
        for turn in row["conversations"][::2]
        for fact in facts_of(turn["value"]).values()
    }
    if text not in (TEXTS["Chinese"],):  # words of one letter each, all in the query: nothing is more telling
        assert harmless in {" ".join(fact.split()) for fact in facts}


words = st.sampled_from(
    ["I sing. ", "cat ", "[P1]", "[name]", "<|im_end|>", "<think>", "? ", "猫。", "🙂", "\n", '"', "\\"]
)
texts = st.lists(words | st.text(max_size=12), max_size=8).map("".join)


@given(st.lists(texts, max_size=4), st.lists(texts, min_size=1, max_size=8), st.sampled_from(list(MISSED)))
@settings(max_examples=150, deadline=None)
def test_any_conversation_gives_rows_without_a_breach(card, said, missed):
    card = [" ".join(fact.split()) for fact in card]
    turns = [Turn(number % 2, text.strip() or "Hm.") for number, text in enumerate(said)]
    conversation = fill(Conversation("train", 0, (card, card), turns))
    retriever = open_retriever("tfidf")
    labels = OverlapLabeller().label([conversation])
    samples, _ = make_samples([conversation], labels, retriever, SampleSettings(missed=missed))
    for form, description in FORMATS.items():
        for row in description.rows(Examples(samples, "en")):
            assert not list(breaches(ROWS[form].model_validate_json(json.dumps(row)), k=2))
