"""Samples to the rows that LLaMA-Factory reads, and the ``dataset_info.json`` that describes them."""

from collections.abc import Iterator

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


def sharegpt_rows(sample: Sample, language: str) -> Iterator[dict]:
    """One row: the whole conversation, every user turn with its own facts, the loss on every assistant turn."""
    roles = ("human", "gpt")
    turns = render(sample.dialogue, sample.hits)
    conversation = [{"from": roles[i % 2], "value": turn} for i, turn in enumerate(turns)]
    yield {"conversations": conversation, "system": SYSTEM_PROMPTS[language]}


def alpaca_rows(sample: Sample, language: str) -> Iterator[dict]:
    """One row per reply; ``history`` holds the earlier exchanges with their facts."""
    turns = render(sample.dialogue, sample.hits)
    for end in range(1, len(turns), 2):
        hits = sample.hits[end // 2]
        yield {
            "instruction": sample.dialogue.turns[end - 1],
            "input": fact_lines(sample.dialogue.card, hits),
            "output": turns[end],
            "system": SYSTEM_PROMPTS[language],
            "history": [[turns[i], turns[i + 1]] for i in range(0, end - 1, 2)],
        }


FORMATS = {"sharegpt": sharegpt_rows, "alpaca": alpaca_rows}


def dataset_name(form: str, split: str) -> str:
    """The name under which LLaMA-Factory knows a dataset; its file is ``<name>.json``."""
    return f"spc_{form}_{split}"


def dataset_info(splits: list[str]) -> dict:
    """The entries of ``dataset_info.json`` for both formats of each split."""
    sharegpt = {"formatting": "sharegpt", "columns": _NO_COLUMNS | {"messages": "conversations", "system": "system"}}
    alpaca = {
        "formatting": "alpaca",
        "columns": _NO_COLUMNS
        | {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"},
    }
    entries = {}
    for form, entry in (("sharegpt", sharegpt), ("alpaca", alpaca)):
        for split in splits:
            name = dataset_name(form, split)
            entries[name] = {"file_name": f"{name}.json", "ranking": False, **entry, "tags": _TAGS}
    return entries
