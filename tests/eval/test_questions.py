import json
from dataclasses import replace

import pytest

from data_prep.build import Settings, build
from data_prep.errors import InputError
from data_prep.labellers.registry import LABELLERS
from data_prep.reader import Conversation, Turn, read_conversations
from data_prep.samples import Exchange, Sample, SampleSettings
from data_prep.sources import find_files
from eval.questions import Question, draw, messages_of, read_questions, sample_hash, shown
from inference.prompts import PromptBuilder
from retrieval.prompt import SYSTEM_PROMPTS
from retrieval.registry import open_retriever
from retrieval.text import marked_indices, strip_marks

SPLITS = ("valid", "test")


@pytest.fixture(scope="module")
def questions():
    return {split: read_questions(find_files("sample")[split], split) for split in SPLITS}


def messages_of_row(row):
    """A row of the Alpaca format as LLaMA-Factory asks it, in OpenAI's form."""
    last = "\n".join(part for part in (row["instruction"], row["input"]) if part)
    turns = [*(turn for pair in row["history"] for turn in pair), last]
    messages = [{"role": ("user", "assistant")[number % 2], "content": turn} for number, turn in enumerate(turns)]
    return [{"role": "system", "content": row["system"]}, *messages]


def rows_of(data, split):
    return json.loads((data / f"spc_alpaca_{split}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["small", "tfidf", "none"])
def test_the_prompts_are_those_of_make_data(questions, tmp_path, name):
    settings = Settings("sample", SampleSettings(missed="keep"), retriever=name, formats=("alpaca",))
    build(settings, tmp_path / "data")
    for split in SPLITS:
        samples, identity = shown(questions[split], name)
        rows = rows_of(tmp_path / "data", split)
        assert [messages_of(sample) for sample in samples] == [messages_of_row(row) for row in rows]
        assert [strip_marks(row["output"]) for row in rows] == [question.reference for question in questions[split]]
        assert identity == open_retriever(name).identity
        assert any(marked_indices(row["output"]) for row in rows) == (name != "none")


def test_where_retrieval_missed_nothing_they_are_those_of_the_default_dataset(questions, sample_data):
    for split in SPLITS:
        prompts = [messages_of_row(row) for row in rows_of(sample_data, split)]
        compared = 0
        for sample in shown(questions[split], "small")[0]:
            pairs = zip(sample.exchanges, sample.hits, strict=True)
            if all(exchange.used.keys() <= {hit.index for hit in hits} for exchange, hits in pairs):
                assert messages_of(sample) in prompts
                compared += 1
        assert compared > 20


def test_serving_would_ask_the_same(questions):
    builder = PromptBuilder(open_retriever("small"))
    for sample in shown(questions["test"], "small")[0]:
        assert builder.build(sample.dialogue.turns[:-1], sample.card).messages == messages_of(sample)


def test_without_facts_the_system_line_is_the_same(questions):
    for sample in shown(questions["test"], "none")[0]:
        system, *turns = messages_of(sample)
        assert system == {"role": "system", "content": SYSTEM_PROMPTS["en"]}
        assert not any("[P" in turn["content"] for turn in turns)


def test_the_oracle_shows_the_facts_that_are_used(questions):
    samples, identity = shown(questions["test"], "oracle")
    assert identity == "oracle"
    for question, sample in zip(questions["test"], samples, strict=True):
        for exchange, hits in zip(sample.exchanges, sample.hits, strict=True):
            assert [hit.index for hit in hits] == sorted(exchange.used)[:2]
        assert [hit.index + 1 for hit in sample.hits[-1]] == question.record["used"][:2]
    assert any(sample.hits[-1] for sample in samples)


def asked(row, used):
    exchange = Exchange(1, "Hi!", "Hello.", dict.fromkeys(used, (0,)))
    return Question(Sample("test", row, 0, ["I sing.", "I cook."], [exchange], [[]]), ["I swim."])


def test_the_oracle_tells_like_messages_to_like_cards_apart():
    samples, _ = shown([asked(0, [1]), asked(1, []), asked(2, [0])], "oracle")
    assert [[hit.index for hit in sample.hits[0]] for sample in samples] == [[1], [], [0]]


def test_the_oracle_tells_a_message_that_is_said_twice_apart():
    question = asked(0, [1])
    again = Exchange(3, "Hi!", "Hello.", {0: (0,)})
    sample = replace(question.sample, exchanges=[*question.sample.exchanges, again], hits=[[], []])
    [found], _ = shown([replace(question, sample=sample)], "oracle")
    assert [[hit.index for hit in hits] for hits in found.hits] == [[1], [0]]


def test_a_question_is_what_the_source_says(questions):
    talks = {talk.row: talk for talk in read_conversations(find_files("sample")["test"], "test")[0]}
    assert len({question.id for question in questions["test"]}) == len(questions["test"])
    for question in questions["test"]:
        record = question.record
        split, row, turn = record["id"].split("-")
        talk, turn = talks[int(row)], int(turn)
        side = talk.turns[turn].side
        assert split == "test"
        assert (record["card"], record["other_card"]) == (talk.cards[side], talk.cards[1 - side])
        assert len(record["history"]) % 2 == 0
        turns = [*record["history"], record["message"], record["reference"]]
        said = [one.text for one in talk.turns[turn + 1 - len(turns) : turn + 1]]
        assert turns == said or "[" in "".join(one.text for one in talk.turns)
        assert set(record["used"]) <= set(range(1, len(record["card"]) + 1))


def test_placeholders_are_filled(tmp_path, monkeypatch):
    turns = [Turn(0, "Hi, I'm [name]."), Turn(1, "Hello [User 1's name]!")]
    talk = Conversation("test", 0, (["I sing."], ["I cook."]), turns)
    monkeypatch.setattr("eval.questions.read_conversations", lambda path, split: ([talk], []))
    monkeypatch.setitem(LABELLERS, "encoder", LABELLERS["overlap"])  # the encoder would have to be opened
    [question] = read_questions(tmp_path, "test")
    assert "[" not in question.record["message"] + question.reference
    name = question.record["message"].removeprefix("Hi, I'm ").rstrip(".")
    assert question.reference == f"Hello {name}!"


def test_a_sample_takes_every_conversation_in_turn(questions):
    everything = questions["test"]
    rows = {question.sample.row for question in everything}
    drawn = draw(everything, len(rows) + 3, seed=1)
    assert {question.sample.row for question in drawn[: len(rows)]} == rows
    assert len({question.id for question in drawn}) == len(rows) + 3
    assert draw(everything, 4, seed=1) == drawn[:4]
    assert draw(everything, 4, seed=2) != drawn[:4]
    assert sorted(question.id for question in draw(everything, None, 0)) == sorted(one.id for one in everything)
    with pytest.raises(InputError, match="There are"):
        draw(everything, len(everything) + 1, seed=1)


def test_the_hash_is_of_ids_texts_and_labels(questions):
    drawn = draw(questions["test"], 5, seed=0)
    again = draw(read_questions(find_files("sample")["test"], "test"), 5, seed=0)
    assert sample_hash(drawn) == sample_hash(again)
    others = [replace(drawn[0], other_card=["I swim."]), asked(0, [1]), asked(1, [1]), asked(0, [0])]
    hashes = {sample_hash(drawn[::-1]), *(sample_hash([other, *drawn[1:]]) for other in others), sample_hash(drawn)}
    assert len(hashes) == 6
