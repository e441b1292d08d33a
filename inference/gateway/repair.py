"""What clients send, made into what a persona is asked with: one system text, and turns that alternate."""

from collections.abc import Sequence
from dataclasses import dataclass

from inference.gateway.errors import RequestError
from inference.gateway.schemas import Message

GREETED = "Hi."  # what the user said before a conversation that the persona opens


@dataclass(frozen=True)
class Talk:
    """``system``: all system messages. ``said``: user, assistant, ..., user."""

    system: str
    said: list[str]


def repair(messages: Sequence[Message]) -> Talk:
    """Several system messages are joined, and so are neighbours of one role; parts of text are joined; empty messages
    are left out; a conversation that the assistant opens gets a greeting before it.

    Raises RequestError for what is no text, for tools, and if the last word is not the user's.
    """
    system, turns = [], []
    for number, message in enumerate(messages):
        role, text = message.role, _text(message, number)
        if role in ("system", "developer"):
            system.append(text)
        elif role in ("tool", "function") or message.tool_calls:
            raise RequestError(400, "A persona calls no tools; leave tool messages out.", f"messages.{number}")
        elif not text.strip():
            continue
        elif turns and turns[-1][0] == role:
            turns[-1][1].append(text)
        else:
            turns.append((role, [text]))
    if not turns or turns[-1][0] != "user":
        raise RequestError(400, "The last message must be the user's, and not empty.", "messages")
    if turns[0][0] == "assistant":
        turns.insert(0, ("user", [GREETED]))
    return Talk("\n\n".join(filter(None, map(str.strip, system))), ["\n\n".join(texts) for _, texts in turns])


def _text(message: Message, number: int) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    for part in message.content:
        if part.type not in ("text", "input_text", "refusal"):
            raise RequestError(400, f"A persona reads text only, not {part.type[:40]!r}.", f"messages.{number}.content")
    return "\n".join(part.text or part.refusal or "" for part in message.content)
