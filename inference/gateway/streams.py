"""Replies on their way out: several at once, and each piece as a server-sent event."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def all_of(work: Sequence[Coroutine[None, None, T]]) -> list[T]:
    """What all come to; the first error ends the others, which would keep the backend busy for nobody."""
    if len(work) == 1:
        return [await work[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def chunk(head: dict, index: int, delta: dict, finish_reason: str | None = None, extras: dict | None = None) -> str:
    """A piece of reply number ``index``; ``extras`` stand beside the choices."""
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({**head, 'choices': [choice], **(extras or {})})}\n\n"


async def merged(streams: Sequence[AsyncIterator]) -> AsyncIterator[tuple]:
    """The items of all streams as they come, each with the number of its stream; the first error ends them all."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as stream:
            async for item in stream:
                yield 0, item
        return
    queue: asyncio.Queue = asyncio.Queue()

    async def pump(index: int, stream: AsyncIterator) -> None:
        try:
            async with aclosing(stream):
                async for item in stream:
                    await queue.put((index, item))
            await queue.put((index, None))
        except Exception as error:
            await queue.put((index, error))  # raised by whoever reads

    tasks = [asyncio.create_task(pump(index, stream)) for index, stream in enumerate(streams)]
    try:
        open_streams = len(streams)
        while open_streams:
            index, item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                open_streams -= 1
            else:
                yield index, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
