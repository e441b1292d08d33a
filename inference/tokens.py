"""How many tokens a prompt takes."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

TURN = "<|im_start|>{}\n<|im_end|>\n"  # around a turn in ChatML, the form of Qwen's templates
GUESSED_TURN = 5  # tokens of it, if there is no tokenizer
BYTES = 3  # a token holds some four of English, and three of Chinese; three is on the safe side


class TokenCounter:
    """Counts with the served model's own tokenizer, or, without one, guesses from the number of bytes.

    ``tokenizer``: a folder with ``tokenizer.json``, or a model on the Hugging Face hub.
    Raises ValueError if it cannot be had.
    """

    def __init__(self, tokenizer: str | None = None):
        self.exact = tokenizer is not None
        self._tokenizer = _open(tokenizer) if tokenizer else None
        # The same turns come again with every request.
        self.count = lru_cache(maxsize=5_000)(self._count)

    def _count(self, text: str) -> int:
        if self._tokenizer is None:
            return -(-len(text.encode()) // BYTES)
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def turn(self, role: str, content: str) -> int:
        """Tokens of a message."""
        return (self.count(TURN.format(role)) if self.exact else GUESSED_TURN) + self.count(content)

    def prompt(self, messages: Iterable[dict]) -> int:
        """Tokens of a prompt in OpenAI's form, with those that open the reply."""
        return (
            self.turn("assistant", "") - 2 + sum(self.turn(message["role"], message["content"]) for message in messages)
        )


def _open(name: str) -> Tokenizer:
    path = Path(name) / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path)) if path.is_file() else Tokenizer.from_pretrained(name)
    except Exception as error:  # the library raises no narrower one
        raise ValueError(f"There is no tokenizer at {name} ({error}); name a folder or a model on the hub.") from None
