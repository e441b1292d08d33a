"""From a conversation and a card to the persona's reply: retrieval, memory, layout, the backend, true marks.

Both the gateway and the chat answer through it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from data_prep.labellers.base import Labeller
from inference.backend import Backend
from inference.citations import MarkFilter, PlacedCitation, QuoteFilter, StopFilter, TextFilter
from inference.layout import Layout
from inference.memory import Memory
from inference.prompts import Citation, Prompt, PromptBuilder
from inference.verification import VerifyingFilter
from retrieval.text import neutralise_control_tokens

REPLY_TOKENS = 256  # of a reply at most, if its length was not asked for
LONG = 20_000  # characters of a conversation, from which on others must not wait for its prompt
CITATIONS = ("model", "verified")


@dataclass(frozen=True)
class Question:
    """What is asked. ``said``: user, assistant, ..., user. ``card``: None for no persona, then nothing is retrieved.

    ``system``: of the client's own, below ours. ``options``: for the backend (temperature, top_p, max_tokens, ...).
    ``citations``: the ``model``'s own marks, or those that the labeller has ``verified``.
    """

    said: Sequence[str]
    card: Sequence[str] | None
    system: str = ""
    options: dict = field(default_factory=dict)
    stop: Sequence[str] = ()
    citations: str = "model"
    memory: str = "drop"
    layout: Layout = field(default_factory=Layout)


@dataclass(frozen=True)
class Prepared:
    """A question made ready: what is sent to the backend, and what the reply's marks can point at."""

    question: Question
    prompt: Prompt
    messages: list[dict]
    options: dict
    tokens: int


@dataclass(frozen=True)
class Answer:
    """A reply. ``usage``: tokens in OpenAI's form, with ``estimated`` if neither backend nor tokenizer counted them."""

    text: str
    citations: list[PlacedCitation]
    retrieved: list[Citation]
    finish_reason: str
    usage: dict


