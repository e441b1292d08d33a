"""Marks at the ends of a reply's sentences."""

from collections.abc import Mapping, Sequence

from retrieval.sentences import split_sentences
from retrieval.text import mark


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
