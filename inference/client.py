"""Ask a persona: ``python -m inference.client --card card.txt "What do you do on weekends?"``.

Retrieves the facts that matter for each message, sends the prompt the model was trained on to an OpenAI-compatible
API, and resolves the marks of the reply. Several messages are asked one after the other, in one conversation.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import httpx2
import openai

from inference.card_file import read_card
from inference.prompts import Citation, Prompt, PromptBuilder
from inference.served import BASE_URL, LOOPBACK, check_trained_with, host_of
from retrieval.base import Retriever
from retrieval.registry import load_retriever
from retrieval.store import FactStore
from retrieval.text import CARD, DOCUMENTS, mark, marked_indices


@dataclass(frozen=True)
class Reply:
    """What the model said. ``unresolved``: marks that point at nothing in the prompt."""

    text: str
    citations: list[Citation]
    retrieved: list[Citation]
    unresolved: list[str]


def open_api(base_url: str, api_key: str, http_client: httpx2.Client | None = None) -> openai.OpenAI:
    """The API at an address. Raises ValueError for an address that is none."""
    host = host_of(base_url)
    if http_client is None and host in LOOPBACK:
        # A proxy set for the outside world cannot reach this machine's loopback.
        http_client = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=base_url, api_key=api_key, http_client=http_client)


def first_model(api: openai.OpenAI) -> str:
    """The name of the first model that the API lists. Raises ValueError if it lists none."""
    served = api.models.list().data
    if not served:
        raise ValueError("The API lists no model; name the one it serves with --model.")
    return served[0].id


def sentence_of(error: openai.APIError, base_url: str) -> str:
    """What went wrong at the API, and what to do, in one sentence."""
    match error:
        case openai.APIConnectionError():
            return f"No API answers at {base_url}; start one with `make serve`, or name another with --base-url."
        case openai.AuthenticationError():
            return f"The API at {base_url} refuses the key; set API_KEY to the one it was started with."
        case openai.NotFoundError():
            return f"There is no API at {base_url}; its address usually ends in /v1."
        case openai.APIStatusError():
            return f"The API at {base_url} answered {error.status_code}: {error.response.text[:200]}"
        case _:
            return f"The API at {base_url} gave an answer that is none ({error.message})."


class PersonaClient:
    """``PersonaClient(base_url, api_key, retriever).reply(messages, card)``.

    ``retriever`` must be the one the training data was made with: ``load_retriever(Path("data/retriever.json"))``, or
    the copy beside the model. ``documents`` are shown below the facts, where they fit. ``model`` names the served
    model; None takes the first that the API lists. ``http_client`` is handed to ``openai``.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        retriever: Retriever,
        *,
        documents: FactStore | None = None,
        model: str | None = None,
        http_client: httpx2.Client | None = None,
    ):
        self._api = open_api(base_url, api_key, http_client)
        self._prompts = PromptBuilder(retriever, documents)
        self._model = model

    @cached_property
    def model(self) -> str:
        """The name of the model that is asked.

        Raises ValueError if the API lists none, or if it says ``persona@<identity>`` of another retriever than ours.
        """
        name = self._model or first_model(self._api)
        check_trained_with(name, self._prompts.retriever)
        return name

    def reply(self, messages: Sequence[dict], card: Sequence[str], **options) -> Reply:
        """The persona's reply to the last of ``messages``.

        ``messages``: ``{"role": ..., "content": ...}`` in OpenAI's form, user and assistant in turn, the user first and
        last; earlier replies keep their marks. ``card``: the facts in their order. ``options`` go to the API as they
        are (``temperature=0``, ``max_tokens=80``). Raises ValueError for an empty card, for other roles and for content
        that is no text, and what ``openai`` raises when the API cannot be reached or refuses.
        """
        prompt = self.prompt(messages, card)
        completion = self._api.chat.completions.create(model=self.model, messages=prompt.messages, **options)
        text = completion.choices[0].message.content or ""
        shown = prompt.shown()
        marks = [mark(index, letter) for letter in (CARD, DOCUMENTS) for index in marked_indices(text, letter)]
        return Reply(
            text, [shown[m] for m in marks if m in shown], prompt.retrieved, [m for m in marks if m not in shown]
        )

    def prompt(self, messages: Sequence[dict], card: Sequence[str]) -> Prompt:
        """What is sent to the API, with what was found for each message. Raises ValueError as ``reply`` does."""
        roles = [message["role"] for message in messages]
        if not messages or roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
            raise ValueError(f"messages must be user, assistant, ..., user in turn, not {', '.join(roles) or 'none'}.")
        for message in messages:
            if not isinstance(message["content"], str):
                raise ValueError(f"The content of a message must be text, not {message['content']!r}.")
        return self._prompts.build([message["content"] for message in messages], card)


