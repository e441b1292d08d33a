"""Errors in the shape that OpenAI's clients read, whatever went wrong."""

import json
import re

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from inference.backend import BackendError
from inference.gateway.schemas import FACT, FACTS
from inference.gateway.store import Full, StoreError
from inference.memory import TooLong

TYPES = {401: "authentication_error", 404: "not_found_error", 409: "conflict_error", 413: "request_too_large"}


class RequestError(Exception):
    """A request that cannot be answered. ``param``: the field at fault; ``code``: for programs."""

    def __init__(self, status: int, sentence: str, param: str | None = None, code: str | None = None):
        super().__init__(sentence)
        self.status, self.param, self.code = status, param, code


KNOWN = (RequestError, BackendError, TooLong, Full, StoreError)


def error_body(status: int, sentence: str, param: str | None = None, code: str | None = None) -> dict:
    """``{"error": {...}}`` as OpenAI writes it."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": sentence, "type": kind, "param": param, "code": code}}


def body_of(error: Exception) -> tuple[int, dict]:
    """Status and body of an error; all but ``KNOWN`` ones are faults of ours."""
    if isinstance(error, RequestError):
        return error.status, error_body(error.status, str(error), error.param, error.code)
    if isinstance(error, BackendError):
        return error.status, error_body(error.status, str(error), code="backend_error")
    if isinstance(error, Full):
        return 409, error_body(409, str(error))
    if isinstance(error, StoreError):
        return 503, error_body(503, str(error), code="store_error")
    if isinstance(error, TooLong):
        return 400, error_body(400, str(error), "messages", "context_length_exceeded")
    return 500, error_body(500, "The gateway has a fault; its log says more.")


def event(error: Exception) -> str:
    """The error as a line of a stream that has begun already."""
    return f"data: {json.dumps(body_of(error)[1])}\n\n"


def install(app: FastAPI) -> None:
    """Have ``app`` answer every error in OpenAI's shape."""

    async def answer(_: Request, error: Exception) -> JSONResponse:
        status, body = body_of(error)
        return JSONResponse(body, status)

    for kind in KNOWN:
        app.add_exception_handler(kind, answer)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] in ("json_invalid", "model_attributes_type"):
            sentence = "The body must be a JSON object, sent with `Content-Type: application/json`."
            return JSONResponse(error_body(400, sentence), 400)
        if "persona" in first["loc"]:
            sentence = (
                f"persona must be the id of a card, or a list of 1 to {FACTS} facts of {FACT} characters at most."
            )
            return JSONResponse(error_body(400, sentence, "persona"), 400)
        # Pydantic adds the kinds that it tried ("constrained-str", "list[...]"), which no client wrote.
        place = ".".join(str(part) for part in first["loc"][1:] if re.fullmatch(r"\w+", str(part))) or None
        sentence = f"{place or 'The body'}: {first['msg']}." if place else f"The body cannot be read: {first['msg']}."
        return JSONResponse(error_body(400, sentence, place), 400)

    @app.exception_handler(HTTPException)
    async def _refused(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(error_body(error.status_code, f"{error.detail}."), error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def _gone(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it, but the log shows it; the number is nginx's

    @app.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> JSONResponse:
        status, body = body_of(error)
        return JSONResponse(body, status)
