"""How a conversation is laid out for the model: as turns, as it was trained, or as one block; plain or quoted.

A block suits models that were not trained on turns: the talk so far is a script, and the model writes the next line.
Quoted, each line is ``Tim: "..."``, and the reply ends at its closing quote.
"""

from dataclasses import dataclass

from inference.prompts import Prompt
from retrieval.text import neutralise

HISTORIES = ("turns", "block")
_CONTINUE = {
    "en": "Write what {name} says next, one line.",
    "zh": "请写出{name}接下来说的一句话。",
}


@dataclass(frozen=True)
class Layout:
    """``history``: ``turns`` or ``block``. ``quote``: lines in quotes. ``name``, ``user``: whose lines they are.

    Names come from outside, and are made harmless.
    """

    history: str = "turns"
    quote: bool = False
    name: str = "Persona"
    user: str = "User"

    def __post_init__(self):
        for field in ("name", "user"):
            object.__setattr__(self, field, neutralise(" ".join(getattr(self, field).split())))

    @property
    def stops(self) -> list[str]:
        """Where a model that goes on with the script by itself has to end: at the user's next line."""
        return [f"\n{self.user}:"] if self.history == "block" else []

    def messages(self, prompt: Prompt, language: str) -> list[dict]:
        """The prompt in OpenAI's form."""
        if self.history == "turns" and not self.quote:
            return prompt.messages
        system = [{"role": "system", "content": prompt.system}] if prompt.system else []
        names = (self.user, self.name)
        lines = []
        for number, (turn, said) in enumerate(zip(prompt.turns, prompt.said, strict=True)):
            facts = turn.removeprefix(said).strip("\n")
            lines.append("\n".join(filter(None, [self._line(names[number % 2], said), facts])))
        if prompt.recalled:
            lines[-1] = f"{prompt.recalled}\n\n{lines[-1]}"
        order = _CONTINUE[language].format(name=self.name)
        if self.history == "turns":
            lines[-1] += f"\n{order}"
            roles = ("user", "assistant")
            turns = [{"role": roles[number % 2], "content": line} for number, line in enumerate(lines)]
            return [*system, *turns]
        block = "\n".join([*lines, order])
        return [*system, {"role": "user", "content": block}]

    def _line(self, name: str, said: str) -> str:
        """One line, whatever was said: a message must not write others' lines, nor close its own quote."""
        said = " ".join(said.split())
        if not self.quote:
            return f"{name}: {said}"
        said = said.replace('"', "'")
        return f'{name}: "{said}"'
