"""A labeller's folder: weights as 8-bit integers with one scale per row, and a tokenizer of the words that occur.

``config.json`` and ``tokenizer.json`` are Hugging Face's formats; ``labeller.json`` holds the threshold and how the
labeller was made.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import BertConfig

from data_prep.labellers.network import GroundingNetwork
from data_prep.labellers.windows import CONTROL


def save_labeller(folder: Path, network: GroundingNetwork, tokenizer: Tokenizer, record: dict) -> None:
    """Write the folder; matrices are rounded to 8 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, tensor in network.state_dict().items():
        if tensor.dim() == 2 and min(tensor.shape) > 1:
            scale = tensor.abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / 127
            tensors[name] = (tensor / scale).round().to(torch.int8)
            tensors[f"{name}.scale"] = scale
        else:
            tensors[name] = tensor.contiguous()
    save_file(tensors, folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    network.encoder.config.save_pretrained(folder)
    (folder / "labeller.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def load_labeller(folder: Path) -> tuple[GroundingNetwork, Tokenizer, dict]:
    """Network, tokenizer and record."""
    tensors = load_file(folder / "model.safetensors")
    scales = {name: tensors.pop(name) for name in [*tensors] if name.endswith(".scale")}
    for name, scale in scales.items():
        matrix = name.removesuffix(".scale")
        tensors[matrix] = tensors[matrix].float() * scale
    network = GroundingNetwork.untrained(BertConfig.from_pretrained(folder))
    network.load_state_dict(tensors)
    record = json.loads((folder / "labeller.json").read_text(encoding="utf-8"))
    return network.eval(), Tokenizer.from_file(str(folder / "tokenizer.json")), record


def prune_vocabulary(network: GroundingNetwork, tokenizer: Tokenizer, texts: Iterable[str], least: int) -> Tokenizer:
    """Keep word pieces that occur at least ``least`` times in ``texts``, single characters, and control tokens.

    Takes the rows of the others out of the network's embedding; a word that loses its piece is cut into smaller ones.
    Returns the smaller tokenizer.
    """
    counts: Counter[int] = Counter()
    for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
        counts.update(encoding.ids)
    parts = json.loads(tokenizer.to_str())
    control = {token["content"] for token in parts["added_tokens"]} | set(CONTROL)
    kept = {
        piece: number
        for piece, number in sorted(parts["model"]["vocab"].items(), key=lambda item: item[1])
        if counts[number] >= least or piece in control or len(piece.removeprefix("##")) == 1
    }
    renumbered = {piece: new for new, piece in enumerate(kept)}
    parts["model"]["vocab"] = renumbered
    for token in parts["added_tokens"]:
        token["id"] = renumbered[token["content"]]
    parts["post_processor"] = parts["truncation"] = parts["padding"] = None
    old = network.encoder.embeddings.word_embeddings
    embeddings = torch.nn.Embedding(len(kept), old.embedding_dim, padding_idx=renumbered["[PAD]"])
    embeddings.weight.data.copy_(old.weight.data[list(kept.values())])
    network.encoder.embeddings.word_embeddings = embeddings
    network.encoder.config.vocab_size = len(kept)
    return Tokenizer.from_str(json.dumps(parts))
