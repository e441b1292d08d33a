"""Replies to show people, good and bad, chosen by rule and not by taste.

They are to messages of the bundled sample, whose text is the project's own, so that a report can be handed on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.citation_metrics import count_citations
from eval.consistency import count_claims
from eval.judging import Judge
from eval.replies import Line
from eval.text_metrics import unigram_f1
from retrieval.text import strip_marks

EACH = 3  # good ones, and as many bad ones
# The bundled sample is small, and its messages take a minute or two on a CPU.
MESSAGES = 40


@dataclass(frozen=True)
class Faults:
    """Of one reply. ``wrong_marks``: that point at a fact which does not support their sentence, at nothing, or are
    malformed; ``unsupported_claims``: about oneself, that no fact of the card supports; ``right_marks``: the others."""

    wrong_marks: int
    unsupported_claims: int
    right_marks: int


def faults(lines: Sequence[Line], judge: Judge) -> list[Faults]:
    """Of the reply of each line."""
    conversations = [line.ended_by(line.reply) for line in lines]
    found = []
    for line, conversation, supports in zip(lines, conversations, judge(conversations), strict=True):
        marks = count_citations(line.reply, line.card, line.shown, supports)
        claims = count_claims(conversation, supports)
        found.append(Faults(marks.marks - marks.precise + marks.malformed, claims.unsupported, marks.precise))
    return found


def _likeness(line: Line) -> float:
    """F1 of the reply's words and those of the facts shown that it cites, 0 to 1."""
    cited = (hit["fact"] for hit in line.retrieved if hit["mark"] in line.reply)
    return unigram_f1(strip_marks(line.reply), " ".join(cited))


def choose_examples(lines: Sequence[Line], base: Sequence[Line], judge: Judge) -> list[dict]:
    """Among replies to messages that facts were shown with: those with a right mark and no fault whose words are
    nearest to the facts shown, and those with the most faults. ``base``: another system's replies to the same messages,
    to show beside."""
    shown = [pair for pair in zip(lines, base, strict=True) if pair[0].retrieved]
    rated = list(zip(shown, faults([line for line, _ in shown], judge), strict=True))
    good = [each for each in rated if each[1].right_marks and not each[1].wrong_marks + each[1].unsupported_claims]
    # The judge lets a wrong name pass now and then; a reply in the words of its facts is surely right.
    good.sort(key=lambda each: -_likeness(each[0][0]))
    bad = [each for each in rated if each[1].wrong_marks + each[1].unsupported_claims]
    bad.sort(key=lambda each: -each[1].wrong_marks - each[1].unsupported_claims)
    return [
        {
            "id": line.id,
            "good": is_good,
            "card": line.card,
            "message": line.message,
            "retrieved": line.retrieved,
            "reply": line.reply,
            "reference": line.reference,
            "base_reply": beside.reply,
            "wrong_marks": found.wrong_marks,
            "unsupported_claims": found.unsupported_claims,
        }
        for is_good, chosen in ((True, good[:EACH]), (False, bad[:EACH]))
        for (line, beside), found in chosen
    ]
