"""Pictures of the page while a model answers: ``python -m eval.screenshots qwen3-1.7b/lora``.

Serves the model, puts the gateway in front of it, and talks to a person on the page in Chromium, as people would: one
picture in English with the fact behind a mark, one in Chinese with the facts retrieved for the last message.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import httpx

from data_prep.errors import InputError
from data_prep.provenance import sha256
from eval.browser import chromium
from eval.models import folder_of
from eval.results import check_writable, write_result, write_whole
from inference.card_file import EXAMPLE, Persona, read_persona
from inference.demo import QUESTIONS
from inference.serving import NotServed, end_as_by_ctrl_c, free_port, model_api, server
from llamafactory_configs.config import ConfigurationError, find_config, load_config
from llamafactory_configs.retriever_record import RECORD, model_folder
from retrieval.registry import open_retriever, save_retriever

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAME = "Robin"
WIDTH, HEIGHT = 1000, 700
SECONDS_TO_START = 1800  # the model may have to be fetched first
SECONDS_TO_REPLY = 600  # of a large model on a CPU
# Without a font for them, all characters are the same box.
DRAWS_CHINESE = """() => {
  const drawn = (character) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 40;
    const context = canvas.getContext("2d");
    context.font = "30px sans-serif";
    context.fillText(character, 0, 32);
    return canvas.toDataURL();
  };
  return drawn("人") !== drawn("事");
}"""
CAPTIONS = {
    "page-en.png": {
        "en": "The chat page: a reply with its marks, and the fact behind one of them with its retrieval score.",
        "zh": "对话页面：带标记的回复，以及其中一个标记所指的事实和检索得分。",
    },
    "page-zh.png": {
        "en": "The same conversation on the Chinese page, with the facts retrieved for the last message.",
        "zh": "同一对话的中文页面，显示为最后一条消息检索到的事实。",
    },
}


@contextmanager
def gateway(config: str, folder: Path) -> Iterator[str]:
    """The address of a gateway with nothing stored, in front of what ``config`` serves.

    Raises NotServed, or ConfigurationError if there is no such configuration.
    """
    loaded = load_config(find_config("serve", config))
    record = model_folder(loaded) / RECORD
    if not record.is_file():  # a model that was not trained on what some retriever found
        record = folder / RECORD
        save_retriever(record, open_retriever("small"))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        # Greedy: who takes the pictures anew sees the same replies.
        api = model_api(config, "do_sample=false", log=folder / "api.log", seconds=SECONDS_TO_START)
        arguments = (
            "--backend", stack.enter_context(api), "--port", str(port), "--retriever", str(record),
            "--tokenizer", str(folder_of(loaded.model_name_or_path)), "--store", str(folder / "gateway.sqlite"),
        )  # fmt: skip
        stack.enter_context(server("inference.gateway", *arguments, url=f"{url}/", log=folder / "gateway.log"))
        yield url


def pictures(browser: "Browser", url: str, person: Persona, messages: Sequence[str]) -> dict[str, bytes]:
    """PNG by file name, of a talk with ``person`` on the page at ``url``; the Chinese one only where a font for it is.

    Raises InputError if a reply fails.
    """
    card = {"name": person.name or NAME, "facts": person.facts}
    httpx.put(f"{url}/v1/personas/person", json=card, trust_env=False).raise_for_status()
    page = browser.new_page(
        viewport={"width": WIDTH, "height": HEIGHT}, locale="en-GB", color_scheme="light", reduced_motion="reduce"
    )
    page.goto(url)
    page.wait_for_load_state("networkidle")
    for number, message in enumerate(messages, start=1):
        print(f"  {message}", flush=True)
        page.fill("#message", message)
        page.press("#message", "Enter")
        _wait_for_reply(page, number)
    mark = page.locator(".turn .mark").first
    if mark.count():
        mark.scroll_into_view_if_needed()
        page.wait_for_timeout(300)  # scrolling closes what the click opens, and its event comes late
        mark.click()
    taken = {"page-en.png": page.screenshot()}
    page.keyboard.press("Escape")
    page.click("#language")
    page.locator(".turn details summary").last.click()
    page.locator("#log").evaluate("log => log.scrollTo(0, log.scrollHeight)")
    if page.evaluate(DRAWS_CHINESE):
        taken["page-zh.png"] = page.screenshot()
    else:
        print("There is no page-zh.png: no Chinese font is installed here, such as Noto Sans CJK.", file=sys.stderr)
    return taken


def _wait_for_reply(page: "Page", number: int) -> None:
    """Until that many replies are whole. Raises InputError with what the page says, if it is a fault."""
    deadline = time.monotonic() + SECONDS_TO_REPLY
    # Not by playwright's wait_for_function, which evaluates text in the page: the page's policy forbids that.
    while page.locator(".turn details").count() < number or not page.is_visible("#send"):
        said = page.inner_text("#notice")
        if said or time.monotonic() > deadline:
            raise InputError(f"Reply {number} did not come: {said or f'nothing within {SECONDS_TO_REPLY} s'}")
        page.wait_for_timeout(100)


def write_pictures(folder: Path, taken: dict[str, bytes]) -> list[dict]:
    """Each whole or not at all; gives what the result says of them. ``folder`` is beside the result."""
    found = []
    for name, content in taken.items():
        write_whole(folder / name, content)
        hashed = sha256(folder / name)
        found.append({"file": f"{folder.name}/{name}", "sha256": hashed, "caption": CAPTIONS[name]})
    return found


def _person(card: Path | None) -> Persona:
    """Of a file, or the example. Raises InputError if the file cannot be read or holds no fact."""
    try:
        return read_persona(card) if card else Persona(NAME, EXAMPLE)
    except ValueError as error:
        raise InputError(str(error)) from None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.screenshots", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("config", metavar="CONFIG", help="as for `make serve`, e.g. qwen3-1.7b/lora, or a YAML file")
    add("--card", type=Path, metavar="FILE", help="a fact a line, or a character card V2 (default: an example)")
    add("--message", action="append", metavar="TEXT", help="to the person; can be repeated (default: the demo's three)")
    add("--json", type=Path, default=Path("reports/results/screenshots.json"), metavar="OUT",
        help="the result; screenshots/ comes beside it (default: reports/results/screenshots.json)")  # fmt: skip
    arguments = parser.parse_args()
    end_as_by_ctrl_c()
    messages = arguments.message or QUESTIONS
    try:
        check_writable(arguments.json)
        person = _person(arguments.card)
        with chromium() as browser, TemporaryDirectory() as folder, gateway(arguments.config, Path(folder)) as url:
            version, taken = browser.version, pictures(browser, url, person, messages)
    except (InputError, ConfigurationError, NotServed) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    shown = write_pictures(arguments.json.with_name("screenshots"), taken)
    config = {
        "config": arguments.config, "name": person.name or NAME, "facts": person.facts, "messages": messages,
        "width": WIDTH, "height": HEIGHT, "chromium": version,
    }  # fmt: skip
    inputs = [find_config("serve", arguments.config), *([arguments.card] if arguments.card else [])]
    write_result(arguments.json, config, inputs, {"screenshots": shown})
    print(", ".join(str(arguments.json.parent / one["file"]) for one in shown))


if __name__ == "__main__":
    main()
