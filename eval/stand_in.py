"""A stand-in for the model's API, as fast as Python allows: ``python -m eval.stand_in --port 8000``.

Answers in LLaMA-Factory's form, whole or streamed, after a set time, with one reply whose marks point at every fact of
a short card, and at one that no card has. The reply repeats the number of the message (``(no. 17)``), so that an answer
that went to the wrong client is seen. What it says costs next to nothing: what is measured in front of it is the rest.
"""

import argparse
import asyncio
import json
import re
import time

import uvicorn

MODEL = "stand-in"
# Some 40 tokens of Qwen's tokenizer without the marks. LLaMA-Factory streams a word at a time.
REPLY = (
    "About {number}: yes, I do, and most of all when the week is over [P1] [P2]. My friends say that it suits me [P3],"
    " and I would not change it for the world [P4] [P5] [P99]. And you, what do you like to do?"
)
NUMBER = re.compile(rb"\(no\. (\d+)\)")
SECONDS = 0.25  # what 40 tokens of a 1.7B model take on a data-centre GPU, some 6 ms each
JSON, EVENTS = b"application/json", b"text/event-stream; charset=utf-8"


def reply_to(number: int | str) -> str:
    """The reply to the message with that number."""
    return REPLY.format(number=number)


def whole(reply: str) -> bytes:
    """The answer in one piece."""
    choice = {"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 200, "completion_tokens": 40, "total_tokens": 240}
    answer = {"id": "chatcmpl-0", "object": "chat.completion", "created": 0, "model": MODEL}
    return json.dumps(answer | {"choices": [choice], "usage": usage}).encode()


def events(reply: str) -> list[bytes]:
    """The answer in server-sent events: the role, a word each, the end, and ``[DONE]``."""
    deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in re.findall(r"\s*\S+", reply)), {}]
    choices = [{"index": 0, "delta": delta} for delta in deltas]
    choices[-1]["finish_reason"] = "stop"
    head = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 0, "model": MODEL}
    lines = [json.dumps(head | {"choices": [choice]}) for choice in choices]
    return [f"data: {line}\n\n".encode() for line in (*lines, "[DONE]")]


class StandIn:
    """The ASGI application. ``seconds``: until the answer is whole. ``/requests`` says how many it has answered."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._answered = 0

    async def __call__(self, scope, receive, send) -> None:
        path = scope["path"]
        if path == "/v1/models":
            await _send(send, json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode())
        elif path == "/requests":
            await _send(send, json.dumps({"requests": self._answered}).encode())
        elif path == "/v1/chat/completions":
            await self._chat(await _body(receive), send)
        else:
            await _send(send, b'{"detail": "Not Found"}', 404)

    async def _chat(self, body: bytes, send) -> None:
        begun = time.perf_counter()
        numbers = NUMBER.findall(body)
        reply = reply_to(numbers[-1].decode() if numbers else "that")
        if json.loads(body).get("stream"):
            await self._stream(begun, events(reply), send)
        else:
            if self._seconds:
                await asyncio.sleep(self._seconds)
            await _send(send, whole(reply))
        self._answered += 1

    async def _stream(self, begun: float, lines: list[bytes], send) -> None:
        """The role comes at once, as LLaMA-Factory sends it; the words are spread over the time."""
        role, *words, end, done = lines
        await _start(send, EVENTS)
        await send({"type": "http.response.body", "body": role, "more_body": True})
        for number, word in enumerate(words, start=1):
            if self._seconds:
                await asyncio.sleep(begun + self._seconds * number / len(words) - time.perf_counter())
            await send({"type": "http.response.body", "body": word, "more_body": True})
        await send({"type": "http.response.body", "body": end, "more_body": True})
        await send({"type": "http.response.body", "body": done})


async def _body(receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _start(send, kind: bytes, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *headers]})


async def _send(send, body: bytes, status: int = 200) -> None:
    await _start(send, JSON, status, (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.stand_in", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=8000, help="to listen on, on the loopback (default: 8000)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"that an answer takes (default: {SECONDS})")
    arguments = parser.parse_args()
    uvicorn.run(StandIn(arguments.seconds), port=arguments.port, lifespan="off", access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
