"""The OpenAI-compatible API that has the model: LLaMA-Factory's, or another's (vLLM, Ollama, transformers serve)."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from inference.served import LOOPBACK, check_trained_with, host_of
from retrieval.base import Retriever

KINDS = ("llamafactory", "openai")
# All that LLaMA-Factory 0.9.5 takes as OpenAI means it. It reads presence_penalty as a *repetition* penalty, with which
# 0 fails and a stream hangs, and knows nothing of seed, logprobs, max_completion_tokens; `stop` it ignores.
TAKEN_BY_LLAMAFACTORY = frozenset(("model", "messages", "temperature", "top_p", "max_tokens", "stream"))
JSON = {"Content-Type": "application/json"}
NAME_SECONDS = 10  # how long the model's name is believed


class BackendError(Exception):
    """The backend gave no answer. ``status``: what to tell a client, 502 or 504, or a 4xx that it answered itself."""

    def __init__(self, sentence: str, status: int = 502):
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Piece:
    """A piece of a streamed reply, with what the backend says of its end."""

    text: str
    finish_reason: str | None = None
    usage: dict | None = None


class Backend:
    """``kind``: ``llamafactory`` is sent only what it takes rightly, ``openai`` everything.

    ``timeout``: seconds to wait for an answer, or for the next piece of one. ``model``: its name; None takes the first
    that the API lists. Raises ValueError for an address that is none.
    """

    def __init__(
        self,
        base_url: str,
        retriever: Retriever,
        *,
        api_key: str = "none",
        kind: str = "llamafactory",
        model: str | None = None,
        timeout: float = 120,
    ):
        host = host_of(base_url)
        self.base_url, self.kind = base_url.rstrip("/"), kind
        self._retriever = retriever
        self._model = model
        self._named = -float("inf")
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(timeout, connect=5),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
            # A proxy set for the outside world cannot reach this machine's loopback.
            trust_env=host not in LOOPBACK,
        )
        self._fixed = model is not None

    async def close(self) -> None:
        await self._http.aclose()

    async def model(self, fresh: bool = False) -> str:
        """The name of the model, asked for anew if ``fresh``.

        Raises BackendError if there is none, or if it learned with another retriever.
        """
        if fresh or self._model is None or not (self._fixed or time.monotonic() - self._named < NAME_SECONDS):
            async with self._answering():
                response = await self._http.get(f"{self.base_url}/models")
            self._check(response.status_code, response.content)
            try:
                listed = json.loads(response.content)["data"][0]["id"]
            except (ValueError, LookupError, TypeError):
                raise BackendError(f"{self.base_url}/models lists no model; is it an OpenAI-compatible API?") from None
            self._model = self._model if self._fixed else listed
            self._named = time.monotonic()
        try:
            check_trained_with(self._model, self._retriever)
        except ValueError as error:
            raise BackendError(str(error)) from None
        return self._model

    async def complete(self, messages: list[dict], options: dict) -> dict:
        """The whole answer, in OpenAI's form. Raises BackendError."""
        body = await self._body(messages, options)
        async with self._answering():
            response = await self._http.post(f"{self.base_url}/chat/completions", content=_json(body), headers=JSON)
        self._check(response.status_code, response.content)
        try:
            answer = json.loads(response.content)
            answer["choices"][0]["message"]["content"]  # what every caller reads
        except (ValueError, LookupError, TypeError):
            raise BackendError(f"The backend's answer is not in OpenAI's form: {response.text[:200]!r}.") from None
        return answer

    async def stream(self, messages: list[dict], options: dict) -> AsyncIterator[Piece]:
        """The answer in pieces. Raises BackendError, at the first piece or, if the backend dies, at a later one."""
        body = await self._body(messages, options | {"stream": True})
        if self.kind == "openai":
            body["stream_options"] = {"include_usage": True}
        ended = False
        async with (
            self._answering(),
            self._http.stream(
                "POST", f"{self.base_url}/chat/completions", content=_json(body), headers=JSON
            ) as response,
        ):
            if response.status_code != 200:
                self._check(response.status_code, await response.aread())
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    data = line[5:].strip()
                    if data == "[DONE]":
                        return
                    piece = _piece(data)
                    ended = ended or piece.finish_reason is not None
                    yield piece
        if not ended:
            raise BackendError("The backend broke its answer off.")

    async def _body(self, messages: list[dict], options: dict) -> dict:
        body = {"model": await self.model(), "messages": messages, **options}
        if self.kind == "llamafactory":
            body = {key: value for key, value in body.items() if key in TAKEN_BY_LLAMAFACTORY}
        return body

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        try:
            yield
        except httpx.ConnectError:
            self._named = -float("inf")  # what comes up after this may be another model
            raise BackendError(f"No backend answers at {self.base_url}; start one with `make serve`.") from None
        except httpx.TimeoutException:
            raise BackendError(f"The backend at {self.base_url} took too long to answer.", 504) from None
        except httpx.HTTPError as error:
            self._named = -float("inf")
            raise BackendError(f"The backend broke its answer off ({type(error).__name__}).") from None

    def _check(self, status: int, content: bytes) -> None:
        said = content[:200].decode(errors="replace")
        if status == 401:
            raise BackendError("The backend refuses the key; set API_KEY to the one it was started with.")
        if status == 404:
            raise BackendError(f"There is no API at {self.base_url}; its address usually ends in /v1.")
        if 400 <= status < 500:
            raise BackendError(f"The backend refuses the request: {said}", status)
        if status != 200:
            raise BackendError(f"The backend failed with status {status}: {said}")


def _json(body: dict) -> bytes:
    """In ASCII, since half of a surrogate pair, which JSON can hold, has no UTF-8."""
    return json.dumps(body).encode()


def _piece(data: str) -> Piece:
    try:
        chunk = json.loads(data)
        if "error" in chunk:
            raise BackendError(f"The backend failed in its answer: {str(chunk['error'])[:200]}")
        if not chunk["choices"]:
            return Piece("", usage=chunk.get("usage"))
        [choice] = chunk["choices"]
        return Piece(choice["delta"].get("content") or "", choice.get("finish_reason"), chunk.get("usage"))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise BackendError(f"The backend's answer is not in OpenAI's form: {data[:200]!r}.") from None
