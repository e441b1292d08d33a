"""Sentences of a reply, and the marks at their ends."""

import re
from collections.abc import Mapping, Sequence

from retrieval.text import mark

# White space after a full stop that belongs to a title or a name ("Dr. Lee", "St. James", "J. K. Rowling") ends no
# sentence; but "in the U.S. I" does.
_SENTENCE_GAP = re.compile(
    r"(?<=[.!?。！？])(?<!\b[DMSJ]r\.)(?<!\bM[rs]s\.)(?<!\bMs\.)(?<!\bSt\.)(?<!\bvs\.)"
    r"(?:(?<!\b[A-HJ-Z]\.)|(?=\s+(?:I|My|We|It|They|He|She|You|The|That|But|And|What|How|Do|Have)\b))\s+"
    r"|(?<=[。！？])(?=[^\s])"
)


def split_sentences(text: str) -> list[str]:
    """The sentences of ``text``, each with the white space that follows it: joined they give ``text`` again."""
    ends = [match.end() for match in _SENTENCE_GAP.finditer(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def add_marks(reply: str, used: Mapping[int, Sequence[int]]) -> str:
    """``reply`` with the mark of each used fact after each sentence that uses it: ``I play tennis. [P1] And you?``

    ``used``: fact number to sentence numbers, from 0. Raises ValueError if there is no such sentence.
    """
    if not used:
        return reply
    sentences = split_sentences(reply)
    if beyond := [place for places in used.values() for place in places if not 0 <= place < len(sentences)]:
        raise ValueError(f"There is no sentence {beyond[0]} in {reply!r}.")
    marked = ""
    for number, sentence in enumerate(sentences):
        marks = "".join(mark(index) for index, places in sorted(used.items()) if number in places)
        body = sentence.rstrip()
        marked += f"{body} {marks}{sentence[len(body) :]}" if marks else sentence
    return marked
