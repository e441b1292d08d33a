"""Keys by which text is known without being stored: 16 hex digits of SHA-256 over JSON."""

import hashlib
from collections.abc import Sequence

import orjson

from data_prep.reader import Conversation


def reply_key(card: Sequence[str], message: str, reply: str) -> str:
    """The key of a labelled reply, over ``[card, message, reply]``."""
    return _key([list(card), message, reply])


def conversation_key(conversation: Conversation) -> str:
    """The key of a conversation, over ``[[card, card], [[side, text], ...]]``."""
    return _key([conversation.cards, [[turn.side, turn.text] for turn in conversation.turns]])


def _key(value: list) -> str:
    return hashlib.sha256(orjson.dumps(value)).hexdigest()[:16]
