"""Samples to the rows that LLaMA-Factory reads, and the ``dataset_info.json`` that describes them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from data_prep.preferences import preferences
from data_prep.samples import Sample
from retrieval.prompt import SYSTEM_PROMPTS, fact_lines, render

# Once `columns` or `tags` is given, LLaMA-Factory sets every key left out of it to None: all are spelled out.
_NO_COLUMNS = dict.fromkeys(
    ("prompt", "query", "response", "history", "messages", "system", "tools", "images", "videos", "audios",
     "chosen", "rejected", "kto_tag")
)  # fmt: skip
_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
_SHAREGPT = {"messages": "conversations", "system": "system"}
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}


def sharegpt_rows(samples: Sequence[Sample], language: str) -> Iterator[dict]:
    """A row a sample: the whole conversation, every user turn with its own facts, the loss on every assistant turn."""
    for sample in samples:
        yield {"conversations": _messages(_turns(sample)), "system": SYSTEM_PROMPTS[language]}


def alpaca_rows(samples: Sequence[Sample], language: str) -> Iterator[dict]:
    """A row a reply; ``history`` holds the earlier exchanges with their facts."""
    for sample in samples:
        dialogue = sample.dialogue
        turns = render(dialogue, sample.hits)
        pairs = [[turns[i], turns[i + 1]] for i in range(0, len(turns), 2)]
        for number, (_, reply) in enumerate(pairs):
            yield {
                "instruction": dialogue.turns[2 * number],
                "input": fact_lines(dialogue.card, sample.hits[number]),
                "output": reply,
                "system": SYSTEM_PROMPTS[language],
                "history": pairs[:number],
            }


def dpo_rows(samples: Sequence[Sample], language: str) -> Iterator[dict]:
    """A row a preference pair: the conversation up to a message, and two replies to it."""
    for pair in preferences(samples):
        yield {
            "conversations": _messages(_turns(pair.sample)[:-1]),
            "chosen": {"from": "gpt", "value": pair.chosen},
            "rejected": {"from": "gpt", "value": pair.rejected},
            "system": SYSTEM_PROMPTS[language],
        }


def kto_rows(samples: Sequence[Sample], language: str) -> Iterator[dict]:
    """Two rows a preference pair: the conversation with one of the replies, and whether it is the good one."""
    for pair in preferences(samples):
        turns = _turns(pair.sample)[:-1]
        for reply in (pair.chosen, pair.rejected):
            yield {
                "conversations": _messages([*turns, reply]),
                "kto_tag": reply == pair.chosen,
                "system": SYSTEM_PROMPTS[language],
            }


def _turns(sample: Sample) -> list[str]:
    return render(sample.dialogue, sample.hits)


def _messages(turns: Sequence[str]) -> list[dict]:
    return [{"from": ("human", "gpt")[number % 2], "value": turn} for number, turn in enumerate(turns)]


@dataclass(frozen=True)
class Format:
    """``rows``: (samples, language) to rows. The rest describes them to LLaMA-Factory in ``dataset_info.json``."""

    rows: Callable[[Sequence[Sample], str], Iterator[dict]]
    formatting: str
    columns: dict[str, str]
    ranking: bool = False


FORMATS = {
    "sharegpt": Format(sharegpt_rows, "sharegpt", _SHAREGPT),
    "alpaca": Format(alpaca_rows, "alpaca", _ALPACA),
    "dpo": Format(dpo_rows, "sharegpt", _SHAREGPT | {"chosen": "chosen", "rejected": "rejected"}, ranking=True),
    "kto": Format(kto_rows, "sharegpt", _SHAREGPT | {"kto_tag": "kto_tag"}),
}


def dataset_name(form: str, split: str) -> str:
    """The name under which LLaMA-Factory knows a dataset; its file is ``<name>.json``."""
    return f"spc_{form}_{split}"


def dataset_info(forms: Sequence[str], splits: Sequence[str]) -> dict:
    """The entries of ``dataset_info.json`` for each format of each split."""
    return {
        dataset_name(form, split): {
            "file_name": f"{dataset_name(form, split)}.json",
            "formatting": FORMATS[form].formatting,
            "ranking": FORMATS[form].ranking,
            "columns": _NO_COLUMNS | FORMATS[form].columns,
            "tags": _TAGS,
        }
        for form in forms
        for split in splits
    }
