"""What may be said of two systems that answered the same messages, from their intervals and that of their difference.

A measure is ``{"value": f, "low": f, "high": f}``, the ends being those of its 95 % interval.
"""

from reports.load import ReportError, find

VERDICTS = ("better_apart", "better_overlapping", "no_difference", "worse_overlapping", "worse_apart", "not_measured")
ENDS = ("value", "low", "high")


def is_measured(measure: dict | None) -> bool:
    """Whether ``measure`` has its value and both ends."""
    return all(find(measure, end) is not None for end in ENDS)


def verdict(measure: dict | None, base: dict | None, difference: dict | None, better: str) -> str:
    """One of ``VERDICTS`` over a system's ``measure``, given that of the base and the paired ``difference`` to it.

    ``better``: ``higher`` or ``lower``. No difference is shown if the interval of the difference contains 0, its ends
    included; intervals that touch overlap. Raises ReportError for another direction.
    """
    if better not in ("higher", "lower"):
        raise ReportError(
            f"A headline measure is better when it is higher or lower, not {better!r}; mend comparison.json."
        )
    if not all(map(is_measured, (measure, base, difference))):
        return "not_measured"
    if difference["low"] <= 0 <= difference["high"]:
        return "no_difference"
    direction = "better" if (difference["low"] > 0) == (better == "higher") else "worse"
    overlapping = measure["low"] <= base["high"] and base["low"] <= measure["high"]
    return f"{direction}_{'overlapping' if overlapping else 'apart'}"
