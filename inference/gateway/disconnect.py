"""A client that goes away ends the work for it, also before there is anything to send."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

T = TypeVar("T")


async def unless_gone(client: Request, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled if ``client`` goes away; then raises ClientDisconnect.

    The body of ``client`` must have been read: whatever comes after it is the end of the connection.
    """
    working = asyncio.ensure_future(work)
    going = asyncio.ensure_future(client.receive())
    try:
        await asyncio.wait((working, going), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, going):
            task.cancel()
        await asyncio.gather(working, going, return_exceptions=True)
