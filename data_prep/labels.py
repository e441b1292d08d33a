"""Labels over SPC that ship with the project, without SPC's text: keyed by a hash, and joined to the text on demand.

The labels were made by a language model that read the replies, not by people; ``label_files/README.md`` says how.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from data_prep.errors import InputError
from data_prep.json_lines import json_lines
from data_prep.keys import conversation_key, reply_key
from data_prep.placeholders import fill
from data_prep.reader import Conversation, Turn

LABELS = Path(__file__).parent / "label_files"
SPEAKERS = ("User 1", "User 2")
HISTORY = 4  # turns before the message in the gold format


KEPT_BACK = 800  # labelled replies of train that nothing is trained on, to measure on
KEPT_BACK_SEED = 20261121


@dataclass(frozen=True)
class Labelled:
    """A conversation of SPC, and for each labelled turn the facts it uses, counted from 0. Unlabelled turns lack.

    ``relevant``: the facts that an ideal reply could rest on, where that was labelled too.
    """

    conversation: Conversation
    used: dict[int, frozenset[int]]
    relevant: dict[int, frozenset[int]] = field(default_factory=dict)


def labelled_replies(conversations: Iterable[Conversation], split: str) -> list[Labelled]:
    """The gold labels of ``train`` or ``valid`` joined to SPC: one labelled turn each, placeholders filled."""
    rows = {row["key"]: row for _, row in json_lines(LABELS / f"gold_{split}.jsonl")}
    joined = {}
    for conversation in conversations:
        turns = conversation.turns
        for number in range(1, len(turns)):
            side = turns[number].side
            key = reply_key(conversation.cards[side], turns[number - 1].text, turns[number].text)
            if key in rows and key not in joined:
                used, relevant = ({number: _from_zero(rows[key][name])} for name in ("used", "relevant"))
                joined[key] = Labelled(fill(conversation), used, relevant)
    return list(joined.values())


def labelled_conversations(conversations: Iterable[Conversation], split: str) -> list[Labelled]:
    """The labels of whole conversations of ``train``, ``new_persona`` or ``valid``, joined to SPC and filled."""
    rows = {row["key"]: row["used"] for _, row in json_lines(LABELS / f"conversations_{split}.jsonl")}
    return [
        Labelled(
            fill(conversation), {turn: _from_zero(used.get(str(turn), ())) for turn in range(len(conversation.turns))}
        )
        for conversation in conversations
        if (used := rows.get(conversation_key(conversation))) is not None
    ]


def kept_back(replies: Sequence[Labelled], conversations: Sequence[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
    """Labelled replies to train on, and ``KEPT_BACK`` others whose conversations are not trained on at all.

    ``conversations``: those that are labelled whole, and trained on.
    """
    rows = {item.conversation.row for item in conversations}
    free = sorted({item.conversation.row for item in replies} - rows)
    Random(KEPT_BACK_SEED).shuffle(free)
    held: list[Labelled] = []
    held_rows: set[int] = set()
    for row in free:
        if len(held) >= KEPT_BACK:
            break
        held_rows.add(row)
        held += [item for item in replies if item.conversation.row == row]
    return [item for item in replies if item.conversation.row not in held_rows], held


def _from_zero(facts: Iterable[int]) -> frozenset[int]:
    return frozenset(fact - 1 for fact in facts)


@dataclass(frozen=True)
class GoldItem:
    """One labelled reply: the last turn of ``conversation``, in which only the responder's card is known.

    ``used``, ``relevant``: fact numbers, counted from 0.
    """

    id: str
    conversation: Conversation
    used: frozenset[int]
    relevant: frozenset[int]

    @property
    def card(self) -> list[str]:
        """The responder's card."""
        return self.conversation.cards[self.conversation.turns[-1].side]


def read_gold(path: Path) -> list[GoldItem]:
    """A file of the gold format, placeholders filled: one JSON object a line, with id, responder, persona, history,
    query, reply, used and relevant; see DESIGN section 7.

    Raises InputError that names the file and the line, if it cannot be read.
    """
    items = []
    for place, row in json_lines(path):
        try:
            items.append(_gold_item(row))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise InputError(f"{place} is not an item of the gold format ({error!r}).") from None
    if not items:
        raise InputError(f"{path} holds no item; it must be JSON Lines of the gold format.")
    return items


def gold_row(item: Labelled) -> dict:
    """The one labelled turn of ``item`` in the gold format, with the four turns before the message."""
    [number], turns = item.used, item.conversation.turns
    said = [f"{SPEAKERS[turn.side]}: {turn.text}" for turn in turns[max(0, number - HISTORY - 1) : number - 1]]
    side = turns[number].side
    return {
        "id": f"{item.conversation.split}-{item.conversation.row}-{number}",
        "responder": SPEAKERS[side],
        "persona": item.conversation.cards[side],
        "history": said,
        "query": turns[number - 1].text,
        "reply": turns[number].text,
        "used": [fact + 1 for fact in sorted(item.used[number])],
        "relevant": [fact + 1 for fact in sorted(item.relevant[number])],
    }


def _gold_item(row: dict) -> GoldItem:
    side = _side(row["responder"])
    history = [turn.split(": ", 1) for turn in row["history"]]
    turns = [Turn(_side(speaker), text) for speaker, text in history]
    turns += [Turn(1 - side, row["query"]), Turn(side, row["reply"])]
    cards = (row["persona"], []) if side == 0 else ([], row["persona"])
    used, relevant = _from_zero(row["used"]), _from_zero(row["relevant"])
    if not used | relevant <= set(range(len(row["persona"]))):
        raise ValueError("a label names a fact that the persona lacks")
    return GoldItem(row["id"], fill(Conversation("gold", row["id"], cards, turns)), used, relevant)


def _side(speaker: str) -> int:
    return SPEAKERS.index(speaker)
