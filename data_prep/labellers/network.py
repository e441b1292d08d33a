"""The network of the ``encoder`` labeller: a BERT-like encoder over a window, and a score for each (sentence, fact)."""

import torch
from torch import nn
from transformers import BertConfig, BertModel

HIDDEN = 256


class GroundingNetwork(nn.Module):
    """Logits of "this sentence uses this fact" for the pairs of a batch from ``windows.collate``.

    Sentence and fact are the means of their tokens' states after the encoder, in which they have seen each other, the
    rest of the card and the turns before; the head compares them as InferSent does (Conneau et al. 2017): u, v,
    u * v and |u - v|.
    """

    def __init__(self, encoder: BertModel):
        super().__init__()
        self.encoder = encoder
        size = encoder.config.hidden_size
        self.head = nn.Sequential(nn.Linear(4 * size, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 1))

    @classmethod
    def untrained(cls, config: BertConfig) -> "GroundingNetwork":
        return cls(BertModel(config, add_pooling_layer=False))

    def forward(self, ids, mask, facts, sentences, pairs) -> torch.Tensor:
        """Logits, shape (pairs,)."""
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        u = _means(states, sentences)[pairs[:, 0]]
        v = _means(states, facts)[pairs[:, 1]]
        return self.head(torch.cat([u, v, u * v, (u - v).abs()], dim=1)).squeeze(1).float()


def _means(states: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
    """Mean state of each span (window, first, past the last): shape (spans, size). Empty spans give zeros."""
    sums = nn.functional.pad(states.cumsum(dim=1), (0, 0, 1, 0))
    lengths = (spans[:, 2] - spans[:, 1]).clamp(min=1).unsqueeze(1)
    return (sums[spans[:, 0], spans[:, 2]] - sums[spans[:, 0], spans[:, 1]]) / lengths


def reply_logits(logits: torch.Tensor, groups: torch.Tensor, count: int) -> torch.Tensor:
    """Logits of (reply, fact) pairs, each its best sentence's: shape (count,). ``groups``: the pair of each logit."""
    lowest = torch.full((count,), torch.finfo(logits.dtype).min, dtype=logits.dtype, device=logits.device)
    return lowest.scatter_reduce(0, groups, logits, "amax")
