"""``POST /v1/chat/completions``: whose card, which turns, and the answer in OpenAI's form, whole or streamed."""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass

from inference.gateway.errors import KNOWN, RequestError, event
from inference.gateway.repair import repair
from inference.gateway.schemas import MESSAGES, ChatRequest
from inference.gateway.store import Store, StoredConversation, Taken, Turn
from inference.gateway.streams import all_of, chunk, merged
from inference.layout import Layout
from inference.memory import TooLong
from inference.responder import Answer, Prepared, Question, Responder

logger = logging.getLogger("inference.gateway")
MODEL = "persona/"  # before a card's id: the name of a model for clients that can send nothing else
CONVERSATIONS = 10_000  # of one key
OURS = frozenset(("persona", "conversation", "citations", "memory", "history", "quote"))
# Read by the gateway itself, whatever the backend takes.
READ = frozenset(("model", "messages", "stream", "stream_options", "n", "stop", "max_tokens", "max_completion_tokens"))


@dataclass(frozen=True)
class Defaults:
    """What a request gets that does not ask otherwise."""

    citations: str = "model"
    memory: str = "drop"
    log_prompts: bool = False


@dataclass(frozen=True)
class _Card:
    """Whose reply it is. ``facts``: None for no persona."""

    id: str | None
    name: str
    facts: list[str] | None


