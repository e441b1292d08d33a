"""The words of the report, in ``reports/text/``: the same names in every language."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

TEXT = Path(__file__).parent / "text"
LANGUAGES = ("en", "zh")


class Words:
    """The words of a language by dotted name, such as ``summary.title``; another name is a KeyError."""

    def __init__(self, language: str):
        text = (TEXT / f"{language}.yaml").read_text(encoding="utf-8")
        self._words = flat(yaml.safe_load(text))

    def __call__(self, name: str, /, **values: str) -> str:
        words = self._words[name]
        return words.format(**values) if values else words

    def all(self, name: str) -> list[str]:
        """A list of sentences."""
        return self._words[name]

    def under(self, name: str) -> list[str]:
        """The last parts of the names that begin with ``name``, in order."""
        return [key.removeprefix(f"{name}.") for key in self._words if key.startswith(f"{name}.")]

    def __contains__(self, name: str) -> bool:
        return name in self._words


def flat(tree: Mapping, above: str = "") -> dict[str, str | list[str]]:
    """The leaves of a nested mapping by dotted name."""
    leaves = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return leaves


@cache
def words_of(language: str) -> Words:
    """Read once."""
    return Words(language)
