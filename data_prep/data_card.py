"""The data card: what a build holds and where it comes from, as Markdown, from the manifest alone."""

from jinja2 import Environment, StrictUndefined

from data_prep.formats import FORMATS
from data_prep.samples import MISSED

_TEMPLATE = """\
# Data card

Built by `python -m data_prep.build` at commit `{{ git or "unknown" }}` from `{{ source }}`; every number below comes \
from `manifest.json` beside this file.

## What it is

Conversations of Synthetic-Persona-Chat as datasets for LLaMA-Factory (`dataset_info.json`). With every message stand \
the facts of the responder's card that matter for it, at most {{ settings.k }}, and every sentence of a reply that \
uses one of them ends in its mark (`[P2]`).

| file | rows |
| --- | ---: |
{%- for counts in splits.values() %}{% for name, rows in counts.rows_out.items() %}
| `{{ name }}.json` | {{ n(rows) }} |
{%- endfor %}{% endfor %}

{% for form in settings.formats -%}
- `{{ form }}`: {{ formats[form].says }}.
{% endfor %}
## How it was made

- Facts: retriever `{{ settings.retriever }}` ({{ retriever.identity }}), at most {{ settings.k }} facts.
- Used facts: labeller `{{ settings.labeller }}`{% if settings.labeller == "encoder" %}, which learned from \
labels that a language model made{% endif %}. No person checked them; some are wrong.
- Replies that use a fact which retrieval missed: `{{ settings.samples.missed }}`, \
{{ missed[settings.samples.missed].says }}.
- Replies that use no fact: {{ percent(settings.samples.distractors) }} keep the facts retrieved for them as \
distractors.
- Sides: `{{ settings.samples.sides }}`{% if settings.samples.only_grounded %}; only exchanges whose reply uses a \
fact{% endif %}. System line: `{{ settings.language }}`.
- Bracket placeholders (`[name]`) are filled alike all through a conversation; an exchange with one that cannot be \
filled is left out, and so is a reply that claims a fact of the other side's card.

## Counts

| |{% for split in splits %} {{ split }} |{% endfor %}
| --- |{% for split in splits %} ---: |{% endfor %}
{%- for label, key in rows %}
| {{ label }} |{% for counts in splits.values() %} {{ n(counts[key]) }} |{% endfor %}
{%- endfor %}
{%- for label, key, whole in shares %}
| {{ label }} |{% for counts in splits.values() %} {{ percent(counts[key] / (counts[whole] or 1)) }} \
|{% endfor %}
{%- endfor %}
{%- for label, key in lengths %}
| {{ label }} |{% for counts in splits.values() %} {{ counts[key].values() | join(" / ") }} |{% endfor %}
{%- endfor %}

## What is left out

Every line of it, with its reason, stands in `rejects.jsonl`.

| reason |{% for split in splits %} {{ split }} |{% endfor %}
| --- |{% for split in splits %} ---: |{% endfor %}
{%- for reason in reasons %}
| {{ reason }} |{% for counts in splits.values() %} {{ n(counts.rejects.get(reason, 0)) }} |{% endfor %}
{%- endfor %}

## Leaks

| |{% for split in others %} {{ split }} |{% endfor %}
| --- |{% for split in others %} ---: |{% endfor %}
{%- for source in sources %}
| cards also in {{ source }} |{% for counts in others.values() %} {{ n(counts.leaks[source].cards) }} of \
{{ n(counts.distinct_cards) }} |{% endfor %}
| single facts also in {{ source }} |{% for counts in others.values() %} {{ n(counts.leaks[source].facts) }} of \
{{ n(counts.distinct_facts) }} |{% endfor %}
{%- endfor %}

Cards are new in valid and test; many of their facts are not. Numbers on those splits say how a model does on new \
people, not on new sentences.

## Licences

{% if source == "sample" -%}
The bundled sample was written for this project and is under its licence; it imitates the form of \
Synthetic-Persona-Chat and holds none of its text.
{%- else -%}
The text is Google's [Synthetic-Persona-Chat](https://huggingface.co/datasets/google/Synthetic-Persona-Chat) \
(Jandaghi et al. 2023, arXiv:2312.10007), CC BY 4.0: name it and say that it was changed (cleaned, placeholders \
filled, facts and marks added). It was written by a language model from crowd-written cards.
{%- endif %} It is not about real people.
"""

_ROWS = (
    ("rows read", "rows_in"),
    ("conversations", "conversations"),
    ("turns", "turns"),
    ("turns with a placeholder filled", "turns_with_placeholder_filled"),
    ("turns that use a fact of their speaker", "turns_using_facts"),
    ("samples", "samples"),
    ("replies", "replies"),
    ("replies with marks", "replies_with_marks"),
    ("replies that use a fact not shown", "replies_using_facts_not_shown"),
)
_SHARES = (
    ("replies that use a fact", "replies_using_facts", "replies"),
    ("replies with a mark", "replies_with_marks", "replies"),
    ("replies with facts shown, none of them used", "replies_with_distractors_only", "replies"),
)
_LENGTHS = (
    ("words of a reply: median / 95 % / longest", "reply_words"),
    ("words of a message: median / 95 % / longest", "message_words"),
)


def data_card(manifest: dict) -> str:
    """The card of the build that ``manifest`` describes."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    splits = manifest["splits"]
    return environment.from_string(_TEMPLATE).render(
        **manifest,
        others={split: counts for split, counts in splits.items() if "leaks" in counts},
        sources=[split for split, counts in splits.items() if "leaks" not in counts],
        reasons=sorted({reason for counts in splits.values() for reason in counts["rejects"]}),
        rows=_ROWS,
        shares=_SHARES,
        lengths=_LENGTHS,
        missed=MISSED,
        formats=FORMATS,
        n=lambda number: f"{number:,}",
        percent=lambda share: f"{100 * share:.1f} %",
    )
