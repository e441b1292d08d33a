"""Cards in files: a fact a line, or a character card V2."""

import json
from dataclasses import dataclass
from pathlib import Path

from inference.character_card import from_card

# For the demo and the chat; it is not in the sample.
EXAMPLE = [
    "I work as a baker in York.",
    "I have two cats and a dog.",
    "I play the guitar in a small band.",
    "My favourite food is pizza.",
    "I walk my dog in the park every morning.",
]


@dataclass(frozen=True)
class Persona:
    """Who answers. ``facts``: the card, in its order."""

    name: str
    facts: list[str]


def read_card(path: Path) -> list[str]:
    """One fact a line, empty lines left out. Raises ValueError if the file cannot be read or holds no fact."""
    try:
        facts = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The card {path} cannot be read ({error}).") from None
    if not facts:
        raise ValueError(f"The card {path} is empty; write one fact a line.")
    return facts


def read_persona(path: Path) -> Persona:
    """The card of a file: a fact a line, or, if it ends in ``.json``, a character card V2.

    Raises ValueError if it cannot be read or holds no fact.
    """
    if path.suffix.lower() != ".json":
        return Persona("", read_card(path))
    try:
        card = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"The card {path} cannot be read ({error}).") from None
    if not isinstance(card, dict) or not isinstance(card.get("data"), dict):
        raise ValueError(f"The card {path} is no character card V2; it must hold an object called data.")
    return Persona(*from_card(card["data"]))
