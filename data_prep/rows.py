"""What a dataset row must be, format by format, and what is wrong with one that is not."""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from data_prep.inverse import INVERSE_SYSTEM_PROMPTS, is_blank
from retrieval.prompt import SYSTEM_PROMPTS
from retrieval.text import mark, marked_indices, neutralise, neutralise_control_tokens, strip_marks

_FACT_LINE = re.compile(r"\[P([1-9][0-9]*)\] (.+)")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Message(_Model):
    """One message of a ShareGPT row."""

    role: Literal["human", "gpt"] = Field(alias="from")
    value: str


class Sharegpt(_Model):
    """``prompt``: user, assistant, ..., user as the model sees them; ``right``, ``wrong``: replies to the last."""

    conversations: list[Message]
    system: str

    @property
    def roles(self) -> list[str]:
        return [message.role for message in self.conversations]

    @property
    def prompt(self) -> list[str]:
        return [message.value for message in self.conversations[:-1]]

    @property
    def right(self) -> str | None:
        return self.conversations[-1].value

    @property
    def wrong(self) -> str | None:
        return None


class Dpo(Sharegpt):
    """The conversation ends with a message; ``chosen`` and ``rejected`` answer it."""

    chosen: Message
    rejected: Message

    @property
    def roles(self) -> list[str]:
        # As if both replies followed the last message.
        return [*super().roles, self.chosen.role, *super().roles[-1:], self.rejected.role]

    @property
    def prompt(self) -> list[str]:
        return [message.value for message in self.conversations]

    @property
    def right(self) -> str | None:
        return self.chosen.value

    @property
    def wrong(self) -> str | None:
        return self.rejected.value


class Kto(Sharegpt):
    """``kto_tag``: whether the last reply is the right one."""

    kto_tag: bool

    @property
    def right(self) -> str | None:
        return super().right if self.kto_tag else None

    @property
    def wrong(self) -> str | None:
        return None if self.kto_tag else super().right


class Alpaca(_Model):
    """``history``: earlier (user, assistant) pairs, facts and marks in them."""

    instruction: str
    input: str
    output: str
    system: str
    history: list[tuple[str, str]]

    @property
    def roles(self) -> list[str]:
        return ["human", "gpt"] * (len(self.history) + 1)

    @property
    def prompt(self) -> list[str]:
        # LLaMA-Factory joins instruction and input with one newline.
        last = "\n".join(part for part in (self.instruction, self.input) if part)
        return [*(turn for pair in self.history for turn in pair), last]

    @property
    def right(self) -> str | None:
        return self.output

    @property
    def wrong(self) -> str | None:
        return None


class Inverse(Alpaca):
    """``instruction``: a reply with its marks; ``input``: the facts shown; ``output``: the message that it answers."""

    history: list[tuple[str, str]] = Field(max_length=0)


Row = Sharegpt | Alpaca
ROWS: dict[str, type[Row]] = {"sharegpt": Sharegpt, "alpaca": Alpaca, "dpo": Dpo, "kto": Kto, "inverse": Inverse}


def facts_of(user_turn: str) -> dict[int, str]:
    """The facts that stand at the end of a user turn: their numbers (from 0) and texts."""
    facts = {}
    for line in reversed(user_turn.split("\n")):
        if not (found := _FACT_LINE.fullmatch(line)):
            break
        facts[int(found[1]) - 1] = found[2]
    return dict(reversed(facts.items()))


def message_of(user_turn: str) -> str:
    """A user turn without the facts at its end."""
    lines = user_turn.split("\n")
    return "\n".join(lines[: len(lines) - len(facts_of(user_turn))])


def breaches(row: Row, k: int) -> Iterator[str]:
    """What is wrong with a row: who speaks when, empty turns, facts, marks, control tokens. ``k``: facts at most."""
    yield from _inverse_breaches(row, k) if isinstance(row, Inverse) else _dialogue_breaches(row, k)


def _dialogue_breaches(row: Row, k: int) -> Iterator[str]:
    if row.system not in SYSTEM_PROMPTS.values():
        yield "the system line is none of ours"
    if row.roles != ["human", "gpt"] * (len(row.roles) // 2) or not row.roles:
        yield "human and gpt do not alternate, human first and gpt last"
        return
    card: dict[int, str] = {}
    turns = row.prompt if row.right is None else [*row.prompt, row.right]
    for number, turn in enumerate(turns):
        where = f"turn {number + 1}"
        if not turn.strip():
            yield f"{where} is empty"
        if neutralise_control_tokens(turn) != turn:
            yield f"{where} holds a control token"
        if number % 2 == 0:
            facts = facts_of(turn)
            message = message_of(turn)
            if neutralise(message) != message:
                yield f"{where} holds a mark outside of its facts"
            if len(facts) > k:
                yield f"{where} shows {len(facts)} facts, more than {k}"
            for index, fact in facts.items():
                if card.setdefault(index, fact) != fact:
                    yield f"{where} shows another fact as P{index + 1} than a turn before"
        else:
            if missing := [index + 1 for index in marked_indices(turn) if index not in facts]:
                yield f"{where} cites P{missing[0]}, which its message does not show"
            if not strip_marks(turn):
                yield f"{where} is nothing but marks"
    if row.wrong is not None:
        if row.wrong == row.right or not strip_marks(row.wrong):
            yield "the rejected reply is empty or the same as the chosen one"
        if neutralise_control_tokens(row.wrong) != row.wrong:
            yield "the rejected reply holds a control token"


def _inverse_breaches(row: Inverse, k: int) -> Iterator[str]:
    if row.system not in INVERSE_SYSTEM_PROMPTS.values():
        yield "the system line is not the inverse one"
    facts, cited = facts_of(row.input), marked_indices(row.instruction)
    if not facts or "\n".join(f"{mark(index)} {fact}" for index, fact in facts.items()) != row.input:
        yield "the input is not facts, each once and on a line of its own"
    if len(facts) > k:
        yield f"the input shows {len(facts)} facts, more than {k}"
    if not strip_marks(row.instruction):
        yield "the reply is empty or nothing but marks"
    if not cited:
        yield "the reply cites no fact"
    if missing := [index + 1 for index in cited if index not in facts]:
        yield f"the reply cites P{missing[0]}, which the input does not show"
    rest = row.instruction
    for index in cited:
        rest = rest.replace(mark(index), "")
    if _holds_mark(rest):
        yield "the reply holds a mark that is of no fact"
    if is_blank(row.output):
        yield "the message is blank"
    if _holds_mark(row.output):
        yield "the message holds a mark"
    for name, text in (("reply", row.instruction), ("input", row.input), ("message", row.output)):
        if neutralise_control_tokens(text) != text:
            yield f"the {name} holds a control token"


def _holds_mark(text: str) -> bool:
    return neutralise(text) != neutralise_control_tokens(text)
