"""How a conversation is laid out for the model: as turns, as it was trained, or as one block; plain or quoted.

A block suits models that were not trained on turns: the talk so far is a script, and the model writes the next line.
Quoted, each line is ``Tim: "..."``, and the reply ends at its closing quote.
"""

from dataclasses import dataclass

from inference.prompts import Prompt

HISTORIES = ("turns", "block")
_CONTINUE = {
    "en": "Write what {name} says next, one line.",
    "zh": "请写出{name}接下来说的一句话。",
}


@dataclass(frozen=True)
class Layout:
    """``history``: ``turns`` or ``block``. ``quote``: lines in quotes. ``name``, ``user``: whose lines they are."""

    history: str = "turns"
    quote: bool = False
    name: str = "Persona"
    user: str = "User"

    def messages(self, prompt: Prompt, language: str) -> list[dict]:
        """The prompt in OpenAI's form."""
        if self.history == "turns" and not self.quote:
            return prompt.messages
        system = [{"role": "system", "content": prompt.system}] if prompt.system else []
        names = (self.user, self.name)
        lines = []
        for number, (turn, said) in enumerate(zip(prompt.turns, prompt.said, strict=True)):
            facts = turn.removeprefix(said) if turn.startswith(said) else f"\n{turn}"
            lines.append(self._line(names[number % 2], said) + facts)
        order = _CONTINUE[language].format(name=self.name)
        if self.history == "turns":
            lines[-1] += f"\n{order}"
            roles = ("user", "assistant")
            turns = [{"role": roles[number % 2], "content": line} for number, line in enumerate(lines)]
            return [*system, *turns]
        block = "\n".join([*lines, order])
        return [*system, {"role": "user", "content": block}]

    def _line(self, name: str, said: str) -> str:
        return f'{name}: "{said}"' if self.quote else f"{name}: {said}"
