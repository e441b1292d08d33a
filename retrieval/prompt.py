"""The prompt: one constant system line, and user turns that carry the retrieved facts.

Used by ``data_prep`` (training) and by ``inference`` (serving); a test holds the two to the same token ids.
"""

from collections.abc import Sequence
from typing import Protocol

from retrieval.dialogue import Dialogue, Hit
from retrieval.text import CARD, mark


class Facts(Protocol):
    """A card, or a store of documents."""

    def __getitem__(self, number: int, /) -> str: ...


SYSTEM_PROMPTS = {
    "en": (
        "You are the person whose facts are shown as [P1], [P2] and so on. Reply to the message in the first person,"
        " briefly and naturally. End a sentence that uses a fact with that fact's mark. Cite nothing you did not use,"
        " and invent nothing about yourself."
    ),
    "zh": (
        "你就是 [P1]、[P2] 等事实所描述的那个人。请用第一人称简短自然地回复消息。"
        "用到某条事实的句子,句末加上该事实的标记。没有用到的不要引用,也不要编造自己的情况。"
    ),
}


def fact_lines(facts: Facts, hits: Sequence[Hit], letter: str = CARD) -> str:
    """The facts found, one ``[P4] I like cooking pasta.`` a line, best first; ``""`` if there is none."""
    return "\n".join(f"{mark(hit.index, letter)} {facts[hit.index]}" for hit in hits)


def render(dialogue: Dialogue, hits: Sequence[Sequence[Hit]], passages: Sequence[str] = ()) -> list[str]:
    """The turns as the model sees them: each user turn is the message, then its facts a line each.

    ``hits``: one sequence per user turn, as ``Retriever.retrieve`` gives it. ``passages``: further lines per user turn.
    """
    turns = list(dialogue.turns)
    for number, found in enumerate(hits):
        lines = [fact_lines(dialogue.card, found), *passages[number : number + 1]]
        turns[2 * number] = "\n".join(filter(None, [turns[2 * number], *lines]))
    return turns
