"""An OpenAI-compatible backend whose answers, and faults, the message asks for: ``python fake_backend.py PORT``.

``SAY text``: answers with it, ``{P1}`` being ``[P1]``. ``WAIT seconds text``: first waits. ``DROP``: breaks off after
two pieces. ``FAIL status``: answers with that status. ``GARBAGE``: answers with no JSON. ``ODD json``:
its content is this. Anything else: ``REPLY``.
``GET /asked`` gives all requests so far, as they came.
"""

import asyncio
import json
import os
import sys

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

REPLY = "I play the banjo. [P2] And the harp. [P9]"
app = FastAPI()
asked: list[dict] = []


@app.get("/asked")
def requests_so_far():
    return asked


@app.get("/v1/models")
def models():
    return {"object": "list", "data": [{"id": "fake", "object": "model"}]}


@app.post("/v1/chat/completions")
async def chat(request: Request):
    body = await request.json()
    asked.append(body | {"authorization": request.headers.get("authorization")})
    message = body["messages"][-1]["content"].removeprefix('User: "')
    order, _, rest = message.split("\n")[0].partition(" ")
    text = rest.replace("{", "[").replace("}", "]") if order == "SAY" else REPLY
    if order == "WAIT":
        seconds, _, text = rest.partition(" ")
        await asyncio.sleep(float(seconds))
    if order == "FAIL":
        return JSONResponse({"detail": "I do not want to."}, int(rest))
    if order == "GARBAGE":
        return Response("<html>")
    if order == "ODD":
        text = json.loads(rest)
    if order == "DROP" and not body.get("stream"):
        os._exit(1)
    if not body.get("stream"):
        message = {"role": "assistant", "content": text}
        usage = {} if order == "ODD" else {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        return Response(json.dumps(answer), media_type="application/json")
    return StreamingResponse(events(text, order == "DROP"), media_type="text/event-stream")


async def events(text: str, drop: bool):
    pieces = [text] if not isinstance(text, str) else [text[start : start + 3] for start in range(0, len(text), 3)]
    for number, piece in enumerate(pieces):
        if drop and number == 2:
            os._exit(1)
        yield event({"content": piece}, None)
        await asyncio.sleep(0)
    yield event({}, "stop")
    yield "data: [DONE]\n\n"


def event(delta: dict, finish_reason: str | None) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': finish_reason}]})}\n\n"


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=1)
