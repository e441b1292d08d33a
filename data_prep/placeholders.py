"""Bracket placeholders of SPC (``[name]``, ``(User 1's name)``, ``[city]``), filled alike all through a conversation.

They clash with marks and must not be learned. Names cover 95 % of them; an exchange that keeps an unknown one is left
out by ``data_prep.samples``.
"""

import re
from random import Random

from data_prep.keys import conversation_key
from data_prep.reader import Conversation, Turn

# Given names that fit anyone, so that none contradicts a card.
NAMES = ("Alex", "Avery", "Casey", "Charlie", "Dana", "Drew", "Jamie", "Jesse", "Jordan", "Kelly", "Lee", "Morgan",
         "Pat", "Quinn", "Riley", "Robin", "Rowan", "Sam", "Taylor", "Terry")  # fmt: skip
PLACES = ("Ashford", "Brookfield", "Clayton", "Dunmore", "Easton", "Fairview", "Glenwood", "Hillsboro", "Kingston",
          "Lakeside", "Milford", "Newport", "Oakdale", "Riverton", "Salem", "Winfield")  # fmt: skip

_BRACKETED_OR_BARE_SIDE = re.compile(r"\[[^\[\]\n]*\]|\([^()\n]*\)|\buser\s*(?P<bare>[12])\b", re.IGNORECASE)
# What stands between the brackets: user 1's name, user_1_name, User 2, User1
_SIDE = re.compile(r"\s*user[\s_]*(?P<n>[12])(?:'s)?(?:[\s_]*(?:user)?name)?\s*", re.IGNORECASE)
_NAME = re.compile(r"\s*(?:(?:insert|your|my|other|their|other person's|user)[\s_]*)*(?:user)?name\s*", re.IGNORECASE)
_PLACE = re.compile(
    r"\s*(?:user[\s_]*(?P<n>[12])(?:'s)?[\s_]*|your\s+|my\s+)?"
    r"(?:city|town|hometown|place|location|town name|city name|suburb|neighborhood)\s*",
    re.IGNORECASE,
)
# "I'm [name]" is the speaker's own; any other bare [name] is how the speaker calls the other side.
_INTRODUCTION = re.compile(r"(?:\bI'm|\bI am|\bmy name is|\bmy name's|\bthis is|\bcall me|\bit's)\s*$", re.IGNORECASE)
_NAME_FACT = re.compile(r"\bmy name is ([A-Za-z]+)", re.IGNORECASE)
# In round brackets people also write plain remarks; these are not.
_ROUND_PLACEHOLDER = re.compile(
    r"\((?:[^()\n]*\buser\s*[12]\b[^()\n]*|(?:[a-z']+ ){0,3}"
    r"(?:name|names|age|color|gender|title|number|city|state|country|address|job|artists?|location))\)",
    re.IGNORECASE,
)


def fill(conversation: Conversation) -> Conversation:
    """The conversation with its placeholders filled.

    A name is taken from the side's card, else names and places are drawn from the conversation's own text, so that
    they are the same wherever it stands.
    """
    if not any(_BRACKETED_OR_BARE_SIDE.search(turn.text) for turn in conversation.turns):
        return conversation
    random = Random(conversation_key(conversation))
    names = random.sample(NAMES, 2)
    places = random.sample(PLACES, 2)
    for side, card in enumerate(conversation.cards):
        for fact in card:
            if found := _NAME_FACT.search(fact):
                names[side] = found[1].capitalize()
    turns = [Turn(turn.side, _fill_text(turn, names, places)) for turn in conversation.turns]
    return Conversation(conversation.split, conversation.row, conversation.cards, turns)


def _fill_text(turn: Turn, names: list[str], places: list[str]) -> str:
    def filled(match: re.Match) -> str:
        introduces = _INTRODUCTION.search(turn.text[: match.start()])
        if match["bare"]:
            return names[turn.side if introduces else int(match["bare"]) - 1]
        inside = match[0][1:-1]
        if side := _SIDE.fullmatch(inside):
            return names[turn.side if introduces else int(side["n"]) - 1]
        if place := _PLACE.fullmatch(inside):
            return places[int(place["n"]) - 1 if place["n"] else turn.side]
        if _NAME.fullmatch(inside):
            return names[turn.side if introduces else 1 - turn.side]
        return match[0]

    return _BRACKETED_OR_BARE_SIDE.sub(filled, turn.text)


def has_placeholder(text: str) -> bool:
    """Whether a placeholder is left. ``[P1]`` is none: such text is neutralised in the prompt."""
    if "[" not in text and "(" not in text:
        return False
    square = re.findall(r"\[[^\[\]\n]*\]", text)
    return bool(_ROUND_PLACEHOLDER.search(text)) or any(not re.fullmatch(r"\[[PD]\d+\]", found) for found in square)
