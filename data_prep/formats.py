"""Samples to the rows that LLaMA-Factory reads, and the ``dataset_info.json`` that describes them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from data_prep.inverse import INVERSE_SYSTEM_PROMPTS, inverse_exchanges
from data_prep.preferences import Preference, preferences
from data_prep.samples import Sample
from retrieval.prompt import SYSTEM_PROMPTS, fact_lines

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


@dataclass
class Examples:
    """What every format is made from. ``language``: of the system line."""

    samples: Sequence[Sample]
    language: str

    @property
    def system(self) -> str:
        """The system line."""
        return SYSTEM_PROMPTS[self.language]

    @cached_property
    def preferences(self) -> list[Preference]:
        """Preference pairs, made when first asked for."""
        return [*preferences(self.samples)]


def sharegpt_rows(examples: Examples) -> Iterator[dict]:
    """A row a sample: the whole conversation, every user turn with its own facts, the loss on every assistant turn."""
    for sample in examples.samples:
        yield {"conversations": _messages(sample.turns), "system": examples.system}


def alpaca_rows(examples: Examples) -> Iterator[dict]:
    """A row a reply; ``history`` holds the earlier exchanges with their facts."""
    for sample in examples.samples:
        dialogue = sample.dialogue
        pairs = list(zip(sample.turns[::2], sample.turns[1::2], strict=True))
        for number, (_, reply) in enumerate(pairs):
            yield {
                "instruction": dialogue.turns[2 * number],
                "input": fact_lines(dialogue.card, sample.hits[number]),
                "output": reply,
                "system": examples.system,
                "history": pairs[:number],
            }


def dpo_rows(examples: Examples) -> Iterator[dict]:
    """A row a preference pair: the conversation up to a message, and two replies to it."""
    for pair in examples.preferences:
        yield {
            "conversations": _messages(pair.sample.turns[:-1]),
            "chosen": {"from": "gpt", "value": pair.chosen},
            "rejected": {"from": "gpt", "value": pair.rejected},
            "system": examples.system,
        }


def kto_rows(examples: Examples) -> Iterator[dict]:
    """Two rows a preference pair: the conversation with one of the replies, and whether it is the good one."""
    for pair in examples.preferences:
        turns = pair.sample.turns[:-1]
        for reply in (pair.chosen, pair.rejected):
            yield {
                "conversations": _messages([*turns, reply]),
                "kto_tag": reply == pair.chosen,
                "system": examples.system,
            }


def inverse_rows(examples: Examples) -> Iterator[dict]:
    """A row a reply that cites a fact: the reply and its facts in the place of the message, which is the output."""
    for exchange in inverse_exchanges(examples.samples):
        yield {
            "instruction": exchange.reply,
            "input": exchange.facts,
            "output": exchange.message,
            "system": INVERSE_SYSTEM_PROMPTS[examples.language],
            "history": [],
        }


def _messages(turns: Sequence[str]) -> list[dict]:
    return [{"from": ("human", "gpt")[number % 2], "value": turn} for number, turn in enumerate(turns)]


@dataclass(frozen=True)
class Format:
    """``rows``: examples to rows; ``says``: what they are, for the data card.

    The rest describes them to LLaMA-Factory in ``dataset_info.json``.
    """

    rows: Callable[[Examples], Iterator[dict]]
    says: str
    formatting: str
    columns: dict[str, str]
    ranking: bool = False


FORMATS = {
    "sharegpt": Format(
        sharegpt_rows,
        "a row a conversation and side, more where an exchange in the middle is left out",
        "sharegpt",
        _SHAREGPT,
    ),
    "alpaca": Format(alpaca_rows, "a row a reply (train with `mask_history: true`)", "alpaca", _ALPACA),
    "dpo": Format(
        dpo_rows,
        "a grounded, rightly cited reply against one that grounds or cites wrongly",
        "sharegpt",
        _SHAREGPT | {"chosen": "chosen", "rejected": "rejected"},
        ranking=True,
    ),
    "kto": Format(
        kto_rows,
        "replies one by one, each with its verdict: grounded and rightly cited, or not",
        "sharegpt",
        _SHAREGPT | {"kto_tag": "kto_tag"},
    ),
    "inverse": Format(
        inverse_rows,
        "a row a reply that cites a fact; the reply and its facts are the prompt, and the message that it answers is"
        " to be predicted: an auxiliary task, under a system line of its own",
        "alpaca",
        _ALPACA,
    ),
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
