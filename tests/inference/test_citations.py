import re
import time
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inference.citations import MarkFilter, QuoteFilter, StopFilter
from inference.prompts import Citation

SHOWN = {m: Citation(m, f"fact {m}", 0.5) for m in ("[P1]", "[P2]", "[P12]", "[D3]")}
BETWEEN = r"(?:[\s,;:./&+\-–—、，；：]|and|or|to|和|及|与|至|到)"
INNER = re.compile(rf"\s*([PDpd]\s?\d+(?:{BETWEEN}{{1,9}}(?:[PDpd]\s?)?\d+|[PDpd]\s?\d+)*){BETWEEN}{{0,9}}")
OPENED = re.compile(r"\s*([PDpd]\s?(\d[PDpd\d\s,;:./&+\-–—、，；：anort和及与至到]*)?)?")
OPENING, CLOSING, LONGEST = "[［【", re.compile("[]］】]"), 400


def in_pieces(one, text, cuts):
    """What the filter gives for ``text`` cut at ``cuts``."""
    ends = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    shown = "".join(one.feed(text[start:end]) for start, end in pairwise(ends))
    return shown + one.end()


def marks_of(inner):
    """The marks that stand between two brackets; none if it is something else."""
    if not (1 <= len(inner) <= LONGEST and INNER.fullmatch(inner)):
        return []
    found, letter = [], ""
    for one in re.finditer(r"([PDpd]?)\s?(\d+)", inner):
        letter = one[1].upper() or letter
        found.append(f"[{letter}{int(one[2])}]")
    return found


def opened(text):
    """Whether ``text`` ends within brackets that may become a mark."""
    start = max(text.rfind(bracket) for bracket in OPENING)
    rest = text[start + 1 :]
    return start >= 0 and len(rest) <= LONGEST and OPENED.fullmatch(rest) is not None


def resolved(text, shown):
    """The whole text at once, bracket by bracket: what is shown of it, and where its marks stand."""
    if opened(text):
        text = text[: max(text.rfind(bracket) for bracket in OPENING)]
    text = text.rstrip(" \t")
    out, places, here = "", [], 0
    while here < len(text):
        closing = CLOSING.search(text, here)
        end = closing.start() if closing else -1
        marks = marks_of(text[here + 1 : end]) if text[here] in OPENING and end > 0 else []
        if not marks:
            out, here = out + text[here], here + 1
            continue
        spaces = out[len(out.rstrip(" \t")) :]
        out = out[: len(out) - len(spaces)]
        if kept := [m for m in marks if m in shown]:
            out += spaces
            for one in kept:
                places.append((one, len(out)))
                out += one
        elif opened(out):
            out += spaces + "(" + INNER.fullmatch(text[here + 1 : end])[1] + ")"
        here = end + 1
    margin = len(out) - len(out.lstrip())
    return out.lstrip(), [(one, start - margin) for one, start in places]


FRAGMENTS = ["[", "]", "P", "D", "1", "2", "9", "0", " ", "  ", "\t", "\n", ",", ";", "I play. ", "你好。", "[P1]",
             "[P9]", " [P1, P2]", " [P1 9]", "[P1P2]", "[ D3 ]", "[P012]", "[p1]", "[P1" + ", 1" * 24,
             "1234567890", "【", "】", "［P7］", " and ", "P1-P9", "、", "[P7 或", "to"]  # fmt: skip
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join)
EVERYWHERE = range(1200)
CUTS = st.one_of(st.just(EVERYWHERE), st.lists(st.integers(0, 120), max_size=12))


@settings(deadline=None, max_examples=500)
@given(TEXTS, CUTS)
@example("[P1" + ",1" * 199 + "]", EVERYWHERE)  # 400 characters are marks
@example("[P1" + ",1" * 199 + ", ]", EVERYWHERE)  # more are none
@example("[P1" + ", 1" * 150 + "]", [])
def test_marks_in_any_pieces_are_those_of_the_whole_text(text, cuts):
    one = MarkFilter(SHOWN)
    shown = in_pieces(one, text, cuts)
    assert (shown, [(p.citation.mark, p.start) for p in one.placed]) == resolved(text, SHOWN)
    for placed in one.placed:
        assert shown[placed.start : placed.end] == placed.citation.mark
        assert placed.citation is SHOWN[placed.citation.mark]


