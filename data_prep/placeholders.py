"""Bracket placeholders of SPC (``[name]``, ``(User 1's name)``, ``[city]``), filled alike all through a conversation.

They clash with marks and must not be learned. Names cover 95 % of them; a turn that keeps an unknown one is left
out by ``data_prep.samples``.
"""

import re
from random import Random

from data_prep.reader import Conversation, Turn

# Given names that fit anyone, so that none contradicts a card.
NAMES = ("Alex", "Avery", "Casey", "Charlie", "Dana", "Drew", "Jamie", "Jesse", "Jordan", "Kelly", "Lee", "Morgan",
         "Pat", "Quinn", "Riley", "Robin", "Rowan", "Sam", "Taylor", "Terry")  # fmt: skip
PLACES = ("Ashford", "Brookfield", "Clayton", "Dunmore", "Easton", "Fairview", "Glenwood", "Hillsboro", "Kingston",
          "Lakeside", "Milford", "Newport", "Oakdale", "Riverton", "Salem", "Winfield")  # fmt: skip

# [User 1's name], [user_1_name], (user 2), [User1], and the bare mention "User 2"
_SIDE = re.compile(
    r"[\[(]\s*user[\s_]*(?P<n>[12])(?:'s)?(?:[\s_]*(?:user)?name)?\s*[\])]|\buser\s*(?P<bare>[12])\b", re.IGNORECASE
)
_NAME = re.compile(r"[\[(]\s*(?:(?:insert|your|my|other|their|other person's|user)[\s_]*)*(?:user)?name\s*[\])]", re.I)
_PLACE = re.compile(
    r"[\[(]\s*(?:user[\s_]*(?P<n>[12])(?:'s)?[\s_]*|your\s+|my\s+)?"
    r"(?:city|town|hometown|place|location|town name|city name|suburb|neighborhood)\s*[\])]",
    re.IGNORECASE,
)
# "I'm [name]" is the speaker's own; any other bare [name] is how the speaker calls the other side.
_INTRODUCTION = re.compile(r"(?:\bI'm|\bI am|\bname is|\bname's|\bthis is|\bcall me|\bit's)\s*$", re.IGNORECASE)
_BRACKETED = re.compile(r"\[[^\[\]\n]*\]")


def fill(conversation: Conversation) -> Conversation:
    """The conversation with its placeholders filled; names and place are drawn from split and row, so they repeat."""
    random = Random(f"{conversation.split}-{conversation.row}")
    names = random.sample(NAMES, 2)
    places = random.sample(PLACES, 2)
    turns = [Turn(turn.side, _fill_text(turn, names, places)) for turn in conversation.turns]
    return Conversation(conversation.split, conversation.row, conversation.cards, turns)


def _fill_text(turn: Turn, names: list[str], places: list[str]) -> str:
    text = _PLACE.sub(lambda m: places[int(m["n"]) - 1 if m["n"] else turn.side], turn.text)
    text = _SIDE.sub(lambda m: names[int(m["n"] or m["bare"]) - 1], text)

    def own_or_other(match: re.Match) -> str:
        is_own = _INTRODUCTION.search(text[: match.start()])
        return names[turn.side if is_own else 1 - turn.side]

    return _NAME.sub(own_or_other, text)


def has_placeholder(text: str) -> bool:
    """Whether a square bracket is left that is no mark-like text (``[P1]``: that one is neutralised in the prompt)."""
    return any(not re.fullmatch(r"\[[PD]\d+\]", found) for found in _BRACKETED.findall(text))
