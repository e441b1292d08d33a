"""The loss that all learned retrievers share."""

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from retrieval.training.examples import Example


def in_card_loss(logits: torch.Tensor, nothing: torch.Tensor, examples: Sequence[Example]) -> torch.Tensor:
    """Cross-entropy of a softmax over each card and "nothing fits", all facts to find being equally right; the mean by
    weight.

    The other facts of the card are the negatives that retrieval has to tell them from; where there is none to find,
    "nothing fits" is right. ``logits``: of the facts of the first example, then of the second, ..., shape (facts of all
    cards,); ``nothing``: of "nothing fits", shape ().
    """
    rows = torch.split(logits, [len(example.card) for example in examples])
    rows = [torch.cat([nothing.reshape(1), row]) for row in rows]
    logs = pad_sequence(rows, batch_first=True, padding_value=-torch.inf).log_softmax(dim=1)
    right = [[1 + fact for fact in example.facts] or [0] for example in examples]
    losses = torch.stack([-logs[number, columns].mean() for number, columns in enumerate(right)])
    weights = torch.tensor([example.weight for example in examples], device=losses.device)
    return (losses * weights).sum() / weights.sum()


def flat_pairs(examples: Sequence[Example]) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """The distinct facts of the cards; and for each fact of each card the number of its example, and of the fact."""
    number_of: dict[str, int] = {}
    facts = [number_of.setdefault(fact, len(number_of)) for example in examples for fact in example.card]
    examples_of = [number for number, example in enumerate(examples) for _ in example.card]
    return list(number_of), torch.tensor(examples_of), torch.tensor(facts)
