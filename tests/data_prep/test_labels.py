import json

import pytest

from data_prep.errors import InputError
from data_prep.keys import conversation_key, reply_key
from data_prep.labels import LABELS, labelled_conversations, labelled_replies, read_gold
from data_prep.reader import read_conversations
from data_prep.sources import FILE_NAMES, HELD_OUT, NEW_PERSONA

ROW = {
    "id": "train-1-3", "responder": "User 2", "persona": ["I sing.", "I have a cat."], "query": "Any pets?",
    "history": ["User 2: Hi!", "User 1: Hello."], "reply": "A cat.", "used": [2], "relevant": [2],
}  # fmt: skip


def rows(name):
    return [json.loads(line) for line in (LABELS / name).read_text(encoding="utf-8").splitlines()]


def gold_file(tmp_path, *lines):
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_an_item_of_the_gold_format(tmp_path):
    [item] = read_gold(gold_file(tmp_path, ROW))
    assert [(turn.side, turn.text) for turn in item.conversation.turns] == [
        (1, "Hi!"), (0, "Hello."), (0, "Any pets?"), (1, "A cat."),
    ]  # fmt: skip
    assert item.card == ROW["persona"]
    assert (item.used, item.relevant) == ({1}, {1})


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("{", "line 2 is not JSON"),
        (ROW | {"used": [3]}, "line 2"),
        (ROW | {"responder": "Anna"}, "line 2"),
        ({name: value for name, value in ROW.items() if name != "query"}, "'query'"),
        (ROW | {"history": ["Hi!"]}, "line 2"),
        (ROW | {"history": [1]}, "line 2"),
        ("[1]", "line 2"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, names):
    path = gold_file(tmp_path, ROW, line)
    with pytest.raises(InputError, match=names) as caught:
        read_gold(path)
    assert str(path) in str(caught.value)


def test_a_missing_and_an_empty_file_are_named(tmp_path):
    for path in (tmp_path / "nowhere.jsonl", gold_file(tmp_path)):
        with pytest.raises(InputError, match=path.name):
            read_gold(path)


def test_no_text_ships():
    for path in LABELS.glob("*.jsonl"):
        for row in rows(path.name):
            assert set(row) <= {"key", "id", "sample", "used", "relevant"}
            assert row.get("sample") in (None, "random", "enriched")
    assert [len(rows(f"gold_{split}.jsonl")) for split in ("train", "valid")] == [4400, 400]


def test_no_key_of_valid_is_in_the_labels_to_train_on():
    valid = {row["key"] for row in rows("gold_valid.jsonl")}
    assert len(valid) == 400
    assert not valid & {row["key"] for row in rows("gold_train.jsonl")}


def test_the_conversations_that_choose_the_threshold_hold_no_reply_to_measure_on(spc_dir):
    conversations = read_conversations(spc_dir / FILE_NAMES["valid"], "valid")[0]
    choosing = labelled_conversations(conversations, "valid")
    measuring = {item.conversation.row for item in labelled_replies(conversations, "valid")}
    assert len(choosing) == len(rows("conversations_valid.jsonl"))
    assert len(measuring) >= 300
    assert not measuring & {item.conversation.row for item in choosing}


def test_no_conversation_and_no_new_fact_of_valid_and_test_is_in_the_labels_to_train_on(spc_dir):
    held, facts = set(), set()
    for split in HELD_OUT:
        for conversation in read_conversations(spc_dir / FILE_NAMES[split], split)[0]:
            held.add(conversation_key(conversation))
            facts.update(fact.lower() for card in conversation.cards for fact in card)
    assert not held & {row["key"] for split in ("train", "new_persona") for row in rows(f"conversations_{split}.jsonl")}
    new = read_conversations(spc_dir / NEW_PERSONA["new_persona"], "new_persona")[0]
    labelled = labelled_conversations(new, "new_persona")
    assert len(labelled) == len(rows("conversations_new_persona.jsonl"))
    assert not facts & {fact.lower() for item in labelled for card in item.conversation.cards for fact in card}


def test_the_shipped_labels_are_those_of_the_labelled_files(spc_dir):
    for split in ("train", "valid"):
        path = spc_dir.parent / "gold" / f"{split}.gold.jsonl"
        if not path.is_file():
            pytest.skip(f"{path} is not here")
        shipped = {row["key"]: row for row in rows(f"gold_{split}.jsonl")}
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            other = shipped[reply_key(row["persona"], row["query"], row["reply"])]
            assert (other["used"], other["relevant"]) == (row["used"], row["relevant"])


def test_the_labels_join_to_spc(spc_dir):
    conversations = read_conversations(spc_dir / FILE_NAMES["train"], "train")[0]
    replies = labelled_replies(conversations, "train")
    assert len(replies) >= 4390  # ten replies are one turn with another of the same speaker, as we read them
    whole = labelled_conversations(conversations, "train")
    assert len(whole) == len(rows("conversations_train.jsonl"))
    for item in [*replies, *whole]:
        for turn, used in item.used.items():
            assert all(0 <= fact < len(item.conversation.cards[item.conversation.turns[turn].side]) for fact in used)
    # Two readers of the same replies agree.
    both = {item.conversation.row: item.used for item in whole}
    pairs = [
        (used, both[item.conversation.row][turn])
        for item in replies if item.conversation.row in both for turn, used in item.used.items()
    ]  # fmt: skip
    hits = sum(len(a & b) for a, b in pairs)
    assert len(pairs) > 200
    assert 2 * hits / sum(len(a) + len(b) for a, b in pairs) > 0.9
