"""Citations that a labeller vouches for: after each sentence stand the marks of the facts that it uses, no others.

The labeller is the one that marked the training data (``data_prep.labellers``); how often it is right is in the README.
"""

import re
from collections.abc import Sequence

from data_prep.labellers.base import Labeller
from data_prep.labellers.windows import CONTEXT
from data_prep.marks import add_marks
from data_prep.reader import Conversation, Turn
from inference.citations import MarkFilter, PlacedCitation
from inference.prompts import Citation, Prompt
from retrieval.sentences import split_sentences
from retrieval.text import mark, strip_marks

# The beginning of a sentence of which so much is known that the one before ends there, whatever follows: "in the U.S.
# I ..." is two, "in the U.S. Iceland ..." one.
_BEGUN = re.compile(r"[A-Za-z]*[^A-Za-z]")


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
        # The labeller sees so many turns; those of a long conversation before them would only cost time.
        self._turns = [Turn(number % 2, strip_marks(turn)) for number, turn in enumerate(prompt.said)][-CONTEXT:]
        self._facts = {mark(i): shown.get(mark(i), Citation(mark(i), fact, None)) for i, fact in enumerate(prompt.card)}
        self._documents = {m: citation for m, citation in shown.items() if m not in self._facts}
        self._without_card_marks = MarkFilter(self._documents)
        self._placing = MarkFilter(self._facts | self._documents)
        self._reply, self._held = "", ""

    @property
    def placed(self) -> list[PlacedCitation]:
        """The marks given out, in order."""
        return self._placing.placed

    def feed(self, piece: str) -> str:
        return self._placing.feed(self._judged(self._without_card_marks.feed(piece)))

    def end(self) -> str:
        rest = self._judged(self._without_card_marks.end())
        rest += "".join(map(self._judge, split_sentences(self._held)))
        return self._placing.feed(rest) + self._placing.end()

    def _judged(self, text: str) -> str:
        *whole, self._held = split_sentences(self._held + text)
        if whole and not _BEGUN.match(self._held):
            self._held = whole.pop() + self._held
        return "".join(map(self._judge, whole))

    def _judge(self, sentence: str) -> str:
        self._reply += sentence
        if not re.search(r"\w", strip_marks(sentence)):
            return sentence
        said = strip_marks(self._reply)
        [labels] = self._labeller.label([self._conversation(said)])
        place = len(split_sentences(said)) - 1
        return add_marks(sentence, {fact: [0] for fact, places in labels[-1].items() if place in places})

    def _conversation(self, said: str) -> Conversation:
        cards: tuple[Sequence[str], Sequence[str]] = ([], self._card)
        return Conversation("chat", 0, cards, [*self._turns, Turn(1, said)])
