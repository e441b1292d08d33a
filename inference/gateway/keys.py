"""Whose request it is: API keys, each with its own cards and conversations."""

import hmac
import re
from pathlib import Path

from fastapi import Request

from inference.gateway.errors import RequestError

ANYONE = ""  # the owner where no keys are asked for


def read_keys(path: Path) -> dict[str, str]:
    """Key to owner, from a file with a name and a key a line: ``alice sk-...``; ``#`` begins a comment, at
    the start of a line or after a space.

    Raises ValueError that names the line, if it cannot be read.
    """
    keys: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The keys {path} cannot be read ({error}).") from None
    for number, line in enumerate(lines, start=1):
        words = re.sub(r"(^|\s)#.*", "", line).split()
        if not words:
            continue
        if len(words) != 2 or words[1] in keys or words[0] in keys.values() or not words[1].isascii():
            raise ValueError(f"{path}, line {number} must be a name and a key in ASCII, and each must be new.")
        keys[words[1]] = words[0]
    if not keys:
        raise ValueError(f"{path} holds no key; write a name and a key a line.")
    return keys


async def owner_of(request: Request) -> str:
    """Whose cards and conversations the request may touch. Raises RequestError, 401, for a missing or wrong key."""
    keys: dict[str, str] = request.app.state.keys
    if not keys:
        return ANYONE
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    found = None
    for key, owner in keys.items():  # all of them, so that the time taken says nothing
        if hmac.compare_digest(key.encode(), given.strip().encode(errors="replace")):
            found = owner
    if scheme.lower() != "bearer" or found is None:
        raise RequestError(401, "The API key is missing or wrong; send it as `Authorization: Bearer <key>`.")
    return found
