"""The log-probability that a model gives each token of a reply when it reads the true text before it.

Token ids, and which of them carry loss, are those of training: LLaMA-Factory's own template and encoding make them.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from llamafactory.extras.constants import IGNORE_INDEX
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import AutoModelForCausalLM, PreTrainedModel

from data_prep.errors import InputError
from data_prep.trainer_view import TrainerView
from eval.models import folder_of

TEMPLATE = "qwen3_nothink"
BATCH_TOKENS = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Encoded:
    """A conversation as token ids. ``replies``: the positions of each reply's tokens that carry loss."""

    ids: list[int]
    replies: list[range]


@dataclass(frozen=True)
class Scores:
    """A reply of n tokens, those that end the turn included.

    ``ids``: the true tokens, (n,). ``log_probabilities``: of these, in nats, (n,). ``best``: the ids of the most likely
    tokens, (n,).
    ``watched``: the log-probabilities of w tokens asked for, in nats, (n, w).
    """

    ids: np.ndarray
    log_probabilities: np.ndarray
    best: np.ndarray
    watched: np.ndarray


class TeacherForced:
    """A model that scores replies: in bfloat16 on a GPU if there is one, else in float32 on the CPU.

    ``model``: a folder, or an id on the hub. ``adapter``: a folder. ``template``: of LLaMA-Factory; a hybrid thinker's
    reply comes after an empty thought. ``batch_tokens``: how many, padding included, go through the model at once
    (default: ``BATCH_TOKENS``); a longer conversation goes alone.
    Raises InputError if one of them is not there or does not fit the others.
    """

    def __init__(
        self, model: str, adapter: str | None = None, template: str = TEMPLATE, batch_tokens: int | None = None
    ):
        # Nothing is cut off: a mark at the end of a long conversation counts like any other.
        folder = str(folder_of(model))
        settings = {"model_name_or_path": folder, "template": template, "cutoff_len": 2**30, "enable_thinking": False}
        self._view = TrainerView(settings)
        self.tokenizer = self._view.tokenizer
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.model = load_model(model, adapter, self.dtype).to(self.device).eval()
        self._batch_tokens = batch_tokens or BATCH_TOKENS[self.device.type]

    def encode(self, turns: Sequence[str], system: str) -> Encoded:
        """``turns``: user, assistant, user, ...; the last is a reply."""
        ids, labels = self._view.encode(turns, system)
        replies: list[range] = []
        for place in (place for place, label in enumerate(labels) if label != IGNORE_INDEX):
            start = replies.pop().start if replies and replies[-1].stop == place else place
            replies.append(range(start, place + 1))
        if len(replies) != len(turns) // 2:
            raise AssertionError(f"{len(turns) // 2} replies, but {len(replies)} stretches of tokens carry loss")
        return Encoded(ids, replies)

    def score(
        self, conversations: Sequence[Encoded], watched: Sequence[int] = (), progress: str | None = None
    ) -> list[list[Scores]]:
        """The scores of every reply of every conversation, in their order.

        ``watched``: ids of tokens whose log-probability is wanted at every place. ``progress``: title of a bar.
        """
        found: list[list[Scores]] = [[] for _ in conversations]
        with tqdm(total=len(conversations), desc=progress, unit="conversation", disable=progress is None) as bar:
            for batch in self._batches([len(conversation.ids) for conversation in conversations]):
                rows = self._score_batch([conversations[number] for number in batch], watched)
                for number, row in zip(batch, rows, strict=True):
                    found[number] = row
                bar.update(len(batch))
        return found

    @torch.inference_mode()
    def score_replies(self, system: str, prompt: Sequence[str], replies: Sequence[str]) -> list[Scores]:
        """The scores of several replies to one message. ``prompt``: the turns up to it, the user's first.

        The prompt is that of serving. It goes through the model once; all replies look back at its keys and values.
        """
        encoded = [self._view.encode_reply([*prompt, reply], system) for reply in replies]
        asked = encoded[0][0]
        if any(one != asked for one, _ in encoded):
            raise AssertionError("the tokens of the prompt depend on the reply")
        *before, last = asked  # the last token of the prompt predicts the first of the reply
        shared = self.model(torch.tensor([before]).to(self.device), use_cache=True, logits_to_keep=1).past_key_values
        rests = [[last, *reply] for _, reply in encoded]
        found: dict[int, Scores] = {}
        for batch in self._batches([len(rest) for rest in rests]):
            ids = _padded([rests[number] for number in batch])
            past = deepcopy(shared)
            past.batch_repeat_interleave(len(batch))
            logits = self.model(ids.to(self.device), past_key_values=past).logits
            for row, number in enumerate(batch):
                true = ids[row, 1 : len(rests[number])]
                found[number] = Scores(*_columns(logits[row, : len(true)], true, ()))
        return [found[number] for number in range(len(replies))]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Numbers of conversations of like length, the longest first: a lack of memory shows at once."""
        batch: list[int] = []
        for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
            if batch and (len(batch) + 1) * lengths[batch[0]] > self._batch_tokens:
                yield batch
                batch = []
            batch.append(number)
        if batch:
            yield batch

    @torch.inference_mode()
    def _score_batch(self, conversations: Sequence[Encoded], watched: Sequence[int]) -> list[list[Scores]]:
        ids = _padded([conversation.ids for conversation in conversations])
        # The token at a place is predicted at the place before; only those places go through the output layer.
        before = [torch.tensor([place - 1 for reply in c.replies for place in reply]) for c in conversations]
        kept = torch.unique(torch.cat(before))
        logits = self.model(ids.to(self.device), use_cache=False, logits_to_keep=kept.to(self.device)).logits
        found = []
        for number, conversation in enumerate(conversations):
            row = logits[number, torch.searchsorted(kept, before[number]).to(self.device)]
            columns = _columns(row, ids[number, before[number] + 1], watched)
            ends = np.cumsum([len(reply) for reply in conversation.replies])[:-1]
            parts = (np.split(column, ends) for column in columns)
            found.append([Scores(*part) for part in zip(*parts, strict=True)])
        return found


def _padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """As one tensor. Padding stands on the right, where no token looks: a mask would change the speed only."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


def _columns(logits: torch.Tensor, true: torch.Tensor, watched: Sequence[int]) -> list[np.ndarray]:
    """What ``Scores`` hold, of n places. ``logits``: (n, vocabulary); ``true``: ids of the tokens there, (n,)."""
    logits = logits.float()
    norm = logits.logsumexp(-1, keepdim=True)
    of_true = logits.gather(-1, true.to(logits.device)[:, None]) - norm
    columns = (true, of_true[:, 0], logits.argmax(-1), logits[:, list(watched)] - norm)
    return [column.cpu().numpy() for column in columns]


def load_model(model: str, adapter: str | None, dtype: torch.dtype) -> PreTrainedModel | PeftModel:
    """``model``: a folder, or an id on the hub. ``adapter``: a folder.

    Raises InputError if there is no model, or no adapter that fits it.
    """
    no_adapter = f"There is no adapter for {model} at {adapter}; give the output folder of a LoRA run on that model."
    if adapter and not (Path(adapter) / "adapter_config.json").is_file():
        raise InputError(no_adapter)
    folder = folder_of(model)
    try:
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    except (OSError, ValueError):
        raise InputError(f"There is no model at {model}; give its folder, or a mirror with HF_ENDPOINT=.") from None
    if adapter is None:
        return loaded
    try:
        return PeftModel.from_pretrained(loaded, adapter)
    except (OSError, ValueError, RuntimeError):
        raise InputError(no_adapter) from None
