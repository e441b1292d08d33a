"""The OpenAI-compatible API that has the model: LLaMA-Factory's, or another's (vLLM, Ollama, transformers serve)."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import aiohttp

from inference.served import LOOPBACK, check_trained_with, host_of
from retrieval.base import Retriever

KINDS = ("llamafactory", "openai")
# All that LLaMA-Factory 0.9.5 takes as OpenAI means it. It reads presence_penalty as a *repetition* penalty, with which
# 0 fails and a stream hangs, and knows nothing of seed, logprobs, max_completion_tokens; `stop` it ignores.
TAKEN_BY_LLAMAFACTORY = frozenset(("model", "messages", "temperature", "top_p", "max_tokens", "stream"))
JSON = {"Content-Type": "application/json"}
KEEP = 4  # seconds that an idle connection is kept; uvicorn, which LLaMA-Factory runs on, closes it after 5
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
        self._timeout, self._api_key = timeout, api_key
        # A proxy set for the outside world cannot reach this machine's loopback.
        self._trust_env = host not in LOOPBACK
        self._session: aiohttp.ClientSession | None = None
        self._fixed = model is not None

    @property
    def _http(self) -> aiohttp.ClientSession:
        """Made when first asked for: it belongs to the running event loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self._api_key}"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=self._timeout),
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self._trust_env,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def model(self, fresh: bool = False) -> str:
        """The name of the model, asked for anew if ``fresh``.

        Raises BackendError if there is none, or if it learned with another retriever.
        """
        if fresh or self._model is None or not (self._fixed or time.monotonic() - self._named < NAME_SECONDS):
            async with (
                self._answering(),
                self._http.get(f"{self.base_url}/models", allow_redirects=False) as response,
            ):
                content = await response.read()
            self._check(response.status, content)
            try:
                listed = json.loads(content)["data"][0]["id"]
            except (ValueError, LookupError, TypeError):
                raise BackendError(f"{self.base_url}/models lists no model; is it an OpenAI-compatible API?") from None
            self._model = self._model if self._fixed else listed
            self._named = time.monotonic()
        try:
            check_trained_with(self._model, self._retriever)
        except ValueError as error:
            raise BackendError(str(error)) from None
        return self._model

    async def complete(self, messages: list[dict], options: dict) -> Piece:
        """The whole answer as one piece. Raises BackendError."""
        body = await self._body(messages, options)
        async with self._answering(), self._asked(body) as response:
            content = await response.read()
        self._check(response.status, content)
        try:
            answer = json.loads(content)
            [choice] = answer["choices"]
            return Piece(_text(choice["message"]), choice.get("finish_reason"), _usage(answer))
        except (ValueError, LookupError, TypeError, AttributeError):
            said = content[:200].decode(errors="replace")
            raise BackendError(f"The backend's answer is not in OpenAI's form: {said!r}.") from None

    async def stream(self, messages: list[dict], options: dict) -> AsyncIterator[Piece]:
        """The answer in pieces. Raises BackendError, at the first piece or, if the backend dies, at a later one."""
        body = await self._body(messages, options | {"stream": True})
        if self.kind == "openai":
            body["stream_options"] = {"include_usage": True}
        ended = False
        async with self._answering(), self._asked(body) as response:
            if response.status != 200:
                self._check(response.status, await response.read())
            async for some in _events(response.content):
                pieces = [_piece(data) for data in some if data != b"[DONE]"]
                if pieces:
                    piece = _joined(pieces)
                    ended = ended or piece.finish_reason is not None
                    yield piece
                if len(pieces) < len(some):
                    return
        if not ended:
            raise BackendError("The backend broke its answer off.")

    def _asked(self, body: dict) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        url = f"{self.base_url}/chat/completions"
        return self._http.post(url, data=_json(body), headers=JSON, allow_redirects=False)

    async def _body(self, messages: list[dict], options: dict) -> dict:
        body = {"model": await self.model(), "messages": messages, **options}
        if self.kind == "llamafactory":
            body = {key: value for key, value in body.items() if key in TAKEN_BY_LLAMAFACTORY}
        return body

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        try:
            yield
        except aiohttp.ClientConnectorError:
            self._named = -float("inf")  # what comes up after this may be another model
            raise BackendError(f"No backend answers at {self.base_url}; start one with `make serve`.") from None
        except TimeoutError:
            raise BackendError(f"The backend at {self.base_url} took too long to answer.", 504) from None
        except aiohttp.ClientError as error:
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


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[list[bytes]]:
    """The data of server-sent events, those together that have arrived by now: under load that saves most of the work
    that each would make on its way to the client."""
    rest = b""
    while read := await content.readany():  # nothing at the end
        *lines, rest = (rest + read).split(b"\n")
        if some := _data(lines):
            yield some
    if some := _data([rest]):
        yield some


def _data(lines: list[bytes]) -> list[bytes]:
    return [line[5:].strip() for line in lines if line.startswith(b"data:")]


def _joined(pieces: list[Piece]) -> Piece:
    """Several pieces as one."""
    if len(pieces) == 1:
        return pieces[0]
    ends = [piece.finish_reason for piece in pieces if piece.finish_reason is not None]
    counts = [piece.usage for piece in pieces if piece.usage]
    return Piece("".join(piece.text for piece in pieces), *(some[-1] if some else None for some in (ends, counts)))


def _text(message: dict) -> str:
    """Raises TypeError for content that is no text."""
    content = message.get("content") or ""
    if not isinstance(content, str):
        raise TypeError
    return content


def _usage(answer: dict) -> dict | None:
    """Prompt and reply in tokens, if the backend says both."""
    said = answer.get("usage") or {}
    counts = [said.get("prompt_tokens"), said.get("completion_tokens")]
    if not all(isinstance(count, int) for count in counts):
        return None
    return dict(zip(("prompt_tokens", "completion_tokens", "total_tokens"), (*counts, sum(counts)), strict=True))


def _piece(data: bytes) -> Piece:
    try:
        chunk = json.loads(data)
        if "error" in chunk:
            raise BackendError(f"The backend failed in its answer: {str(chunk['error'])[:200]}")
        if not chunk["choices"]:
            return Piece("", usage=_usage(chunk))
        [choice] = chunk["choices"]
        return Piece(_text(choice["delta"]), choice.get("finish_reason"), _usage(chunk))
    except (ValueError, LookupError, TypeError, AttributeError):
        said = data[:200].decode(errors="replace")
        raise BackendError(f"The backend's answer is not in OpenAI's form: {said!r}.") from None
