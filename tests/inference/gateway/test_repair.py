"""What backends cannot take is repaired, or refused in OpenAI's shape."""

import pytest

from inference.gateway.errors import RequestError
from inference.gateway.repair import GREETED, repair
from inference.gateway.schemas import Message


def talk(*messages):
    return repair([Message(role=role, content=content) for role, content in messages])


def test_system_messages_are_joined_wherever_they_stand():
    repaired = talk(("system", "One."), ("user", "Hi"), ("developer", "Two."), ("system", None))
    assert (repaired.system, repaired.said) == ("One.\n\nTwo.", ["Hi"])


def test_repeated_roles_are_joined_and_empty_messages_left_out():
    repaired = talk(("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", None), ("assistant", "d"),
                    ("user", " "), ("user", "e"))  # fmt: skip
    assert repaired.said == ["a\n\nb", "c\n\nd", "e"]


def test_a_greeting_by_the_assistant_is_answered_to_one():
    assert talk(("assistant", "Welcome!"), ("user", "Hi")).said == [GREETED, "Welcome!", "Hi"]


def test_parts_of_text_are_joined():
    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]
    assert talk(("user", parts)).said == ["One\ntwo"]


@pytest.mark.parametrize(
    "messages",
    [
        [("user", "a"), ("assistant", "b")],
        [("system", "a")],
        [("user", "")],
        [("user", None)],
        [("user", "a"), ("tool", "b"), ("user", "c")],
        [("user", [{"type": "image_url"}])],
    ],
)
def test_the_rest_is_refused(messages):
    with pytest.raises(RequestError) as refused:
        talk(*messages)
    assert refused.value.status == 400
