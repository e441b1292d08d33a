"""Numbers, measures and foreign text as Markdown."""

import re

from jinja2 import Undefined

from reports.load import ReportError, find
from reports.verdicts import ENDS, is_measured

# Decimals of a measure, by its name; 3 for the others, most of which are shares.
DECIMALS = {"bleu": 2, "words": 1, "perplexity": 2, "perplexity_uses_fact": 2, "p50_seconds": 2}
MINUS = "\N{MINUS SIGN}"
EMPTY = "\N{EMPTY SET}"  # shown for text of no letter, such as an empty reply

# Half-characters, which UTF-8 cannot hold, control characters, and those that turn the direction of text.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
# What Markdown reads anywhere in a line, GitHub's bare addresses, mentions, issues and formulas included.
_MARKDOWN = re.compile(r"[\\`*_\[\]<>|&~$#@]|:(?=//)|(?<=www)\.")


def md(text: object) -> str:
    """``text`` as one line of Markdown in which nothing of it is markup; not for the beginning of a line."""
    line = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", " ".join(str(text).split()))
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", line) or EMPTY


def code(text: object) -> str:
    """``text`` as a span of code, or as ``md`` has it if it holds what a span or a table cannot."""
    text = str(text)
    plain = text.strip() == text != "" and "`" not in text and "|" not in text and text.isprintable()
    return f"`{text}`" if plain else md(text)


class Formats:
    """Filters of the template; ``missing``: what stands for a number or text that the JSON does not hold."""

    def __init__(self, missing: str):
        self.missing = missing

    def md(self, text: object) -> str:
        return self.missing if _is_missing(text) else md(text)

    def code(self, text: object) -> str:
        return self.missing if _is_missing(text) else code(text)

    def number(self, value: object, decimals: int | None = None, sign: str = "-") -> str:
        """``1,234`` or ``0.812``; without ``decimals`` as short as it goes. Raises ReportError if it is no number."""
        if _is_missing(value):
            return self.missing
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ReportError(f"The results hold {value!r} where a number belongs; write them anew.")
        if decimals is None:
            text = f"{value:{sign},}" if isinstance(value, int) else f"{value:{sign},.12g}"
        else:
            text = f"{value:{sign},.{decimals}f}"
        if not text.startswith("-"):
            return text
        # What rounds to nothing has no sign.
        return MINUS + text[1:] if any(digit in text for digit in "123456789") else text[1:]

    def cell(self, measure: dict | None, name: str = "", sign: str = "-") -> str:
        """``0.807 [0.748, 0.856]`` of a measure called ``name``."""
        if _is_missing(measure) or not is_measured(measure):
            return self.missing
        value, low, high = (self.number(find(measure, end), DECIMALS.get(name, 3), sign) for end in ENDS)
        return f"{value} [{low}, {high}]"

    def difference(self, measure: dict | None, name: str = "") -> str:
        """``+0.031 [+0.010, +0.052]``"""
        return self.cell(measure, name, "+")

    def setting(self, value: object) -> str:
        """A value of a configuration: number, text, list of them, or null, as code."""
        if _is_missing(value):
            return self.missing
        if isinstance(value, list):
            return ", ".join(map(self.setting, value))
        if isinstance(value, bool):
            return code(str(value).lower())
        return code(value)


def _is_missing(value: object) -> bool:
    return value is None or isinstance(value, Undefined)
