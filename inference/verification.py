"""Citations that a labeller vouches for: after each sentence stand the marks of the facts that it uses, no others.

The labeller is the one that marked the training data (``data_prep.labellers``); how often it is right is in the README.
"""

from collections.abc import Sequence

from data_prep.labellers.base import Labeller
from data_prep.marks import add_marks
from data_prep.reader import Conversation, Turn
from inference.citations import MarkFilter, PlacedCitation
from inference.prompts import Citation, Prompt
from retrieval.sentences import split_sentences
from retrieval.text import mark


class VerifyingFilter:
    """Takes the model's card marks out, and puts in the labeller's, sentence by sentence.

    A sentence is judged by the reply up to it, so that a streamed reply gets the marks of one that comes whole. Marks
    of documents stay as the model set them: the labeller knows cards only.
    """

    done = False

    def __init__(self, labeller: Labeller, prompt: Prompt):
        shown = prompt.shown()
        self._labeller = labeller
        self._card = prompt.card
        self._turns = [Turn(number % 2, turn) for number, turn in enumerate(prompt.said)]
        self._facts = {mark(i): shown.get(mark(i), Citation(mark(i), fact, None)) for i, fact in enumerate(prompt.card)}
        self._documents = {m: citation for m, citation in shown.items() if m not in self._facts}
        self._without_card_marks = MarkFilter(self._documents)
        self._placing = MarkFilter(self._facts | self._documents)
        self._reply, self._held = "", ""
        self._sentences = 0

    @property
    def placed(self) -> list[PlacedCitation]:
        """The marks given out, in order."""
        return self._placing.placed

    def feed(self, piece: str) -> str:
        return self._placing.feed(self._judged(self._without_card_marks.feed(piece)))

    def end(self) -> str:
        rest = self._judged(self._without_card_marks.end())
        rest += self._judge(self._held) if self._held.strip() else self._held
        return self._placing.feed(rest) + self._placing.end()

    def _judged(self, text: str) -> str:
        *whole, self._held = split_sentences(self._held + text)
        return "".join(map(self._judge, whole))

    def _judge(self, sentence: str) -> str:
        self._reply += sentence
        [labels] = self._labeller.label([self._conversation()])
        used = {fact: [0] for fact, places in labels[-1].items() if self._sentences in places}
        self._sentences += 1
        return add_marks(sentence, used)

    def _conversation(self) -> Conversation:
        turns = [*self._turns, Turn(1, self._reply.rstrip())]
        cards: tuple[Sequence[str], Sequence[str]] = ([], self._card)
        return Conversation("chat", 0, cards, turns)