class Completions:
    """Answers requests; one instance serves all."""

    def __init__(self, responder: Responder, store: Store, defaults: Defaults):
        self._responder, self._store, self._defaults = responder, store, defaults
        self._busy: set[tuple[str, str]] = set()

    async def answer(self, request: ChatRequest, owner: str, header: str | None) -> dict:
        """The whole answer. Raises RequestError, TooLong or BackendError."""
        async with self._asked(request, owner, header) as asked:
            answers = await all_of([self._responder.answer(asked.prepared) for _ in range(request.n or 1)])
            await self._remember(asked, owner, answers)
        choices = [
            {"index": n, "message": {"role": "assistant", "content": a.text}, "finish_reason": a.finish_reason}
            for n, a in enumerate(answers)
        ]
        return {**_head(request, "chat.completion"), "choices": choices, **asked.extras(answers)}

    async def stream(self, request: ChatRequest, owner: str, header: str | None) -> AsyncIterator[str]:
        """The answer as server-sent events. Until the first one, errors are raised as ``answer`` raises them; after it,
        they are events."""
        async with AsyncExitStack() as stack:
            asked = await stack.enter_async_context(self._asked(request, owner, header))
            replies = [self._responder.stream(asked.prepared) for _ in range(request.n or 1)]
            pieces = await stack.enter_async_context(aclosing(merged(replies)))
            first = await anext(pieces)
            head = _head(request, "chat.completion.chunk")
            for index in range(len(replies)):
                yield chunk(head, index, {"role": "assistant", "content": ""})
            try:
                async for line in self._events(request, owner, asked, head, first, pieces):
                    yield line
            except Exception as error:
                if not isinstance(error, KNOWN):
                    logger.exception("A fault in the middle of a stream")
                yield event(error)
                return
        yield "data: [DONE]\n\n"

    async def _events(
        self, request: ChatRequest, owner: str, asked: "_Asked", head: dict, first: tuple, pieces: AsyncIterator[tuple]
    ) -> AsyncIterator[str]:
        answers: dict[int, Answer] = {}

        async def all_pieces() -> AsyncIterator[tuple]:
            yield first
            async for piece in pieces:
                yield piece

        replies = request.n or 1
        async for index, piece in all_pieces():
            if isinstance(piece, str):
                yield chunk(head, index, {"content": piece})
                continue
            answers[index] = piece
            if len(answers) < replies:
                yield chunk(head, index, {}, piece.finish_reason)
        last = index
        ordered = [answers[n] for n in range(replies)]
        await self._remember(asked, owner, ordered)  # before the client hears that all is well
        extras = asked.extras(ordered)
        apart = request.stream_options is not None and request.stream_options.include_usage
        yield chunk(head, last, {}, answers[last].finish_reason, {} if apart else extras)
        if apart:
            yield f"data: {json.dumps({**head, 'choices': [], **extras})}\n\n"

    @asynccontextmanager
    async def _asked(self, request: ChatRequest, owner: str, header: str | None) -> AsyncIterator["_Asked"]:
        """The request made ready; its conversation, if it has one, is kept from other requests meanwhile."""
        key = (owner, request.conversation)
        if request.conversation is not None:
            if request.n and request.n > 1:
                raise RequestError(400, "A conversation goes on with one reply; leave n out.", "n")
            if key in self._busy:
                sentence = f"The conversation {request.conversation} is waiting for a reply; send this one after it."
                raise RequestError(409, sentence, "conversation")
            self._busy.add(key)
        try:
            card = self._card(request, owner, header)
            conversation = await self._conversation(request, owner, card)
            question, talk = self._question(request, card, conversation)
            try:
                prepared = await self._responder.prepare(question)
            except TooLong:
                raise
            except ValueError as error:
                raise RequestError(400, str(error), "messages") from None
            if self._defaults.log_prompts:
                logger.info("%s", json.dumps(prepared.messages, ensure_ascii=False))
            yield _Asked(prepared, conversation, talk, self._ignored(request))
        finally:
            if request.conversation is not None:
                self._busy.discard(key)

    def _card(self, request: ChatRequest, owner: str, header: str | None) -> _Card:
        if isinstance(request.persona, list):
            return _Card(None, "Persona", request.persona)
        of_model = request.model.removeprefix(MODEL) if request.model.startswith(MODEL) else None
        chosen = request.persona or header or of_model
        if chosen is None:
            return _Card(None, "Assistant", None)
        found = self._store.persona(owner, chosen)  # sooner read than handed to a thread
        if found is None:
            raise RequestError(404, f"There is no card {chosen!r}; PUT it to /v1/personas/{chosen}.", "persona")
        return _Card(chosen, found.name or "Persona", found.facts)

    async def _conversation(self, request: ChatRequest, owner: str, card: _Card) -> StoredConversation | None:
        if request.conversation is None:
            return None
        found = await asyncio.to_thread(self._store.conversation, owner, request.conversation)
        if found is None:
            return StoredConversation(request.conversation, card.id, card.facts or [], [])
        if len(found.turns) >= MESSAGES:
            sentence = f"The conversation {request.conversation} has {MESSAGES:,} messages; begin another."
            raise RequestError(409, sentence, "conversation")
        # A card that was edited since is no other card; the conversation goes on with the facts that it began with.
        if card.facts is not None and (card.id != found.persona or (card.id is None and card.facts != found.facts)):
            sentence = f"The conversation {request.conversation} began with another card; begin another conversation."
            raise RequestError(409, sentence, "conversation")
        return found

    def _question(
        self, request: ChatRequest, card: _Card, conversation: StoredConversation | None
    ) -> tuple[Question, list[str]]:
        talk = repair(request.messages)
        said, facts = talk.said, card.facts
        if conversation is not None:
            said = [turn.content for turn in conversation.turns] + said
            facts = conversation.facts or None
        question = Question(
            said, facts, talk.system, self._options(request), _stops(request),
            request.citations or self._defaults.citations, request.memory or self._defaults.memory,
            Layout(request.history or "turns", bool(request.quote), card.name),
        )  # fmt: skip
        return question, talk.said

    def _options(self, request: ChatRequest) -> dict:
        """What goes on to the backend, which takes of it what it knows; see ``Backend``."""
        if request.tools:
            raise RequestError(400, "A persona calls no tools; leave `tools` out.", "tools")
        if request.logprobs:
            raise RequestError(400, "A persona's words come without logprobs; leave them out.", "logprobs")
        formatted = request.response_format is not None and request.response_format.get("type") != "text"
        if self._responder.backend.kind == "llamafactory" and formatted:
            raise RequestError(400, "LLaMA-Factory's API has no response_format; leave it out.", "response_format")
        given = request.model_dump(exclude_none=True, exclude=READ | OURS)
        if request.model_extra:
            given |= request.model_extra
        if (longest := request.max_completion_tokens or request.max_tokens) is not None:
            given["max_tokens"] = longest
        if given.get("top_p") == 0:  # no word is left then, where what is meant is: the likeliest
            given |= {"temperature": 0.0}
            del given["top_p"]
        if request.stop:
            given["stop"] = _stops(request)
        return given

    def _ignored(self, request: ChatRequest) -> list[str]:
        """Fields that the backend cannot take, where they ask for something."""
        if self._responder.backend.kind == "openai":
            return []
        given = request.model_dump(exclude_defaults=True, exclude=READ | OURS) | (request.model_extra or {})
        taken = ("temperature", "top_p", "response_format", "tools", "logprobs")
        return sorted(name for name, value in given.items() if name not in taken and value not in (None, 0, {}, [], ""))

    async def _remember(self, asked: "_Asked", owner: str, answers: Sequence[Answer]) -> None:
        if asked.conversation is None:
            return
        roles = ("user", "assistant")
        turns = [Turn(roles[n % 2], text, {}) for n, text in enumerate(asked.said)]
        details = {"citations": _citations(answers), "retrieval": _retrieval(answers)}
        turns.append(Turn("assistant", answers[0].text, details))
        try:
            await asyncio.to_thread(self._store.append, owner, asked.conversation, turns, CONVERSATIONS)
        except Taken:
            sentence = f"The conversation {asked.conversation.id} was changed meanwhile; the reply was not kept."
            raise RequestError(409, sentence, "conversation") from None


@dataclass(frozen=True)
class _Asked:
    """A request made ready. ``said``: what is new of its turns; ``ignored``: see ``ChatCompletion``."""

    prepared: Prepared
    conversation: StoredConversation | None
    said: list[str]
    ignored: list[str]

    def extras(self, answers: Sequence[Answer]) -> dict:
        """What stands beside the choices."""
        usage = dict(answers[0].usage)
        usage["completion_tokens"] = sum(answer.usage["completion_tokens"] for answer in answers)
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        found = {"usage": usage, "citations": _citations(answers), "retrieval": _retrieval(answers)}
        return found | ({"ignored": self.ignored} if self.ignored else {})


def _stops(request: ChatRequest) -> list[str]:
    return [request.stop] if isinstance(request.stop, str) else request.stop or []


def _citations(answers: Sequence[Answer]) -> list[dict]:
    return [
        {**vars(placed.citation), "start": placed.start, "end": placed.end, "choice": number}
        for number, answer in enumerate(answers)
        for placed in answer.citations
    ]


def _retrieval(answers: Sequence[Answer]) -> list[dict]:
    return [dict(vars(citation)) for citation in answers[0].retrieved]


def _head(request: ChatRequest, kind: str) -> dict:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": request.model}
