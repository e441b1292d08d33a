"""The report as Markdown, by one template for every language, and as HTML, from that Markdown."""

import re
from functools import cache
from pathlib import Path

from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from markdown_it import MarkdownIt

from reports.formats import Formats
from reports.verdicts import VERDICTS
from reports.view import View, general_models, judge_command, lowest, query_recall, seconds
from reports.words import words_of

FOLDER = Path(__file__).parent
# The tables of each group of measures, as wide as a page; and whether the true replies have a row.
GROUPS = {
    "likelihood": {
        "parts": (
            ("loss", "loss_uses_fact", "perplexity", "perplexity_uses_fact"),
            ("nats_per_character", "nats_per_character_uses_fact", "hits_at_1", "hits_at_1_uses_fact"),
        ),
        "true_replies": False,
    },
    "text": {"parts": (("f1", "rouge_l", "bleu"), ("distinct_2", "words", "keywords")), "true_replies": True},
    "citations": {
        "parts": (
            ("recall", "precision", "recall_worthy", "precision_worthy"),
            ("precision_marked", "well_formed", "off_card", "not_shown"),
        ),
        "true_replies": False,
    },
    "consistency": {
        "parts": (("claims", "unsupported", "replies_unsupported", "replies_slipped"),),
        "true_replies": True,
    },
    "latency": {"parts": (("p50_seconds", "cut"),), "true_replies": False},
}


@cache
def _environment(language: str) -> Environment:
    """Templates with the filters and words of ``language``, each compiled once."""
    words = words_of(language)
    formats = Formats(words("not_measured"))
    environment = Environment(
        loader=FileSystemLoader(FOLDER), undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        name: getattr(formats, name) for name in ("md", "code", "number", "cell", "difference", "setting")
    }
    environment.globals |= {
        "t": words,
        "t_list": words.all,
        "groups": GROUPS,
        "verdict_names": VERDICTS,
        "dimensions": words.under("judge.dimensions"),
        "query_recall": query_recall,
        "lowest": lowest,
        "seconds": seconds,
    }
    return environment


def markdown(results: dict[str, dict | None], language: str, pictures: set[str], folder: Path, out: Path) -> str:
    """The report in ``language``.

    ``pictures``: names of the figures there are; ``folder``: where the JSON is, ``out``: where the report will be.
    Raises ReportError if something in the JSON cannot be used.
    """
    view = View(results, words_of(language))
    comparison = view.comparison
    text = (
        _environment(language)
        .get_template("report.md.j2")
        .render(
            r=results,
            figures=pictures,
            base=comparison.base,
            last=comparison.last,
            alone=comparison.alone,
            retrievers=comparison.retrievers,
            verdicts={name: comparison.verdicts(name) for name in comparison.retrievers},
            contributions=comparison.contributions,
            label=view.label,
            summing_up=view.summing_up,
            hardware=view.hardware,
            parameters=view.parameters,
            parameter_meaning=view.parameter_meaning,
            finding_name=view.finding_name,
            remarks=view.remarks(),
            screenshots=view.screenshots(folder, out),
            judge_command=judge_command(results["judge"]),
            general_models=general_models(results["general"]),
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def html(text: str, language: str) -> str:
    """The Markdown as a page; HTML in it stays text."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    page = Environment(loader=FileSystemLoader(FOLDER), autoescape=True).get_template("page.html.j2")
    return page.render(language=language, title=words_of(language)("title"), body=body)
