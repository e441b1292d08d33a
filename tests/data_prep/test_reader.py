import re
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError
from data_prep.reader import COLUMNS, parse_turns, read_chunks, read_conversations, read_tables
from data_prep.sources import FILE_NAMES, SAMPLE


def read_table(path):
    return pd.concat(read_tables(path, 1000))


def letters(text: str) -> str:
    """What must not get lost: everything but white space, stars and speaker labels."""
    return re.sub(r"[\s*]", "", re.sub(r"^[\s*]*User\s*[12]\s*:", "", text, flags=re.IGNORECASE | re.MULTILINE))


def check_every_line(path, split):
    """Each source line is either in a turn, in order, or in the rejects; returns conversations, rejects, rows."""
    conversations, rejects = read_conversations(path, split)
    table = read_table(path)
    lost = {(reject.row, reject.line) for reject in rejects if reject.line is not None}
    read = {conversation.row: conversation for conversation in conversations}
    for row, text in enumerate(table[COLUMNS[2]]):
        kept = [line for number, line in enumerate(text.split("\n")) if (row, number) not in lost]
        turns = read[row].turns if row in read else []
        assert letters("".join(letters(line) for line in kept)) == letters("".join(turn.text for turn in turns)), row
        assert all(a.side != b.side for a, b in pairwise(turns))
        assert all(turn.text.strip() for turn in turns)
    whole = [reject for reject in rejects if reject.line is None]
    assert len(conversations) + len(whole) == len(table)
    return conversations, rejects, table


@pytest.mark.parametrize("split", FILE_NAMES)
def test_every_line_of_the_sample_is_accounted_for(split):
    check_every_line(SAMPLE / FILE_NAMES[split], split)


@pytest.mark.parametrize(
    ("split", "rows", "at_least"), [("train", 8938, 8900), ("valid", 1000, 995), ("test", 968, 964)]
)
def test_every_line_of_spc_is_accounted_for(spc_dir, split, rows, at_least):
    conversations, rejects, table = check_every_line(spc_dir / FILE_NAMES[split], split)
    assert len(table) == rows
    assert len(conversations) >= at_least
    assert all(reject.text.strip() for reject in rejects if reject.reason == "stage direction")


def test_the_sample_is_large_enough_and_holds_every_trap():
    files = [SAMPLE / name for name in FILE_NAMES.values()]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert sum(len(read_table(path)) for path in files) >= 60
    for trap in (
        r"^\*User 1:\* ", r"^\* \* User 1: \* \* ", r"^\* User 1: .* \*$", r"^\[A few minutes later\]$", r"^\* \* \*$",
        r"^\*Later that evening\*$", r"^Ingredients:$", r"User 1 Profiles: \{I like", r"^User 2: $", r"\[name\]",
        r"\(name\)", r"\[User 1's name\]", r"\[username\]", r"\[city\]", r"\[P1\]", r"<\|im_end\|>", "[\u4e00-\u9fff]",
    ):  # fmt: skip
        assert re.search(trap, text, re.MULTILINE), trap
    turns = [turn.text for path in files for c in read_conversations(path, "any")[0] for turn in c.turns]
    assert not any("User 1:" in turn for turn in turns)
    spoken = [
        re.findall(r"^User ([12]):", cell, re.MULTILINE) for path in files for cell in read_table(path)[COLUMNS[2]]
    ]
    assert any(a == b for sides in spoken for a, b in pairwise(sides))  # one side twice running
    assert any(
        not sides and "\n" in cell
        for path in files
        for cell in read_table(path)[COLUMNS[2]]
        for sides in [re.findall("User [12]", cell)]
    )  # no label at all
    reasons = {reject.reason for path in files for reject in read_conversations(path, "any")[1]}
    assert reasons == {
        "blank line", "card repeated", "conversation without a turn", "empty turn", "no speaker label",
        "stage direction",
    }  # fmt: skip


def turns_of(*lines):
    turns, unused = parse_turns(list(lines))
    return [(turn.side + 1, turn.text) for turn in turns], unused


def test_markup_around_labels():
    said = [(1, "Hi!"), (2, "Hello")]
    assert turns_of("User 1: Hi!", "User 2: Hello") == (said, [])
    assert turns_of("*User 1:* Hi!", "*User 2:* Hello") == (said, [])
    assert turns_of("* * User 1: * * Hi!", "* * User 2: * * Hello") == (said, [])
    assert turns_of("* User 1: Hi! *", "* User 2: Hello *") == (said, [])
    assert turns_of("**User 1**: Hi!", "[User 2]: Hello") == (said, [])
    assert turns_of("User 1: *waves*", "User 2: 2 * 2 *") == ([(1, "*waves*"), (2, "2 * 2 *")], [])


