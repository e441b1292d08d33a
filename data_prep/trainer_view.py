"""Rows in the eyes of LLaMA-Factory: token lengths, and which tokens carry loss, with its own template and code."""

from collections.abc import Sequence
from itertools import groupby

from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.data.processor import SupervisedDatasetProcessor
from llamafactory.extras.constants import IGNORE_INDEX
from llamafactory.hparams import DataArguments
from transformers import AutoTokenizer

from data_prep.errors import InputError

# Estimates this near to cutoff_len are counted exactly.
NEAR = 64


class TrainerView:
    """Tokenizer and template of a training configuration. Raises InputError if either is not there."""

    def __init__(self, config: dict, tokenizer: str | None = None):
        source = tokenizer or config["model_name_or_path"]
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError):
            raise InputError(
                f"There is no tokenizer at {source}; give its folder with --tokenizer, or a mirror with HF_ENDPOINT=."
            ) from None
        self.cutoff_len = config["cutoff_len"]
        arguments = DataArguments(
            template=config["template"],
            cutoff_len=self.cutoff_len,
            train_on_prompt=config.get("train_on_prompt", False),
            mask_history=config.get("mask_history", False),
            enable_thinking=config.get("enable_thinking", True),
        )
        try:
            self.template = get_template_and_fix_tokenizer(self.tokenizer, arguments)
        except ValueError:
            raise InputError(f"LLaMA-Factory has no template {config['template']!r}; ours is qwen3_nothink.") from None
        self.processor = SupervisedDatasetProcessor(self.template, self.tokenizer, None, arguments)
        self._counts: dict[int, int] = {}
        self._frames: dict[tuple[int, str], int] = {}

    def length(self, turns: Sequence[str], system: str) -> int:
        """Tokens of a conversation before any cut; near ``cutoff_len`` it is exact, elsewhere a token or so off."""
        frame = (len(turns), system)
        if frame not in self._frames:
            self._frames[frame] = self._exact([""] * len(turns), system)
        estimate = self._frames[frame] + sum(map(self._count, turns))
        return self._exact(turns, system) if abs(estimate - self.cutoff_len) < NEAR else estimate

    def _count(self, text: str) -> int:
        key = hash(text)
        if key not in self._counts:
            self._counts[key] = len(self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False))
        return self._counts[key]

    def _exact(self, turns: Sequence[str], system: str) -> int:
        pairs = self.template.encode_multiturn(self.tokenizer, _messages(turns), system)
        return sum(len(prompt) + len(reply) for prompt, reply in pairs)

    def encode(self, turns: Sequence[str], system: str) -> tuple[list[int], list[int]]:
        """Token ids of a row, and its labels: the token itself where the loss falls on it, else ``IGNORE_INDEX``."""
        messages = _messages(turns)
        columns = {"_prompt": messages[:-1], "_response": messages[-1:], "_system": system, "_tools": ""}
        media = dict.fromkeys(("_images", "_videos", "_audios"))
        row = self.processor.preprocess_dataset({name: [value] for name, value in (columns | media).items()})
        return row["input_ids"][0], row["labels"][0]

    def encode_reply(self, turns: Sequence[str], system: str) -> tuple[list[int], list[int]]:
        """Token ids of the prompt for the last of ``turns``, as serving makes it, and of that reply.

        A hybrid thinker that is not to think has an empty thought before the last reply only; in ``encode`` before all.
        """
        return self.template.encode_oneturn(self.tokenizer, _messages(turns), system)

    def with_loss(self, turns: Sequence[str], system: str) -> list[tuple[bool, str]]:
        """Stretches of the decoded row, and whether the loss falls on them, as the trainer has it."""
        ids, labels = self.encode(turns, system)
        tokens = zip(labels, ids, strict=True)
        return [
            (carries, self.tokenizer.decode([token for _, token in stretch]))
            for carries, stretch in groupby(tokens, key=lambda pair: pair[0] != IGNORE_INDEX)
        ]


def _messages(turns: Sequence[str]) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[number % 2], "content": turn} for number, turn in enumerate(turns)]
