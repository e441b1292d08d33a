"""Character cards V2: the JSON that SillyTavern and others exchange (malfoyslastname/character-card-spec-v2).

Our facts are the card's description, one a line, so that other programs show them; they stand in ``extensions`` too,
word for word. What we do not read is kept, and given back.
"""

import re
import textwrap
from collections.abc import Sequence

from retrieval.sentences import split_sentences

EXTENSION = "persona_factory"
LONGEST = 500  # characters of a fact; other programs' lists of traits are often longer
_TEXTS = ("description", "personality", "scenario", "first_mes", "mes_example", "creator_notes", "system_prompt",
          "post_history_instructions", "creator", "character_version")  # fmt: skip


def to_card(name: str, facts: Sequence[str], data: dict | None = None) -> dict:
    """The card of these facts. ``data``: of the card that they came from."""
    if data and from_card(data) == (name, list(facts)):  # as it came: another program's words stay as they were
        return {"spec": "chara_card_v2", "spec_version": "2.0", "data": data}
    empty = {"name": "", **dict.fromkeys(_TEXTS, ""), "alternate_greetings": [], "tags": [], "extensions": {}}
    data = empty | (data or {})
    # The facts hold what the personality said; standing there too, another import would find it twice.
    data |= {"name": name, "description": "\n".join(facts), "personality": ""}
    data["extensions"] = (data["extensions"] or {}) | {EXTENSION: {"facts": list(facts)}}
    return {"spec": "chara_card_v2", "spec_version": "2.0", "data": data}


def from_card(data: dict) -> tuple[str, list[str]]:
    """Name and facts of a card's ``data``: ours, or else the sentences of description and personality.

    Raises ValueError if it is no card, or holds no fact.
    """
    texts = {key: data.get(key) or "" for key in ("name", "description", "personality")}
    extensions = data.get("extensions") or {}
    if not all(isinstance(text, str) for text in texts.values()) or not isinstance(extensions, dict):
        raise ValueError(
            "The character card is damaged: name, description and personality must be text, extensions an object."
        )
    name = texts["name"].strip()
    ours = extensions.get(EXTENSION)
    facts = ours.get("facts") if isinstance(ours, dict) else None
    # Another program may have edited the description, which is what people see; then it counts.
    if isinstance(facts, list) and all(isinstance(f, str) for f in facts) and "\n".join(facts) == texts["description"]:
        return name, facts
    lines = "\n".join((texts["description"], texts["personality"])).splitlines()
    sentences = [sentence.strip() for line in lines for sentence in split_sentences(line)]
    filled = [_filled(sentence, name) for sentence in sentences if re.search(r"\w", sentence)]
    facts = [part for sentence in filled for part in textwrap.wrap(sentence, LONGEST)]
    if not facts:
        raise ValueError("The character card has neither description nor personality; add a fact.")
    return name, facts


def _filled(text: str, name: str) -> str:
    """``{{char}}`` and ``{{user}}`` are the two names."""
    text = re.sub(r"\{\{char\}\}|<BOT>", lambda _: name or "I", text, flags=re.IGNORECASE)
    return re.sub(r"\{\{user\}\}|<USER>", "you", text, flags=re.IGNORECASE)
