"""Learn a vector per word piece to find facts: the ``small`` retriever.
``python -m retrieval.training.small --examples saves/retriever/train.jsonl``

The vectors begin as the main components of what a sentence encoder makes of each piece by itself, frequent pieces
weighing less (Arora et al. 2017), as model2vec does it (github.com/MinishLab/model2vec). They and the weights of the
turns are then learned with ``in_card_loss``: from all examples, and then again from those that were labelled one by
one, which alone say what is relevant.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sklearn.decomposition import PCA
from tokenizers import Tokenizer
from torch import nn
from torch.nn.functional import normalize
from transformers import Trainer, TrainingArguments

from retrieval.static import PIECES, TOKENIZER, WEIGHTS
from retrieval.training.command import ENCODER, open_encoder, run, write_record
from retrieval.training.examples import Example, labelled_one_by_one, read_examples
from retrieval.training.loss import flat_pairs, in_card_loss

DIMENSIONS = 128
TURNS = 5  # that have a weight
FREQUENT = 1e-3  # share of all pieces at which a piece weighs half
BATCH = 256
EPOCHS = 2.0
UNKNOWN = "[UNK]"
SEED = 20261121


class StaticNetwork(nn.Module):
    """The vectors and weights, with their loss, for Hugging Face's trainer."""

    def __init__(self, vectors: np.ndarray, tokenizer: Tokenizer):
        super().__init__()
        # What the tokenizer does not know is all one piece: it must not make any two unknown words alike.
        unknown = tokenizer.token_to_id(UNKNOWN)
        self.vectors = nn.EmbeddingBag(*vectors.shape, mode="sum", padding_idx=unknown)
        self.vectors.weight.data.copy_(torch.from_numpy(vectors))[unknown] = 0
        self.turn_weights = nn.Parameter(torch.tensor([1.0] + [0.5] * (TURNS - 1)))
        self.scale = nn.Parameter(torch.tensor(10.0))  # of cosines, before the softmax
        self.nothing = nn.Parameter(torch.tensor(0.3))  # the cosine that a fact must pass to fit
        self.tokenizer = tokenizer
        self.known: dict[str, list[int]] = {}

    def forward(self, examples: list[Example]) -> dict[str, torch.Tensor]:
        facts, example_of, fact_of = flat_pairs(examples)
        ages = [range(min(len(example.turns), TURNS)) for example in examples]
        pieces = [[self._pieces(e.turns[-1 - age]) for age in seen] for e, seen in zip(examples, ages, strict=True)]
        weights = self.turn_weights[[age for turns in pieces for age, turn in enumerate(turns) for _ in turn]]
        queries = self._sums([list(chain.from_iterable(turns)) for turns in pieces], weights)
        cosines = (queries[example_of] * self._sums([self._pieces(fact) for fact in facts])[fact_of]).sum(dim=1)
        return {"loss": in_card_loss(self.scale * cosines, self.scale * self.nothing, examples)}

    def _pieces(self, line: str) -> list[int]:
        if line not in self.known:
            self.known[line] = self.tokenizer.encode(line, add_special_tokens=False).ids[:PIECES]
        return self.known[line]

    def _sums(self, texts: Sequence[Sequence[int]], weights: torch.Tensor | None = None) -> torch.Tensor:
        lengths = torch.tensor([len(text) for text in texts])
        flat = torch.tensor(list(chain.from_iterable(texts)))
        return normalize(self.vectors(flat, lengths.cumsum(0) - lengths, per_sample_weights=weights), dim=1)


@torch.inference_mode()
def first_vectors(encoder: SentenceTransformer, counts: np.ndarray) -> np.ndarray:
    """A vector for each piece of the encoder's vocabulary, which occurs ``counts`` times in the examples.

    Shape (pieces, ``DIMENSIONS``), of mean square length 1.
    """
    begin, *_, end = encoder.tokenizer("").input_ids
    alone = [
        encoder({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["sentence_embedding"]
        for part in torch.arange(len(counts)).split(512)
        for ids in [torch.stack([torch.full_like(part, begin), part, torch.full_like(part, end)], dim=1)]
    ]
    components = PCA(DIMENSIONS, random_state=SEED).fit_transform(torch.cat(alone).numpy())
    vectors = components * (FREQUENT / (FREQUENT + counts / counts.sum()))[:, None]
    return vectors / np.sqrt((vectors**2).sum(axis=1).mean())


def save(out: Path, network: StaticNetwork) -> None:
    """Write the folder that ``StaticRetriever`` opens; vectors are rounded to 8 bits."""
    vectors = network.vectors.weight.detach()
    scales = vectors.abs().amax(dim=1).clamp(min=1e-8) / 127
    tensors = {
        "vectors": (vectors / scales[:, None]).round().to(torch.int8),
        "scales": scales,
        "turn_weights": network.turn_weights.detach().contiguous(),
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / WEIGHTS)
    network.tokenizer.save(str(out / TOKENIZER))


def fit(network: StaticNetwork, examples: Sequence[Example], epochs: float, rate: float) -> None:
    """Learn from ``examples``, beginning with the learning rate ``rate``; nothing is saved."""
    settings = TrainingArguments(
        output_dir="saves/retriever", num_train_epochs=epochs, per_device_train_batch_size=BATCH, use_cpu=True,
        max_grad_norm=0.0, remove_unused_columns=False, dataloader_pin_memory=False, seed=SEED, logging_steps=50,
        save_strategy="no", report_to="none",
    )  # fmt: skip
    few = [network.turn_weights, network.scale, network.nothing]
    groups = [{"params": network.vectors.parameters(), "lr": rate}, {"params": few, "lr": 5 * rate}]
    optimizer = torch.optim.Adam(groups)
    steps = int(epochs * len(examples) / BATCH) + 1
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    Trainer(network, settings, train_dataset=list(examples), data_collator=lambda rows: {"examples": rows},
            optimizers=(optimizer, schedule)).train()  # fmt: skip


def train(examples: Path, encoder: str, out: Path, epochs: float) -> dict:
    """Train, write the model to ``out`` and return how. Raises ValueError if the input cannot be used."""
    learned = read_examples(examples)
    teacher = open_encoder(encoder, device="cpu")
    print(f"{len(learned):,} examples", file=sys.stderr, flush=True)
    tokenizer = teacher.tokenizer.backend_tokenizer
    if tokenizer.token_to_id(UNKNOWN) is None:
        raise ValueError(f"The tokenizer of {encoder} has no {UNKNOWN}; give one of BERT's kind, such as {ENCODER}.")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lines = [line for example in learned for line in chain(example.turns, example.card)]
    found = Counter(chain.from_iterable(e.ids for e in tokenizer.encode_batch_fast(lines, add_special_tokens=False)))
    vectors = first_vectors(teacher, np.array([found[number] for number in range(tokenizer.get_vocab_size())]))
    network = StaticNetwork(vectors, tokenizer)
    fit(network, learned, epochs, 2e-3)
    fit(network, labelled_one_by_one(learned), 2 * epochs, 5e-4)
    save(out, network)
    return write_record(out, encoder, epochs, examples)


if __name__ == "__main__":
    run(train, "small", epochs=EPOCHS)
