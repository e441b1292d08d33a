"""Train the ``encoder`` labeller: ``python -m data_prep.labellers.train --spc hub|FOLDER`` (``make labeller``).

Joins the labels that ship with the project to SPC, fine-tunes a sentence encoder on those of train and New-Persona,
chooses the threshold on those of valid, and writes a folder that ``EncoderLabeller`` opens.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import torch
from sklearn.metrics import precision_recall_curve, precision_recall_fscore_support
from tokenizers import Tokenizer
from torch import nn
from torch.utils.data import Dataset
from transformers import AutoModel, AutoTokenizer, Trainer, TrainingArguments

from data_prep.errors import InputError
from data_prep.labellers.encoder import EncoderLabeller
from data_prep.labellers.network import GroundingNetwork, reply_logits
from data_prep.labellers.precomputed import MODEL
from data_prep.labellers.storage import prune_vocabulary, save_labeller
from data_prep.labellers.windows import CONTEXT, Tokens, Window, WindowCutter, collate, last_full_start
from data_prep.labels import Labelled, kept_back, labelled_conversations, labelled_replies
from data_prep.reader import read_conversations
from data_prep.sources import find_files
from retrieval.training.precision import computes_in_bf16

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
LEAST_COUNT = 3  # times a word piece occurs in train and New-Persona, or it is cut into smaller ones
EPOCHS = 1.5
SEED = 20261121
# The labels are plenty and the passes few; without dropout a step on a CPU takes less than half as long.
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@dataclass
class Example:
    """One side of a conversation, and the used facts of the turns that are labelled."""

    tokens: Tokens
    used: dict[int, frozenset[int]]


class Windows(Dataset):
    """A window of each example, drawn anew every time, so that no two epochs cut a conversation alike."""

    def __init__(self, examples: Sequence[Example], cutter: WindowCutter):
        self.examples, self.cutter, self.random = examples, cutter, Random(SEED)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> dict:
        example = self.examples[number]
        facts = range(len(example.tokens.card))
        if len(example.used) == 1:
            turn = next(iter(example.used))
            window, _ = self.cutter.window(example.tokens, max(0, turn - CONTEXT), turn, facts)
        else:
            start = self.random.randint(0, last_full_start(example.tokens))
            window, _ = self.cutter.window(example.tokens, start, start, facts)
        return {"input_ids": window.ids, "window": window, "used": example.used}


def batch(rows: Sequence[dict]) -> dict[str, torch.Tensor]:
    """Arrays of ``collate``, and for each pair its (turn, fact) group; ``labels``: one per group."""
    windows: list[Window] = [row["window"] for row in rows]
    arrays = {name: torch.from_numpy(array) for name, array in collate(windows).items()}
    groups: dict[tuple[int, int, int], int] = {}
    pair_groups, labels = [], []
    for number, row in enumerate(rows):
        for turn in row["window"].turns:
            for fact in row["window"].facts:
                group = groups.setdefault((number, turn, fact), len(groups))
                if group == len(labels):
                    labels.append(float(fact in row["used"][turn]))
                pair_groups.append(group)
    return arrays | {"groups": torch.tensor(pair_groups), "labels": torch.tensor(labels)}


class TrainedNetwork(GroundingNetwork):
    """The network with its loss: binary cross-entropy per (reply, fact)."""

    def forward(self, ids, mask, facts, sentences, pairs, groups, labels) -> dict[str, torch.Tensor]:
        """Loss and logits, shape (replies x facts,)."""
        logits = reply_logits(super().forward(ids, mask, facts, sentences, pairs), groups, len(labels))
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, labels), "logits": logits}


def examples_of(labelled: Sequence[Labelled], cutter: WindowCutter) -> list[Example]:
    """An example per side that has a labelled turn; the turns after the last one are cut off: no label, no loss."""
    examples = []
    for item in labelled:
        for side, card in enumerate(item.conversation.cards):
            used = {turn: facts for turn, facts in item.used.items() if item.conversation.turns[turn].side == side}
            if card and used:
                turns = item.conversation.turns[: max(used) + 1]
                own = [turn.side == side for turn in turns]
                examples.append(Example(cutter.tokens(card, [turn.text for turn in turns], own), used))
    return examples


def scored_pairs(labeller: EncoderLabeller, held: Sequence[Labelled]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each (labelled turn, fact) of ``held``: its logit, whether the fact is used, and the number of its item."""
    scores = labeller.scores([item.conversation for item in held])
    rows = [
        (logits.max(), fact in used, number)
        for number, item in enumerate(held)
        for turn, used in item.used.items()
        for fact, logits in scores[number][turn].items()
    ]
    logits, truth, numbers = np.array(rows).T
    return logits, truth.astype(bool), numbers


def best_threshold(logits: np.ndarray, truth: np.ndarray) -> float:
    """The logit from which a fact counts as used, for the best F1."""
    precision, recall, thresholds = precision_recall_curve(truth, logits)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    return float(thresholds[f1[:-1].argmax()])