@settings(deadline=None, max_examples=500)
@given(TEXTS, CUTS)
def test_every_mark_that_is_left_is_true(text, cuts):
    one = MarkFilter(SHOWN)
    shown = in_pieces(one, text, cuts)
    left = [(m.start(), m[0]) for m in re.finditer(r"\[[^\[\]]*\]", shown) if marks_of(m[0][1:-1])]
    assert left == [(p.start, p.citation.mark) for p in one.placed]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("I play. [P1] And you? [P7]", "I play. [P1] And you?"),
        ("I play [P9], and sing [P2].", "I play, and sing [P2]."),
        ("Both. [P1, P2] One. [P1 7] Odd. [P01; 2]", "Both. [P1][P2] One. [P1] Odd. [P1][P2]"),
        ("[P9] Hello.", "Hello."),
        ("A list[0] is no mark [sic].", "A list[0] is no mark [sic]."),
        ("Cut off. [P1", "Cut off."),
        ("[[P9]P7] and [P[P9]1]", "[(P9)P7] and [P(P9)1]"),
        ("Long [P12345678901].", "Long."),
        ("Both [P1P2].", "Both [P1][P2]."),
        ("【P1】又【P7】", "[P1]又"),
        ("None [P7 and P8], [P7-P9], [P7/8], [ p7 ], [P 7:] of［P7，P8］ these 【P7、P8】.", "None,,,, of these."),
        ("Some [p1 and P7] [P1 or P2].", "Some [P1] [P1][P2]."),
        ("[Dr Smith] and [Part 1] and [P.S.]", "[Dr Smith] and [Part 1] and [P.S.]"),
    ],
)
def test_marks_by_example(text, shown):
    assert in_pieces(MarkFilter(SHOWN), text, []) == shown
    assert in_pieces(MarkFilter(SHOWN), text, range(len(text))) == shown


@pytest.mark.parametrize(
    "text",
    [
        "[P1" + ", 1" * 130 + "x]",
        "[P1" + " , P 1" * 60 + "x]",
        "[" * 20_000,
        " " * 20_000 + "a",
        "[P1," * 5_000,
        "[P" + "1" * 20_000,
        "[P1 " * 5_000,
    ],
)
def test_a_hostile_reply_takes_no_time(text):
    started = time.monotonic()
    in_pieces(MarkFilter(SHOWN), text, range(0, len(text), 4))
    assert time.monotonic() - started < 5


@settings(deadline=None, max_examples=500)
@given(st.text("abc", max_size=20), st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3), CUTS)
@example("cabbc", ["abc", "b"], EVERYWHERE)
@example("ab", ["abc", "b"], [])
@example("abx", ["abc", "b"], EVERYWHERE)
def test_the_text_ends_before_the_first_stop(text, stops, cuts):
    one = StopFilter(stops)
    first = min((text.find(stop) for stop in stops if stop in text), default=None)
    assert in_pieces(one, text, cuts) == text[:first]
    assert one.done == (first is not None)


def test_a_stop_ends_the_reply_at_once():
    one = StopFilter(["\nUser:"])
    assert [one.feed(piece) for piece in ("I drive.", "\n", "User", ": Hi")] == ["I drive.", "", "", ""]
    assert one.done


def unquoted(text, name):
    """The whole line at once."""
    line = text[re.match(rf"\s*({re.escape(name)}\s*[:：]\s*)?", text).end() :]
    closing = {'"': '"', "“": "”", "「": "」"}.get(line[:1])
    if closing is None:
        return line.rstrip(), False
    inside, quote, _ = line[1:].partition(closing)
    return inside.rstrip(), bool(quote)


QUOTED = st.lists(
    st.sampled_from(["Tim", "Ti", ":", "：", " ", "    ", "\n", '"', "“", "”", "「", "」", "I drive.", "m", "a"]),
    max_size=12,
)


@settings(deadline=None, max_examples=800)
@given(QUOTED.map("".join), CUTS, st.sampled_from(["Tim", "Tim Ti", "a"]))
def test_a_quoted_line_in_any_pieces_is_that_of_the_whole_text(text, cuts, name):
    one = QuoteFilter(name)
    assert (in_pieces(one, text, cuts), one.done) == unquoted(text, name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('Tim: "I drive. "\nUser: "Oh."', "I drive."),
        ('"I drive."', "I drive."),
        ("Tim：“我开车。”然后", "我开车。"),
        ('Tim: I saw "Jaws" twice.', 'I saw "Jaws" twice.'),
        ("“He said \"hi\" to me.” And", 'He said "hi" to me.'),
        ("Tim drives.", "Tim drives."),
        ('Tim:          "I drive."', "I drive."),
        ("Ti", "Ti"),
        ("", ""),
    ],
)  # fmt: skip
def test_quotes_by_example(text, shown):
    assert in_pieces(QuoteFilter("Tim"), text, []) == shown
    assert in_pieces(QuoteFilter("Tim"), text, range(len(text))) == shown
