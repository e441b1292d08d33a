"""A load generator lean enough not to be what is measured: HTTP/1.1 over asyncio's streams, a connection a client.

Each client asks its next question when it has its last answer. Bodies are kept as they come and read afterwards.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import uvloop

TIMEOUT = 60  # seconds, after which an answer is lost
TEXT = re.compile(rb'"content": ?"[^"]')  # an answer's first text


@dataclass(frozen=True)
class Answer:
    """``first``, ``seconds``: from the request to the first text and to the end."""

    status: int
    body: bytes
    first: float
    seconds: float


def post(address: tuple[str, int], path: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    lines = (f"POST {path} HTTP/1.1", f"Host: {address[0]}:{address[1]}", "Content-Type: application/json",
             f"Content-Length: {len(body)}", "", "")  # fmt: skip
    return "\r\n".join(lines).encode() + body


def load(
    address: tuple[str, int], requests: Sequence[bytes], clients: int, shown: Callable[[], object], ramp: float = 0
) -> tuple[list[Answer | None], float]:
    """Ask all, ``clients`` at a time: the answers in their order, None for one that was lost, and the seconds it took.

    ``shown`` is called after each. ``ramp``: seconds over which the clients begin, since people do not all ask at the
    same moment. Connections are made before the clock starts.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_load(address, requests, clients, shown, ramp))


async def _load(
    address: tuple[str, int], requests: Sequence[bytes], clients: int, shown: Callable[[], object], ramp: float
) -> tuple[list[Answer | None], float]:
    answers: list[Answer | None] = [None] * len(requests)
    waiting = iter(enumerate(requests))

    async def client(place: int, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        await asyncio.sleep(ramp * place / clients)
        for number, request in waiting:
            try:
                async with asyncio.timeout(TIMEOUT):
                    answers[number] = await _ask(*connection, request)
            except (OSError, EOFError, ValueError):  # broken off, timed out, or no HTTP: lost
                connection[1].close()
                connection = await asyncio.open_connection(*address)
            shown()
        connection[1].close()

    connections = [await asyncio.open_connection(*address) for _ in range(clients)]
    start = time.perf_counter()
    await asyncio.gather(*(client(*numbered) for numbered in enumerate(connections)))
    return answers, time.perf_counter() - start


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
    start = time.perf_counter()
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    if found := re.search(rb"content-length: (\d+)", head):
        body = await reader.readexactly(int(found[1]))
        seconds = time.perf_counter() - start
        return Answer(status, body, seconds, seconds)
    parts, first = [], None
    while size := int(await reader.readline(), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
        if first is None and TEXT.search(parts[-1]):
            first = time.perf_counter() - start
    await reader.readexactly(2)
    seconds = time.perf_counter() - start
    return Answer(status, b"".join(parts), seconds if first is None else first, seconds)
