"""Talk to a persona in the terminal: ``python -m inference.chat --card card.txt`` (``make chat``).

Needs only the API that has the model (``make serve``). Before each reply stand the facts retrieved for the message,
after it those that it cites. ``/help`` lists the commands; lines can be piped in as well.
"""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from inference.assembly import add_options, build_responder
from inference.backend import BackendError
from inference.card_file import EXAMPLE, Persona, read_persona
from inference.layout import HISTORIES, Layout
from inference.prompts import Citation
from inference.responder import Answer, Question, Responder
from retrieval.store import FactStore
from retrieval.text import mark

HELP = """\
  /new            begin a new conversation (also: newsession)
  /persona FILE   take another card, and begin a new conversation
  /facts          show the card, and what was retrieved for the last message
  /docs FOLDER    show passages of documents too, of a folder that `python -m retrieval.documents` wrote
  /docs off       show the card's facts only
  /quit           end the chat (also: quit, Ctrl-D)
  Ctrl-C stops a reply, and the exchange is forgotten; at the prompt it ends the chat."""
WORDS = {"newsession": "/new", "quit": "/quit"}
# What could move the cursor or recolour the terminal has no place in a text that is only shown.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Settings:
    """How replies are asked for. ``options``: for the backend. ``name``: instead of the card's own, if not empty."""

    options: dict
    citations: str = "model"
    memory: str = "drop"
    history: str = "turns"
    quote: bool = False
    name: str = ""
    hide_facts: bool = False
    styled: bool = False


class Chat:
    """One conversation after another with one persona after another."""

    def __init__(self, responder: Responder, persona: Persona, settings: Settings):
        self._responder, self._persona, self._settings = responder, persona, settings
        self._said: list[str] = []  # user, assistant, ..., assistant
        self._retrieved: list[Citation] | None = None
        self._ended = False
        self._commands = {
            "/new": self._new, "/quit": self._quit, "/persona": self._take, "/facts": self._facts, "/docs": self._docs,
            "/help": lambda _: print(HELP),
        }  # fmt: skip

    @property
    def name(self) -> str:
        """Whose replies these are."""
        return self._settings.name or self._persona.name or "Persona"

    def run(self, lines: Iterable[str]) -> None:
        """Answer messages and follow commands, one a line, until they end. Ctrl-C between replies is not caught."""
        with asyncio.Runner() as runner:
            try:
                for line in lines:
                    line = line.strip()
                    line = WORDS.get(line, line)
                    if line.startswith("/"):
                        self._command(line)
                    elif line:
                        self._message(line, runner)
                    if self._ended:
                        break
            finally:
                runner.run(self._responder.backend.close())

    def _command(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        if command not in self._commands:
            return complain(f"There is no command {command}; /help lists what there is.")
        try:
            self._commands[command](argument.strip())
        except ValueError as error:
            complain(str(error))

    def _new(self, _: str = "") -> None:
        self._said, self._retrieved = [], None
        print(plain(f"A new conversation with {self.name}."), flush=True)

    def _quit(self, _: str) -> None:
        self._ended = True

    def _take(self, file: str) -> None:
        if not file:
            raise ValueError("/persona needs a file: a fact a line, or a character card (.json).")
        self._persona = read_persona(Path(file).expanduser())
        self._new()

    def _facts(self, _: str) -> None:
        for number, fact in enumerate(self._persona.facts):
            print(plain(f"  {mark(number)} {fact}"))
        if self._retrieved is not None:
            print("For the last message:")
            self._show_retrieved(self._retrieved)

    def _docs(self, folder: str) -> None:
        prompts = self._responder.prompts
        if folder == "off":
            prompts.documents = None
        elif folder:
            prompts.documents = FactStore.open(Path(folder).expanduser())
        documents = prompts.documents
        if documents:
            print(f"{len(documents):,} passages of {len(set(documents.sources)):,} documents are looked through.")
        else:
            print("Documents are off.")

    def _message(self, message: str, runner: asyncio.Runner) -> None:
        """Answer; what was asked and answered is kept only if all went well."""
        try:
            reply = runner.run(self._reply(message))
        except KeyboardInterrupt:
            return complain("\nStopped; this exchange is forgotten.")
        except (BackendError, ValueError) as error:
            return complain(str(error))
        if not reply:
            return complain("The model said nothing; this exchange is forgotten.")
        self._said += [message, reply]

    async def _reply(self, message: str) -> str:
        """What the persona says, shown as it comes. Raises BackendError, or ValueError for what cannot be asked."""
        settings = self._settings
        layout = Layout(settings.history, settings.quote, self.name)
        question = Question(
            [*self._said, message], self._persona.facts, options=settings.options, citations=settings.citations,
            memory=settings.memory, layout=layout,
        )  # fmt: skip
        prepared = await self._responder.prepare(question)
        self._retrieved = prepared.prompt.retrieved
        if not settings.hide_facts:
            self._show_retrieved(self._retrieved)
        begun = False
        try:
            async with aclosing(self._responder.stream(prepared)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Answer):
                        answer = piece
                        continue
                    if not begun:
                        print(self._styled(1, plain(f"{self.name}:")), end=" ")
                    print(plain(piece), end="", flush=True)
                    begun = True
        finally:
            if begun:
                print(flush=True)
        if begun:
            self._show_cited(list(dict.fromkeys(placed.citation for placed in answer.citations)))
        return answer.text

    def _show_retrieved(self, retrieved: Sequence[Citation]) -> None:
        lines = [f"  retrieved  {c.score:.3f}  {describe(c)}" for c in retrieved] or ["  retrieved  nothing fits"]
        for line in lines:
            print(self._styled(2, plain(line)), flush=True)

    def _show_cited(self, cited: Sequence[Citation]) -> None:
        for line in [f"  cited      {describe(citation)}" for citation in cited] or ["  cited      nothing"]:
            print(self._styled(2, plain(line)), flush=True)
        print(flush=True)

    def _styled(self, style: int, text: str) -> str:
        """Bold is 1, faint 2."""
        return f"\x1b[{style}m{text}\x1b[0m" if self._settings.styled else text


def describe(citation: Citation) -> str:
    """``[P2] I have two cats.``, with the source if it is of a document."""
    return f"{citation.mark} {citation.fact}" + (f" ({citation.source})" if citation.source else "")


def plain(text: str) -> str:
    """``text`` without control characters but tabs and line ends."""
    return _CONTROL.sub("", text)


def complain(sentence: str) -> None:
    """What went wrong, for the person at the terminal."""
    sys.stdout.flush()
    print(plain(sentence), file=sys.stderr, flush=True)


def typed() -> Iterator[str]:
    """Lines typed at a terminal, which can be edited and called up again, until Ctrl-D."""
    import readline  # noqa: F401 - input() uses it once it is there

    while True:
        try:
            yield input("You: ")
        except EOFError:
            print()
            return


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m inference.chat", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--card", type=Path, help="a fact a line, or a character card V2 (.json); default: the demo's card")
    add("--name", default="", help="of the persona (default: the card's, or Persona)")
    add_options(parser)
    add("--history", choices=HISTORIES, default="turns", help="block: the talk as one script (default: turns)")
    add("--quote", action="store_true", help='lines as Tim: "...", and the reply ends at its closing quote')
    add("--temperature", type=float, help="0: always the likeliest word (default: the backend's)")
    add("--max-tokens", type=int, help="length of a reply at most (default: the backend's)")
    add("--hide-facts", action="store_true", help="do not show what was retrieved for a message")
    return parser


