"""What no route should see: bodies that are too large, and requests for another host's name."""

import json
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.gateway.errors import error_body

BODY = 1 << 20  # bytes


class Guard:
    """Reads each body whole, up to ``BODY`` bytes, before the application sees the request.

    ``hosts``: names that a request may be for; None: any. Without keys, the name is all that keeps a web page, whose
    own name was made to point at this machine (DNS rebinding), from reading cards.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None):
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._hosts is not None and _name(host) not in self._hosts:
            await _refuse(send, 400, f"Without --keys this gateway answers as localhost only, not as {host[:100]!r}.")
            return
        length = headers.get(b"content-length", b"0")
        if (length.isdigit() and int(length) > BODY) or (body := await _read(receive)) is None:
            await _refuse(send, 413, f"The body is larger than {BODY >> 20} MiB.")
            return
        replayed = False

        async def again() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)


def _name(host: str) -> str:
    """``[::1]:8001`` is ``[::1]``."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


async def _read(receive: Receive) -> bytes | None:
    """The body; None if it is too large."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps(error_body(status, sentence)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
