"""The gateway's routes."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import TypeAdapter, ValidationError

from inference.backend import BackendError
from inference.character_card import from_card, to_card
from inference.gateway import errors, schemas
from inference.gateway.completions import MODEL, Completions, Defaults
from inference.gateway.disconnect import unless_gone
from inference.gateway.errors import RequestError
from inference.gateway.guard import Guard
from inference.gateway.keys import owner_of
from inference.gateway.store import Persona, Store
from inference.responder import Responder

PAGE = Path(__file__).with_name("page")
PERSONAS = 1_000  # of one key
Owner = Annotated[str, Depends(owner_of)]
FAULTS = {status: {"model": schemas.Error} for status in (400, 401, 404, 409, 413, 500, 502, 504)}
# The page loads nothing from elsewhere, and no other page may frame it.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def create_app(
    responder: Responder,
    store: Store,
    *,
    keys: dict[str, str] | None = None,
    hosts: Collection[str] | None = None,
    cors: Collection[str] = (),
    defaults: Defaults | None = None,
) -> FastAPI:
    """The application. ``keys``: key to owner, none: no key is asked for. ``hosts``: see ``Guard``. ``cors``: origins
    whose pages may use it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await responder.backend.close()
        store.close()

    app = FastAPI(
        title="persona-factory", lifespan=lifespan, docs_url=None, redoc_url=None, responses=FAULTS,
        description="An OpenAI-compatible API whose models are persons, and whose replies say what they rest on.",
    )  # fmt: skip
    app.state.keys = keys or {}
    errors.install(app)
    app.add_middleware(Guard, hosts=hosts)
    if cors:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(cors), allow_methods=["*"],
            allow_headers=["authorization", "content-type", "x-persona"],
        )  # fmt: skip
    _add_chat(app, Completions(responder, store, defaults or Defaults()))
    _add_models(app, responder, store)
    _add_personas(app, store)
    _add_conversations(app, store)
    _add_page(app)
    return app


