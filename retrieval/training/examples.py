"""What retrievers learn from: messages, and which facts of the card answer them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Example:
    """``turns``: up to the message, the user's first; ``facts``: numbers, counted from 0, of those to find, if any."""

    id: str
    card: tuple[str, ...]
    turns: tuple[str, ...]
    facts: tuple[int, ...]
    weight: float


def read_examples(path: Path) -> list[Example]:
    """JSON Lines as ``data_prep.retrieval_examples`` writes them.

    Raises ValueError that names file and line, if it cannot be read.
    """
    examples = []
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                card, turns, facts = (tuple(row[name]) for name in ("card", "turns", "facts"))
                if not turns or not set(facts) < set(range(len(card))):
                    raise ValueError("facts must be some of the card's, and there must be a turn")
                examples.append(Example(row["id"], card, turns, facts, float(row["weight"])))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}); `make retriever` writes it.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}, line {len(examples) + 1} is no example ({error!r}).") from None
    if not examples:
        raise ValueError(f"{path} holds no example.")
    return examples


def labelled_one_by_one(examples: Iterable[Example]) -> list[Example]:
    """Those that weigh more than 1: their facts are all that are relevant, not only those that the reply uses."""
    return [example for example in examples if example.weight > 1]
