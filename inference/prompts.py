"""What a persona's prompt holds: the system line, the turns with the facts found for each, and what they point at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from retrieval.base import Retriever
from retrieval.dialogue import Dialogue, Hit
from retrieval.prompt import SYSTEM_PROMPTS, fact_lines, render
from retrieval.store import FactStore
from retrieval.text import DOCUMENTS, mark


@dataclass(frozen=True)
class Citation:
    """A fact with its mark (``[P3]``) and its retrieval score; or a chunk of a document, ``[D3]``, with its source.

    ``score`` is None for a fact that was not retrieved, but is cited all the same.
    """

    mark: str
    fact: str
    score: float | None
    source: str | None = None


@dataclass(frozen=True)
class Prompt:
    """A prompt in its parts. ``turns`` go user, assistant, ..., user; each user turn ends with its facts.

    ``said``: the turns without facts. ``found``: for each user turn, what is shown in it. ``card``: made harmless.
    ``recalled``: earlier turns that were looked up again; they stand before the last message.
    """

    card: list[str]
    system: str
    turns: list[str]
    said: list[str]
    found: list[list[Citation]]
    recalled: str = ""

    @property
    def messages(self) -> list[dict]:
        """The prompt in OpenAI's form."""
        roles = ("user", "assistant")
        turns = [{"role": roles[number % 2], "content": turn} for number, turn in enumerate(self.turns)]
        if self.recalled:
            turns[-1]["content"] = f"{self.recalled}\n\n{turns[-1]['content']}"
        return [{"role": "system", "content": self.system}, *turns] if self.system else turns

    @property
    def retrieved(self) -> list[Citation]:
        """What was found for the last message."""
        return self.found[-1]

    def shown(self) -> dict[str, Citation]:
        """Everything that stands in the prompt, by mark: what a mark of the reply can point at."""
        return {citation.mark: citation for found in self.found for citation in found}

    def with_system(self, system: str) -> "Prompt":
        """The same under another system line."""
        return replace(self, system=system)

    def without_first(self, exchanges: int) -> "Prompt":
        """The same without its oldest ``exchanges``; what is left stays as it was."""
        turns = 2 * exchanges
        return replace(self, turns=self.turns[turns:], said=self.said[turns:], found=self.found[exchanges:])


class PromptBuilder:
    """Builds prompts with ``retriever``, and shows chunks of ``documents`` below the facts, where they fit."""

    def __init__(self, retriever: Retriever, documents: FactStore | None = None):
        self.retriever = retriever
        self.documents = documents

    def build(self, said: Sequence[str], card: Sequence[str]) -> Prompt:
        """The prompt for the last of ``said``, which go user, assistant, ..., user; earlier replies keep their marks.

        ``card``: the facts in their order. Raises ValueError if the last message or the card is empty.
        """
        if not said[-1].strip():
            raise ValueError("The message is empty; ask something.")
        if not any(fact.strip() for fact in card):
            raise ValueError("The card is empty; give at least one fact.")
        dialogue = Dialogue(list(card), list(said))
        [hits] = self.retriever.retrieve([dialogue])
        chunks = [self._chunks(dialogue.turns[: end + 1]) for end in range(0, len(said), 2)]
        passages = [fact_lines(self.documents, some, DOCUMENTS) if some else "" for some in chunks]
        facts = [[Citation(mark(hit.index), dialogue.card[hit.index], round(hit.score, 3)) for hit in h] for h in hits]
        found = [some + [self._passage(hit) for hit in more] for some, more in zip(facts, chunks, strict=True)]
        system = SYSTEM_PROMPTS[self.retriever.settings.language]
        return Prompt(dialogue.card, system, render(dialogue, hits, passages), dialogue.turns, found)

    def _chunks(self, turns: Sequence[str]) -> list[Hit]:
        return self.documents.retrieve(turns) if self.documents else []

    def _passage(self, hit: Hit) -> Citation:
        store = self.documents
        source = store.sources[hit.index] if store.sources else None
        return Citation(mark(hit.index, DOCUMENTS), store[hit.index], round(hit.score, 3), source)
