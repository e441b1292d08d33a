"""What every grounding labeller has in common: conversations in, for each turn the facts that it uses out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from data_prep.reader import Conversation

# For each turn of a conversation: the facts of its speaker's card that it uses (numbers from 0), each with the numbers
# of the sentences that use it, in order.
TurnLabels = list[dict[int, tuple[int, ...]]]


class Labeller(ABC):
    """Says which facts of its speaker's own card each turn uses, given the turns before it."""

    @abstractmethod
    def label(self, conversations: Sequence[Conversation]) -> list[TurnLabels]:
        """The labels of each conversation, one dictionary per turn."""
