"""How many tokens a prompt takes."""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

# Around a turn in ChatML, the form of Qwen's templates, and before a reply.
TURN, REPLY = "<|im_start|>{}\n<|im_end|>\n", "<|im_start|>assistant\n"
GUESSED_TURN = 5  # tokens of it, if there is no tokenizer
BYTES = 3  # of a token at least: one of English words holds some four, and one of Chinese three
_ALONE = re.compile(r"[^\w\s]|\d")  # digits and signs are tokens of their own
KNOWN, KNOWN_LENGTH = 5_000, 2_000  # texts whose count is kept, and characters of one at most


class TokenCounter:
    """Counts with the served model's own tokenizer, or, without one, guesses from the number of bytes and signs.

    ``tokenizer``: a folder with ``tokenizer.json``, or a model on the Hugging Face hub.
    Raises ValueError if it cannot be had.
    """

    def __init__(self, tokenizer: str | None = None):
        self.exact = tokenizer is not None
        self._tokenizer = _open(tokenizer) if tokenizer else None
        self._known = lru_cache(maxsize=KNOWN)(self._count)  # the same turns come again with every request

    def count(self, text: str) -> int:
        """Tokens of ``text``."""
        return self._known(text) if len(text) <= KNOWN_LENGTH else self._count(text)

    def _count(self, text: str) -> int:
        if self._tokenizer is None:
            alone = len(_ALONE.findall(text))
            return alone + -(-(len(text.encode()) - alone) // BYTES)
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def turn(self, role: str, content: str) -> int:
        """Tokens of a message."""
        return (self.count(TURN.format(role)) if self.exact else GUESSED_TURN) + self.count(content)

    def prompt(self, messages: Iterable[dict]) -> int:
        """Tokens of a prompt in OpenAI's form, with those that open the reply."""
        opening = self.count(REPLY) if self.exact else GUESSED_TURN
        return opening + sum(self.turn(message["role"], message["content"]) for message in messages)


def _open(name: str) -> Tokenizer:
    path = Path(name) / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path)) if path.is_file() else Tokenizer.from_pretrained(name)
    except Exception as error:  # the library raises no narrower one
        raise ValueError(f"There is no tokenizer at {name} ({error}); name a folder or a model on the hub.") from None
