"""Text from the JSON, such as replies of a model, stays text: in Markdown, in HTML, in any place of the report."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reports.formats import Formats, code, md
from reports.load import FILES
from reports.render import html, markdown
from tests.conftest import ROOT
from tests.reports import synthetic

NASTY = (
    "<script>alert(1)</script>", "| a | b |", "[P1](http://x)", "![x](http://x/y.png)", "`code` ``", "**bold** _it_",
    "# heading", "- item", "1. item", "> quote", "```\nfence", "---", "a\n\nb", "a\\", "\\|", "\\\\|", "&lt;", "&#124;",
    "<http://x.y>", "http://x.y www.x.y", "[a]: http://x", "~~gone~~", "$x$", "{{ 7 * 7 }}", "{% raw %}",
    "\x00\x0b\u2028", "\ud800", "\u202eabc", "", "   ", "Setext\n===", "<!-- x", "</td></tr></table>", "{n}", "|",
    "||", "`|`", "[^1]",
)  # fmt: skip
TEXT = st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=5), st.sampled_from("\\|`*_[]<>()!#&-\n"))).map(
    "".join
)
PLACES = ("card", "message", "fact", "mark", "reply", "reference", "base_reply", "id", "model", "file", "says", "task")


def results(texts):
    """Results with a text of its own in each of PLACES."""
    content = synthetic.results()
    comparison = content["comparison"]
    for example in comparison["examples"]:
        example |= {name: texts[name] for name in ("message", "reply", "reference", "base_reply", "id")}
        example["card"][0] = texts["card"]
        example["retrieved"][0] |= {"fact": texts["fact"], "mark": texts["mark"]}
    for system in comparison["systems"]:
        system["model"] = texts["model"]
    comparison["training"]["curve"]["findings"][0] |= {"says": texts["says"], "name": texts["says"]}
    comparison["config"]["command"] = texts["file"]
    comparison["config"]["models"][0] |= {"name": texts["model"], "model_name_or_path": texts["file"]}
    content["judge"]["files"]["A"]["file"] = texts["file"]
    content["general"]["results"] = {texts["task"]: content["general"]["results"]["hellaswag"]}
    content["screenshots"]["screenshots"][0] |= {"caption": {"en": texts["says"]}, "file": "is/not/there.png"}
    content["remarks"] = None
    return dict.fromkeys(FILES) | content


class Page(HTMLParser):
    """The tags of a page in order, and the text of its cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self._open = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag != "code":  # text of one kind is code and of another is not
            self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        self._open = tag in ("td", "th") or (self._open and tag == "code")

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data):
        if self._open:
            self.cells[-1] += data


def page(texts):
    text = markdown(results(texts), "en", set(), ROOT / "none", ROOT)
    text.encode()  # what UTF-8 cannot hold must be gone
    # A reader of the Markdown, such as GitHub's, may let HTML through.
    return Page(html(text, "en") + MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


PLAIN = page(dict.fromkeys(PLACES, "plain"))


# Shrinking takes minutes here.
@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.fixed_dictionaries(dict.fromkeys(PLACES, TEXT)))
def test_no_text_changes_the_structure_of_the_page(texts):
    assert page(texts).tags == PLAIN.tags


@pytest.mark.parametrize("nasty", NASTY)
def test_nasty_text_is_shown_as_it_is(nasty):
    found = page(dict.fromkeys(PLACES, nasty))
    assert found.tags == PLAIN.tags
    at = PLAIN.cells.index("reply") + 1
    assert PLAIN.cells[at] == "plain"
    shown = (
        re.sub("[\x00-\x1f\ud800-\udfff\u202a-\u202e]", "\N{REPLACEMENT CHARACTER}", " ".join(nasty.split()))
        or "\N{EMPTY SET}"
    )
    assert found.cells[at] == shown


@given(TEXT)
def test_a_line_of_text_is_one_line_and_a_span_of_code_ends(text):
    for form in (md, code):
        line = form(text)
        assert len(line.splitlines()) <= 1
        cells = Page(html(f"| a |\n| --- |\n| x{line} |\n", "en")).cells
        assert len(cells) == 2


@pytest.mark.parametrize(
    "value, decimals, said",
    [(1234.5, 1, "1,234.5"), (-0.0004, 3, "0.000"), (-0.5, 2, "\N{MINUS SIGN}0.50"), (10042, None, "10,042"),
     (5e-05, None, "5e-05"), (0.7, None, "0.7"), (None, 3, "missing")],
)  # fmt: skip
def test_numbers(value, decimals, said):
    assert Formats("missing").number(value, decimals) == said


def test_differences_have_a_sign():
    measure = {"value": 0.0312, "low": -0.01, "high": 0.0}
    assert Formats("missing").difference(measure) == "+0.031 [\N{MINUS SIGN}0.010, +0.000]"
    assert Formats("missing").difference({"value": 0.1, "low": 0}) == "missing"