def format_reply(message: str, reply: Reply) -> str:
    """A message, the facts retrieved for it with their scores, and the reply, as text for a terminal."""
    facts = [
        f"  retrieved  {c.score:.3f}  {c.mark} {c.fact}" + (f" ({c.source})" if c.source else "")
        for c in reply.retrieved
    ] or ["  retrieved  nothing fits"]
    cited = ", ".join(c.mark for c in reply.citations) or "nothing"
    unresolved = f"; {', '.join(reply.unresolved)} point at no fact shown" if reply.unresolved else ""
    return "\n".join([f"You: {message}", *facts, f"Persona: {reply.text}", f"  cited      {cited}{unresolved}"])


def ask(client: PersonaClient, card: Sequence[str], messages: Sequence[str], as_json: bool, **options) -> None:
    """Ask ``messages`` one after the other in one conversation and print each reply."""
    history: list[dict] = []
    for message in messages:
        history.append({"role": "user", "content": message})
        reply = client.reply(history, card, **options)
        history.append({"role": "assistant", "content": reply.text})
        if as_json:
            print(json.dumps({"message": message, **asdict(reply)}, ensure_ascii=False), flush=True)
        else:
            print(format_reply(message, reply) + "\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m inference.client", description=__doc__.split("\n")[0])
    parser.add_argument("messages", nargs="+", metavar="MESSAGE")
    parser.add_argument("--card", type=Path, required=True, help="text file, one fact a line")
    parser.add_argument("--base-url", default=BASE_URL, help=f"of the API (default: {BASE_URL})")
    parser.add_argument("--model", help="name of the served model (default: the first the API lists)")
    parser.add_argument("--retriever", type=Path, default=Path("data/retriever.json"), help="what `make data` saved")
    parser.add_argument("--documents", type=Path, help="what `python -m retrieval.documents` wrote (default: none)")
    parser.add_argument("--temperature", type=float, help="0: always the likeliest word (default: the server's)")
    parser.add_argument("--max-tokens", type=int, help="length of a reply at most (default: the server's)")
    parser.add_argument("--json", action="store_true", help="one JSON object a message")
    arguments = parser.parse_args()
    options = {"temperature": arguments.temperature, "max_tokens": arguments.max_tokens}
    try:
        card = read_card(arguments.card)
        retriever = load_retriever(arguments.retriever)
        # The key that LLaMA-Factory's API is started with; `openai` wants one even where the server does not.
        client = PersonaClient(
            arguments.base_url, os.environ.get("API_KEY") or "none", retriever,
            documents=FactStore.open(arguments.documents) if arguments.documents else None, model=arguments.model,
        )  # fmt: skip
        given = {key: value for key, value in options.items() if value is not None}
        ask(client, card, arguments.messages, arguments.json, **given)
    except OSError:
        _fail(f"{arguments.retriever} cannot be read; make it with `make data`, or name another with --retriever.")
    except ValueError as error:
        _fail(str(error))
    except openai.APIError as error:
        _fail(sentence_of(error, arguments.base_url))


def _fail(sentence: str) -> None:
    print(sentence, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