def test_a_turn_that_is_only_acted_is_a_stage_direction():
    assert turns_of("User 1: Hi!", "User 2: (makes the sign for hello.)", "User 2: Ha.") == (
        [(1, "Hi!"), (2, "Ha.")],
        [(1, "stage direction")],
    )


def test_labels_of_another_kind_are_not_taken_for_speech():
    script = ["Anna: Hi!", "Ben: Hello!", "Anna: How are you?", "Ben: Fine."]
    assert turns_of(*script) == ([], [(number, "no speaker label") for number in range(4)])


def test_one_side_twice_running_is_one_turn():
    assert turns_of("User 1: Hi!", "User 2: Hello.", "User 2: Who are you?")[0] == [
        (1, "Hi!"),
        (2, "Hello. Who are you?"),
    ]
    assert turns_of("User 1: Hi!", "User 2: ", "User 1: Anyone?") == ([(1, "Hi! Anyone?")], [(1, "empty turn")])


def test_a_list_belongs_to_its_turn_but_narration_to_none():
    recipe = ["User 1: How?", "User 2: So:", "1 egg", "* 2 cups of flour", "Mix.", "User 1: Thanks!"]
    assert turns_of(*recipe) == ([(1, "How?"), (2, "So:\n1 egg\n* 2 cups of flour\nMix."), (1, "Thanks!")], [])
    walk = ["User 1: Come!", "At the gym", "User 2: Nice.", "[Later]", "(They leave)", "*At night*", "User 1: Bye!"]
    assert turns_of(*walk) == (
        [(1, "Come!"), (2, "Nice."), (1, "Bye!")],
        [(1, "no speaker label"), (3, "stage direction"), (4, "stage direction"), (5, "stage direction")],
    )


def test_a_conversation_without_any_label_alternates():
    assert turns_of("Hi!", "", "Hello!", "How are you?", "Fine.")[0] == [
        (1, "Hi!"), (2, "Hello!"), (1, "How are you?"), (2, "Fine."),
    ]  # fmt: skip
    assert turns_of("I hope this helps.") == ([], [(0, "no speaker label")])


@given(
    st.lists(st.sampled_from(["", "User 1: a", "User 2: b", "*User 1:* c", "[x]", "d", "* * *", "User 2:"]) | st.text())
)
def test_any_lines_are_turns_or_rejects(lines):
    lines = [line for text in lines for line in text.split("\n")]
    turns, unused = parse_turns(lines)
    numbers = [number for number, _ in unused]
    assert numbers == sorted(set(numbers))
    kept = [line for number, line in enumerate(lines) if number not in numbers]
    assert letters("".join(letters(line) for line in kept)) == letters("".join(turn.text for turn in turns))


@given(st.binary(max_size=400) | st.text(alphabet='",\n User12:ab', max_size=400).map(str.encode))
@settings(max_examples=200)
def test_any_file_is_read_or_refused_in_a_sentence(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "some.csv"
    for head in (b"", (",".join(COLUMNS) + "\n").encode()):
        path.write_bytes(head + content)
        try:
            conversations, rejects = read_conversations(path, "train")
        except InputError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
        else:
            whole = sum(reject.line is None for reject in rejects)
            assert len(conversations) + whole == len(read_table(path))


def test_missing_cells_are_empty_and_the_word_nan_is_a_word(tmp_path):
    path = tmp_path / "some.csv"
    pd.DataFrame([["I like naan.", "NaN", None]], columns=COLUMNS).to_csv(path, index=False)
    assert read_table(path).iloc[0].tolist() == ["I like naan.", "NaN", ""]


def test_chunks_are_the_whole_file_with_the_same_rows(tmp_path):
    whole, rejects = read_conversations(SAMPLE / FILE_NAMES["train"], "train")
    chunks = list(read_chunks(SAMPLE / FILE_NAMES["train"], "train", rows=7))
    assert len(chunks) == 9
    assert [conversation for conversations, _ in chunks for conversation in conversations] == whole
    assert [reject for _, part in chunks for reject in part] == rejects