def _add_chat(app: FastAPI, completions: Completions) -> None:
    streamed = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}

    @app.post("/v1/chat/completions", response_model=schemas.ChatCompletion, responses={200: streamed})
    async def chat(
        request: schemas.ChatRequest,
        client: Request,
        owner: Owner,
        x_persona: Annotated[schemas.Id | None, Header()] = None,
    ) -> Response:
        """A reply in a person's voice, with the facts that its marks point at."""
        if not request.stream:
            return JSONResponse(await unless_gone(client, completions.answer(request, owner, x_persona)))
        lines = completions.stream(request, owner, x_persona)
        # An error before the reply begins has a status of its own.
        first = await unless_gone(client, anext(lines))

        async def body() -> AsyncIterator[str]:
            try:
                yield first
                async for line in lines:
                    yield line
            finally:
                await lines.aclose()  # a client that goes away ends the backend's work too

        return StreamingResponse(body(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def _add_models(app: FastAPI, responder: Responder, store: Store) -> None:
    async def _listed(owner: str) -> list[dict]:
        stored = await asyncio.to_thread(store.personas, owner)
        names = [await responder.backend.model(), *(MODEL + persona.id for persona in stored)]
        return [{"id": name, "object": "model", "created": 0, "owned_by": "persona-factory"} for name in names]

    @app.get("/v1/models", response_model=None)
    async def models(owner: Owner) -> JSONResponse:
        """The backend's model, and each stored card as a model of its own."""
        return JSONResponse({"object": "list", "data": await _listed(owner)})

    @app.get("/v1/models/{name:path}", response_model=None)
    async def model(name: str, owner: Owner) -> JSONResponse:
        """One of them."""
        listed = await _listed(owner)
        return JSONResponse(_found(next((entry for entry in listed if entry["id"] == name), None), name))

    @app.get("/health", response_model=None, responses={503: {"model": schemas.Error}})
    async def health() -> JSONResponse:
        """Whether the backend answers."""
        try:
            return JSONResponse({"status": "ok", "model": await responder.backend.model(fresh=True)})
        except BackendError:  # which, and where it is, is nothing for those without a key
            return JSONResponse(errors.error_body(503, "The backend does not answer.", code="backend_error"), 503)


def _add_personas(app: FastAPI, store: Store) -> None:
    @app.get("/v1/personas")
    def personas(owner: Owner) -> schemas.PersonaList:
        """All cards of the key."""
        return schemas.PersonaList(data=[_out(persona) for persona in store.personas(owner)])

    @app.put("/v1/personas/{name}")
    def put(name: schemas.Id, card: schemas.PersonaIn, owner: Owner) -> schemas.PersonaOut:
        """Store a card, or replace it: facts, or a character card V2."""
        persona = _persona(name, card)
        store.put_persona(owner, persona, PERSONAS)
        return _out(persona)

    @app.get("/v1/personas/{name}", response_model=None, responses={200: {"model": schemas.PersonaOut}})
    def get(
        name: schemas.Id, owner: Owner, format: Annotated[Literal["facts", "chara_card_v2"], Query()] = "facts"
    ) -> JSONResponse:
        """A card; with ``format=chara_card_v2`` as other programs read it."""
        persona = _found(store.persona(owner, name), name)
        if format == "facts":
            return JSONResponse(_out(persona).model_dump())
        return JSONResponse(to_card(persona.name or persona.id, persona.facts, persona.card))

    @app.delete("/v1/personas/{name}", status_code=204)
    def delete(name: schemas.Id, owner: Owner) -> None:
        """Forget a card. Conversations that began with it go on."""
        _found(store.delete_persona(owner, name) or None, name)


def _persona(name: str, card: schemas.PersonaIn) -> Persona:
    if (card.facts is None) == (card.data is None):
        raise RequestError(400, "A card is either `facts` or a character card V2 (`spec` and `data`).", "facts")
    if card.data is None:
        return Persona(name, card.name, card.facts)
    try:
        # Python reads NaN and halves of surrogate pairs, which no JSON and no UTF-8 holds: the card must come back.
        json.dumps(card.data, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        raise RequestError(400, "The character card holds what JSON cannot, such as NaN.", "data") from None
    try:
        title, facts = from_card(card.data)
        facts = TypeAdapter(schemas.Facts).validate_python(facts)
    except ValidationError as error:
        first = error.errors()[0]
        place = f"fact {first['loc'][0] + 1}: " if first["loc"] else ""
        raise RequestError(400, f"The character card does not fit: {place}{first['msg']}.", "data") from None
    except ValueError as error:
        raise RequestError(400, str(error), "data") from None
    return Persona(name, title[:200], facts, card.data)


def _out(persona: Persona) -> schemas.PersonaOut:
    return schemas.PersonaOut(id=persona.id, name=persona.name, facts=persona.facts)


def _found(thing, name: str):
    if thing is None:
        raise RequestError(404, f"There is no {name!r}.")
    return thing


def _add_conversations(app: FastAPI, store: Store) -> None:
    @app.get("/v1/conversations")
    def conversations(owner: Owner) -> schemas.ConversationList:
        """All conversations of the key, the newest first."""
        rows = store.conversations(owner)
        items = [schemas.ConversationItem(id=name, persona=persona, turns=turns) for name, persona, turns in rows]
        return schemas.ConversationList(data=items)

    @app.get("/v1/conversations/{name}")
    def get(name: schemas.Id, owner: Owner) -> schemas.ConversationOut:
        """A conversation with its turns."""
        found = _found(store.conversation(owner, name), name)
        turns = [schemas.TurnOut(role=turn.role, content=turn.content, **turn.details) for turn in found.turns]
        return schemas.ConversationOut(id=name, persona=found.persona, facts=found.facts, turns=turns)

    @app.delete("/v1/conversations/{name}", status_code=204)
    def delete(name: schemas.Id, owner: Owner) -> None:
        """Forget a conversation."""
        _found(store.delete_conversation(owner, name) or None, name)


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)

    app.mount("/page", _PageFiles(directory=PAGE), name="page")


class _PageFiles(StaticFiles):
    """The page's files: a browser that asked for none anew would run old scripts on a new page."""

    def file_response(self, *args, **kwargs) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(PAGE_HEADERS)
        return response
