"""What retrieval and prompt work on: a card, the turns so far, and the facts found for each user turn."""

from dataclasses import dataclass

from retrieval.text import neutralise, neutralise_control_tokens


@dataclass(frozen=True)
class Dialogue:
    """A responder's card and the turns so far: user, assistant, user, ... (the user speaks first).

    Card and user turns are neutralised on the way in, assistant turns keep their marks; a fact becomes one line.
    """

    card: list[str]
    turns: list[str]

    def __post_init__(self):
        cleaners = (neutralise, neutralise_control_tokens)
        object.__setattr__(self, "card", [neutralise(" ".join(fact.split())) for fact in self.card])
        object.__setattr__(self, "turns", [cleaners[i % 2](turn).strip() for i, turn in enumerate(self.turns)])


@dataclass(frozen=True)
class Hit:
    """One retrieved fact: its number in the card (counted from 0) and its score (higher is better)."""

    index: int
    score: float
