import re

from data_prep.placeholders import NAMES, fill, has_placeholder
from data_prep.reader import Conversation, Turn, read_conversations
from data_prep.sources import FILE_NAMES, SAMPLE


def filled(*texts: str) -> list[str]:
    turns = [Turn(number % 2, text) for number, text in enumerate(texts)]
    return [turn.text for turn in fill(Conversation("train", 0, ([], []), turns)).turns]


def test_a_name_stays_the_same_name_whoever_says_it():
    first, second, third, fourth = filled(
        "Hi, I'm [name].", "Hello [User 1's name], my name is (name).", "Nice, [user_2_name]!", "And you, User 1?"
    )
    one = first.removeprefix("Hi, I'm ").removesuffix(".")
    two = third.removeprefix("Nice, ").removesuffix("!")
    assert {one, two} <= set(NAMES)
    assert one != two
    assert second == f"Hello {one}, my name is {two}."
    assert fourth == f"And you, {one}?"


def test_a_bare_name_is_the_other_side_unless_it_introduces():
    calls, answer = filled("Hello [name], call me [your name]!", "Hi (username).")
    assert re.fullmatch(r"Hello (\w+), call me (\w+)!", calls)
    assert answer == f"Hi {calls.split()[-1].removesuffix('!')}."


def test_a_name_on_the_card_is_the_name():
    turns = [Turn(0, "I'm [name]."), Turn(1, "Hi [User 1's name], I'm User 1."), Turn(0, "My dog's name is (name).")]
    conversation = Conversation("train", 0, (["My name is todd and i am 19."], ["my name is Mary."]), turns)
    assert [turn.text for turn in fill(conversation).turns][:2] == ["I'm Todd.", "Hi Todd, I'm Mary."]


def test_places_are_filled_and_the_rest_is_found():
    [text] = filled("I live in [city], near [User 1's hometown].")
    assert "[" not in text
    assert has_placeholder("My band is [band name].")
    assert has_placeholder("I'm (age) years old.")
    assert has_placeholder("Here is (User 1's contact info).")
    assert not has_placeholder("It says [P1] here (555), (I can't get no).")


def test_filling_is_repeatable_and_leaves_no_name_placeholder(spc_dir):
    conversations, _ = read_conversations(spc_dir / FILE_NAMES["valid"], "valid")
    again = [fill(conversation) for conversation in conversations]
    assert again == [fill(conversation) for conversation in conversations]
    texts = [turn.text for conversation in again for turn in conversation.turns]
    assert not [
        text for text in texts if re.search(r"[\[(]\s*(user\s*[12]|name|user ?name)\b[^\])]{0,8}[\])]", text, re.I)
    ]
    assert sum(map(has_placeholder, texts)) < 0.005 * len(texts)


def test_the_sample_keeps_no_placeholder():
    for name in FILE_NAMES.values():
        for conversation in read_conversations(SAMPLE / name, "any")[0]:
            assert not [turn.text for turn in fill(conversation).turns if has_placeholder(turn.text)]
