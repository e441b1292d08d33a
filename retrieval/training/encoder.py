"""Fine-tune a sentence-transformers model to find facts: the ``encoder`` retriever.
``python -m retrieval.training.encoder --examples saves/retriever/train.jsonl``

With ``in_card_loss``, from all examples, and then again from those that were labelled one by one, which alone say what
is relevant.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device
from torch import nn
from transformers import Trainer, TrainingArguments

from retrieval.dense import query_text
from retrieval.training.command import open_encoder, run, write_record
from retrieval.training.examples import Example, labelled_one_by_one, read_examples
from retrieval.training.loss import flat_pairs, in_card_loss
from retrieval.training.precision import computes_in_bf16

TURNS = 3  # that the query shows while it learns, each with its speaker
SCALE = 20.0  # of cosines, before the softmax: sentence-transformers' own for its ranking loss
PER_CARD = 6  # examples of one card that are learned together: its facts are encoded once
CARDS = 32  # in a batch
EPOCHS = 1.0
TEXTS = 16  # encoded together, of about the same length: little padding
SEED = 20261121
# The examples are plenty and the passes few; without dropout a step on a CPU takes less than half as long.
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def groups(examples: Sequence[Example]) -> list[list[Example]]:
    """Examples of the same card together, ``PER_CARD`` at most."""
    by_card: dict[tuple[str, ...], list[Example]] = defaultdict(list)
    for example in Random(SEED).sample(examples, len(examples)):
        by_card[example.card].append(example)
    return [found[start : start + PER_CARD] for found in by_card.values() for start in range(0, len(found), PER_CARD)]


class InCardLoss(nn.Module):
    """The encoder with its loss, for Hugging Face's trainer."""

    def __init__(self, encoder: SentenceTransformer):
        super().__init__()
        self.encoder = encoder
        self.nothing = nn.Parameter(torch.tensor(0.3))  # the cosine that a fact must pass to fit

    def forward(self, examples: list[Example]) -> dict[str, torch.Tensor]:
        facts, example_of, fact_of = flat_pairs(examples)
        queries, found = (
            self._encode([query_text(e.turns[-TURNS:], speakers=True) for e in examples]),
            self._encode(facts),
        )
        with torch.autocast(queries.device.type, enabled=False):
            cosines = (queries[example_of.to(queries.device)] * found[fact_of.to(queries.device)]).sum(dim=1)
        return {"loss": in_card_loss(SCALE * cosines, SCALE * self.nothing, examples)}

    def _encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Vectors of length 1, shape (texts, dimensions)."""
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        vectors = []
        for part in np.array_split(order, max(1, len(texts) // TEXTS)):
            features = self.encoder.preprocess([texts[number] for number in part])
            vectors.append(self.encoder(batch_to_device(features, self.encoder.device))["sentence_embedding"].float())
        places = torch.tensor(np.argsort(order))
        return nn.functional.normalize(torch.cat(vectors)[places.to(vectors[0].device)], dim=1)


def batch(grouped: Sequence[list[Example]]) -> dict[str, list[Example]]:
    """The examples of some groups."""
    return {"examples": [example for group in grouped for example in group]}


def fit(network: InCardLoss, examples: Sequence[Example], epochs: float, rate: float) -> None:
    """Learn from ``examples`` with the learning rate ``rate`` at most; nothing is saved."""
    settings = TrainingArguments(
        output_dir="saves/retriever", num_train_epochs=epochs, learning_rate=rate, weight_decay=0.01, warmup_steps=0.1,
        per_device_train_batch_size=CARDS, bf16=computes_in_bf16(), use_cpu=not torch.cuda.is_available(), seed=SEED,
        remove_unused_columns=False, dataloader_pin_memory=False, logging_steps=20, save_strategy="no",
        report_to="none",
    )  # fmt: skip
    Trainer(network, settings, train_dataset=groups(examples), data_collator=batch).train()


def train(examples: Path, encoder: str, out: Path, epochs: float) -> dict:
    """Train, write the model to ``out`` and return how. Raises ValueError if the input cannot be used."""
    learned = read_examples(examples)
    model = open_encoder(encoder, config_kwargs=NO_DROPOUT)
    print(f"{len(learned):,} examples", file=sys.stderr, flush=True)
    network = InCardLoss(model)
    fit(network, learned, epochs, 1e-4)
    fit(network, labelled_one_by_one(learned), 2 * epochs, 5e-5)
    out.parent.mkdir(parents=True, exist_ok=True)
    model.save(str(out), create_model_card=False)
    return write_record(out, encoder, epochs, examples)


if __name__ == "__main__":
    run(train, "encoder", epochs=EPOCHS)