class Responder:
    """``labeller`` is called once, when verified citations are first asked for: it takes seconds to open."""

    def __init__(self, prompts: PromptBuilder, backend: Backend, memory: Memory, labeller: Callable[[], Labeller]):
        self.prompts, self.backend, self.memory = prompts, backend, memory
        self._open_labeller = labeller
        self._labeller: Labeller | None = None
        self._labelling = asyncio.Lock()

    async def prepare(self, question: Question) -> Prepared:
        """Retrieve, and make the prompt fit. Raises ValueError (also TooLong) for what cannot be asked."""
        retriever = self.prompts.retriever
        long = sum(map(len, question.said)) > LONG
        if retriever.uses_all_cores or long:
            prompt = await asyncio.to_thread(self._prompt, question)
        else:
            prompt = self._prompt(question)
        if question.system:
            system = neutralise_control_tokens(question.system)
            prompt = prompt.with_system("\n\n".join(filter(None, [prompt.system, system])))
        longest = self.memory.max_length
        asked = question.options.get("max_tokens") or REPLY_TOKENS
        language = retriever.settings.language

        def laid_out(some: Prompt) -> list[dict]:
            return question.layout.messages(some, language)

        room = longest - min(asked, longest // 2)
        if long:
            kept, noted = await asyncio.to_thread(self.memory.fit, prompt, question.memory, room, laid_out)
        else:
            kept, noted = self.memory.fit(prompt, question.memory, room, laid_out)
        prompt = await self.memory.remember(prompt, kept, question.memory, self._ask) if noted else kept
        messages = laid_out(prompt)
        tokens = self.memory.counter.prompt(messages)
        options = question.options | {"max_tokens": max(1, min(asked, longest - tokens))}
        if question.citations == "verified" and question.card is not None:
            await self._load_labeller()
        return Prepared(question, prompt, messages, options, tokens)

    async def answer(self, prepared: Prepared) -> Answer:
        """The reply as a whole. Raises BackendError."""
        whole = await self.backend.complete(prepared.messages, prepared.options)
        reply = _Reply(self, prepared)
        text = await reply.feed(whole.text)
        return reply.finish(text + await reply.end(), whole.finish_reason, whole.usage)

    async def stream(self, prepared: Prepared) -> AsyncIterator[str | Answer]:
        """The reply in pieces of text, and at last the whole. Raises BackendError."""
        reply, text, finish_reason, usage = _Reply(self, prepared), "", None, None
        async with aclosing(self.backend.stream(prepared.messages, prepared.options)) as pieces:
            async for piece in pieces:
                finish_reason, usage = piece.finish_reason or finish_reason, piece.usage or usage
                if shown := await reply.feed(piece.text):
                    text += shown
                    yield shown
                if reply.stopped:
                    finish_reason = "stop"
                    break
        if shown := await reply.end():
            text += shown
            yield shown
        yield reply.finish(text, finish_reason, usage)

    def _prompt(self, question: Question) -> Prompt:
        if question.card is None:
            said = [neutralise_control_tokens(turn).strip() for turn in question.said]
            return Prompt([], "", said, said, [[] for _ in said[::2]])
        return self.prompts.build(question.said, question.card)

    async def _ask(self, messages: list[dict], max_tokens: int) -> str:
        return (await self.backend.complete(messages, {"temperature": 0, "max_tokens": max_tokens})).text

    async def _load_labeller(self) -> None:
        async with self._labelling:
            if self._labeller is None:
                self._labeller = await asyncio.to_thread(self._open_labeller)

    def filters(self, prepared: Prepared) -> list[TextFilter]:
        """What the model's text goes through, in order; the last one places the marks."""
        question, filters = prepared.question, []
        layout = question.layout
        if layout.stops:
            filters.append(StopFilter(layout.stops))
        if layout.quote or layout.history == "block":
            filters.append(QuoteFilter(layout.name))
        if question.stop:
            filters.append(StopFilter(list(question.stop)))
        if question.card is not None:
            verified = question.citations == "verified"
            shown = prepared.prompt.shown()
            filters.append(VerifyingFilter(self._labeller, prepared.prompt) if verified else MarkFilter(shown))
        return filters


class _Reply:
    """One reply on its way through the filters."""

    def __init__(self, responder: Responder, prepared: Prepared):
        self._prepared = prepared
        self._counter = responder.memory.counter
        self._filters = responder.filters(prepared)
        self._slow = prepared.question.citations == "verified" and prepared.question.card is not None
        self._raw = ""

    @property
    def stopped(self) -> bool:
        return any(one.done for one in self._filters)

    async def feed(self, piece: str) -> str:
        piece = _paired(piece)
        self._raw += piece
        # A labeller's network takes tens of milliseconds, in which others must be served.
        return await asyncio.to_thread(self._feed, piece) if self._slow else self._feed(piece)

    async def end(self) -> str:
        return await asyncio.to_thread(self._end) if self._slow else self._end()

    def _feed(self, piece: str) -> str:
        for one in self._filters:
            piece = one.feed(piece)
        return piece

    def _end(self) -> str:
        rest = ""
        for one in self._filters:
            rest = (one.feed(rest) if rest else "") + one.end()
        return rest

    def finish(self, text: str, finish_reason: str | None, usage: dict | None) -> Answer:
        prepared, counter = self._prepared, self._counter
        if usage is None:
            prompt, reply = prepared.tokens, counter.count(self._raw) if self._raw else 0
            usage = {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}
            if not counter.exact:
                usage["estimated"] = True
            elif reply >= prepared.options["max_tokens"]:
                finish_reason = "length"  # LLaMA-Factory says `stop` at the end of every stream
        placing = self._filters[-1] if prepared.question.card is not None else None
        citations = placing.placed if placing else []
        reason = "stop" if self.stopped else finish_reason or "stop"
        return Answer(text, citations, prepared.prompt.retrieved, reason, usage)


def _paired(text: str) -> str:
    """``text`` with ``�`` for each half of a surrogate pair, which JSON can hold and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