def measures(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 over (turn, fact) pairs."""
    values = precision_recall_fscore_support(truth, found, average="binary")[:3]
    return {name: round(float(value), 4) for name, value in zip(("precision", "recall", "f1"), values, strict=True)}


def calibrate(labeller: EncoderLabeller, unseen: Sequence[Labelled], held: Sequence[Labelled]) -> dict:
    """The threshold, chosen on the conversations ``unseen``, whose cards are new to the labeller, and what it reaches.

    On ``unseen`` the measures are cross-fitted: each half is scored at the threshold that is best on the other half.
    """
    logits, truth, numbers = scored_pairs(labeller, unseen)
    found = np.zeros(len(truth), dtype=bool)
    for half in (0, 1):
        mine = numbers % 2 == half
        found[mine] = logits[mine] >= best_threshold(logits[~mine], truth[~mine])
    threshold = best_threshold(logits, truth)
    held_logits, held_truth, _ = scored_pairs(labeller, held)
    return {
        "threshold": threshold,
        "new_cards": {"conversations": len(unseen)} | measures(truth, found),
        "kept_back": {"replies": len(held)} | measures(held_truth, held_logits >= threshold),
    }


def train(spc: str, encoder: str, out: Path, epochs: float, checkpoints: Path) -> dict:
    """Train, write the labeller to ``out`` and return its record."""
    files = find_files(spc, new_persona=True)
    sources = {split: read_conversations(files[split], split)[0] for split in ("train", "new_persona", "valid")}
    dense = {split: labelled_conversations(conversations, split) for split, conversations in sources.items()}
    unseen = dense.pop("valid")
    replies, held = kept_back(labelled_replies(sources["train"], "train"), dense["train"])
    if not all(dense.values()) or not held or not unseen:
        raise InputError(f"{spc} holds no conversation that the project's labels are about; name the original SPC.")
    network, tokenizer = _pretrained(encoder)
    learned = [*sources["train"], *sources["new_persona"]]
    texts = [turn.text for conversation in learned for turn in conversation.turns]
    texts += [fact for conversation in learned for card in conversation.cards for fact in card]
    tokenizer = prune_vocabulary(network, tokenizer, texts, LEAST_COUNT)
    cutter = WindowCutter(tokenizer)
    labelled = [*dense["train"], *dense["new_persona"]]
    examples = examples_of([*labelled, *replies], cutter)
    _say(f"{len(labelled):,} conversations and {len(replies):,} replies to train on, {len(held):,} replies kept back")
    settings = TrainingArguments(
        output_dir=str(checkpoints), num_train_epochs=epochs, learning_rate=2e-4, weight_decay=0.01, warmup_steps=0.06,
        per_device_train_batch_size=20, bf16=computes_in_bf16(), use_cpu=not torch.cuda.is_available(), seed=SEED,
        train_sampling_strategy="group_by_length", remove_unused_columns=False, dataloader_pin_memory=False,
        logging_steps=50, save_strategy="epoch", save_total_limit=1, report_to="none",
    )  # fmt: skip
    trainer = Trainer(network, settings, train_dataset=Windows(examples, cutter), data_collator=batch)
    trainer.train()
    record = {
        "threshold": 0.0,
        "encoder": Path(encoder).name if Path(encoder).is_dir() else encoder,
        "epochs": epochs,
        "trained_on": {"conversations": {split: len(found) for split, found in dense.items()}, "replies": len(replies)},
    }
    with TemporaryDirectory() as staging:  # as it will be opened, matrices rounded
        save_labeller(Path(staging), network, tokenizer, record)
        record |= calibrate(EncoderLabeller(Path(staging)), unseen, held)
    save_labeller(out, network, tokenizer, record)
    return record


def _pretrained(encoder: str) -> tuple[TrainedNetwork, Tokenizer]:
    try:
        model = AutoModel.from_pretrained(encoder, add_pooling_layer=False, **NO_DROPOUT)
        return TrainedNetwork(model), AutoTokenizer.from_pretrained(encoder).backend_tokenizer
    except (OSError, ValueError):
        raise InputError(
            f"There is no encoder at {encoder}; give ENCODER=<its folder or hub id>, or a mirror with HF_ENDPOINT=."
        ) from None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data_prep.labellers.train", description=__doc__.split("\n")[0])
    parser.add_argument("--spc", default="hub", help="folder with the SPC CSV files, or `hub` (default: hub)")
    parser.add_argument("--encoder", default=ENCODER, metavar="MODEL",
                        help=f"BERT-like encoder, a local folder or a hub id (default: {ENCODER})")  # fmt: skip
    parser.add_argument("--out", type=Path, default=MODEL, help=f"folder to write (default: {MODEL.name})")
    parser.add_argument("--epochs", type=float, default=EPOCHS, help=f"passes over the labels (default: {EPOCHS})")
    parser.add_argument("--checkpoints", type=Path, default=Path("saves/labeller"), help="where to keep checkpoints")
    arguments = parser.parse_args()
    try:
        record = train(arguments.spc, arguments.encoder, arguments.out, arguments.epochs, arguments.checkpoints)
    except InputError as error:
        _say(str(error))
        sys.exit(2)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
