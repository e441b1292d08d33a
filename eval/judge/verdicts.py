"""What the judge said, read strictly: an answer that leaves any doubt is None, and nothing is guessed."""

import re

from eval.judge.prompts import DIMENSIONS

FIRST, SECOND, TIE = "first", "second", "tie"

_VERDICT = re.compile(rf"[\s*#>-]*verdict[\s*]*[:：][\s*]*({FIRST}|{SECOND}|{TIE})[\s*.。]*", re.IGNORECASE | re.ASCII)
_NAMES = "|".join(DIMENSIONS)
_SCORE = re.compile(rf"[\s*#>-]*({_NAMES})[\s*]*[:：][\s*]*([1-5])(?:\s*/\s*5)?[\s*.。]*", re.IGNORECASE | re.ASCII)


def parse_verdict(text: str) -> str | None:
    """``first``, ``second`` or ``tie``: what the last line says, if there are reasons before it.

    None if there are none, if the last line is no verdict, or if another line is another verdict.
    """
    said = _said(text, _VERDICT, 1)
    if said is None or len(verdicts := {found[1].lower() for found in said}) != 1:
        return None
    return verdicts.pop()


def parse_scores(text: str) -> dict[str, int] | None:
    """The score in each dimension, 1 to 5: what the last lines say, if there are reasons before them.

    None if there are none, if a dimension lacks there, or if another line gives it another score.
    """
    said = _said(text, _SCORE, len(DIMENSIONS))
    if said is None or {found[1].lower() for found in said[-len(DIMENSIONS) :]} != set(DIMENSIONS):
        return None
    scores = {(found[1].lower(), int(found[2])) for found in said}
    return dict(scores) if len(scores) == len(DIMENSIONS) else None


def _said(text: str, pattern: re.Pattern, count: int) -> list[re.Match] | None:
    """All lines that are ``pattern``; None unless the last ``count`` are and there is other text before those.

    What a model thinks before ``</think>`` may weigh one verdict against another: it counts as reasons alone.
    """
    thought, _, answer = text.rpartition("</think>")
    lines = [line for line in answer.splitlines() if line.strip()]
    matches = [pattern.fullmatch(line) for line in lines]
    reasons = thought.replace("<think>", "") + "".join(lines[:-count])
    if len(lines) < count or not all(matches[-count:]) or not re.search(r"\w", reasons):
        return None
    return [found for found in matches if found]
