"""Where sentences end, in English and Chinese."""

import re

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