def build(arguments: argparse.Namespace, styled: bool) -> Chat:
    """The chat that the command line asks for. Raises ValueError."""
    options = {}
    if arguments.temperature is not None:
        if not 0 <= arguments.temperature <= 2:
            raise ValueError("--temperature must be from 0 to 2.")
        # Next to nothing would be divided by; what is meant is: always the likeliest word.
        options["temperature"] = arguments.temperature if arguments.temperature >= 0.01 else 0.0
    if arguments.max_tokens is not None:
        if arguments.max_tokens < 1:
            raise ValueError("--max-tokens must be at least 1.")
        options["max_tokens"] = arguments.max_tokens
    persona = read_persona(arguments.card) if arguments.card else Persona("", EXAMPLE)
    settings = Settings(
        options, arguments.citations, arguments.memory, arguments.history, arguments.quote, arguments.name.strip(),
        arguments.hide_facts, styled,
    )  # fmt: skip
    return Chat(build_responder(arguments), persona, settings)


def main() -> None:
    arguments = parser().parse_args()
    styled = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    try:
        chat = build(arguments, styled)
    except ValueError as error:
        complain(str(error))
        sys.exit(2)
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(errors="replace")  # what is no UTF-8 must not end the chat
    if not sys.stdin.isatty():
        lines: Iterable[str] = sys.stdin
    else:
        print(plain(f"This is a chat with {chat.name}; /help lists the commands."))
        lines = typed()
    try:
        chat.run(lines)
    except KeyboardInterrupt:  # at the prompt
        print()


if __name__ == "__main__":
    main()
