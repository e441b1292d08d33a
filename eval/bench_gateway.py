"""What the gateway costs: ``python -m eval.bench_gateway --json OUT`` (``make bench-gateway``).

The same questions go to a stand-in for the model's API directly and through the gateway, in turns, so that what else
the machine does hits both: time that the gateway adds, its share of the throughput of direct calls, and, with a
stand-in that answers at once, its ceiling. Then a long run, in which no answer may be lost and memory must stay flat.
Everything runs on one machine, so with many clients the generator and the stand-in take their share of its cores.
"""

import argparse
import json
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psutil
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.placeholders import fill
from data_prep.reader import read_conversations
from data_prep.sources import find_files
from eval.load import Answer, load, post
from eval.results import check_writable, write_result
from eval.stand_in import SECONDS, events, reply_to
from inference.citations import MarkFilter
from inference.prompts import PromptBuilder
from inference.serving import NotServed, free_port, server
from retrieval.registry import open_retriever, save_retriever

CLIENTS = (1, 16, 64)
MODES = ("plain", "streamed")
SIDES = ("direct", "gateway")
HOST = "127.0.0.1"
TURNS = 5  # of a conversation: three messages and two replies
SAMPLES = 0.2  # seconds between two looks at the memory
WARM = 0.4  # of the long run: until then the caches of words and tokens fill, which are bounded


@dataclass(frozen=True)
class Ask:
    """A question in both modes, and what the gateway must answer: the text, and mark, start and end of citations."""

    number: int
    requests: dict[str, bytes]
    text: str
    citations: list[tuple[str, int, int]]


@dataclass
class Run:
    """What one side answered in one setting. ``seconds``: of all rounds."""

    answers: list[Answer]
    seconds: float = 0.0
    lost: int = 0

    def numbers(self) -> dict:
        """Requests a second, and milliseconds to the first text and to the end."""
        times = np.array([answer.seconds for answer in self.answers]) * 1000
        first = np.array([answer.first for answer in self.answers]) * 1000
        return {
            "requests": len(self.answers),
            "lost": self.lost,
            "per_second": round(len(self.answers) / self.seconds, 2),
            "p50_ms": round(float(np.median(times)), 2),
            "p95_ms": round(float(np.percentile(times, 95)), 2),
            "first_p50_ms": round(float(np.median(first)), 2),
        }


class Asks:
    """Questions as they come in real use: a stored card, and a conversation of the sample with its last message new."""

    def __init__(self):
        self._retriever = open_retriever("small")
        self._prompts = PromptBuilder(self._retriever)
        read, _ = read_conversations(find_files("sample")["train"], "train")
        self._talks = [fill(one) for one in read if len(one.turns) >= TURNS]
        self._next = 0

    def save_retriever(self, path: Path) -> None:
        """The file that the gateway opens the same retriever from."""
        save_retriever(path, self._retriever)

    def put_cards(self, gateway: str) -> None:
        """Store the cards, each under the number of its conversation."""
        with httpx.Client(trust_env=False) as client:
            for number, talk in enumerate(self._talks):
                card = {"name": f"Persona {number}", "facts": talk.cards[1]}
                client.put(f"{gateway}/v1/personas/{number}", json=card).raise_for_status()

    def some(self, count: int, address: tuple[str, int]) -> list[Ask]:
        """Questions that were not asked before, as requests to ``address``."""
        self._next += count
        return [self._ask(number, address) for number in range(self._next - count, self._next)]

    def _ask(self, number: int, address: tuple[str, int]) -> Ask:
        card = number % len(self._talks)
        talk = self._talks[card]
        said = [turn.text for turn in talk.turns[:TURNS]]
        said[-1] += f" (no. {number})"
        messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
        body = {"model": f"persona/{card}", "messages": messages, "temperature": 0.7, "max_tokens": 128}
        requests = {
            mode: post(address, "/v1/chat/completions", json.dumps(body | {"stream": mode == "streamed"}).encode())
            for mode in MODES
        }
        marks = MarkFilter(self._prompts.build(said, talk.cards[1]).shown())
        text = marks.feed(reply_to(number)) + marks.end()
        return Ask(number, requests, text, [(one.citation.mark, one.start, one.end) for one in marks.placed])


def is_right(ask: Ask, answer: Answer, side: str, mode: str) -> bool:
    """Whether it is the answer to this question, and from the gateway the one with the right marks."""
    if answer.status != 200:
        return False
    if side == "direct" and mode == "streamed":
        return answer.body == b"".join(events(reply_to(ask.number)))
    try:
        text, last = _streamed(answer.body) if mode == "streamed" else _plain(answer.body)
    except (ValueError, LookupError, TypeError):
        return False
    if side == "direct":
        return text == reply_to(ask.number)
    return text == ask.text and [(c["mark"], c["start"], c["end"]) for c in last["citations"]] == ask.citations


def _plain(body: bytes) -> tuple[str, dict]:
    answer = json.loads(body)
    return answer["choices"][0]["message"]["content"], answer


def _streamed(body: bytes) -> tuple[str, dict]:
    *lines, done, rest = body.split(b"\n\n")
    if (done, rest) != (b"data: [DONE]", b""):
        raise ValueError("The stream was broken off.")
    chunks = [json.loads(line.removeprefix(b"data: ")) for line in lines]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks), chunks[-1]


@dataclass(frozen=True)
class Servers:
    """The stand-in, which takes ``seconds`` for an answer, and a gateway in front of it."""

    direct: tuple[str, int]
    gateway: tuple[str, int]
    process: psutil.Process
    seconds: float

    def answered(self) -> int:
        """Requests that the stand-in has answered since it began."""
        url = f"http://{self.direct[0]}:{self.direct[1]}/requests"
        return httpx.get(url, trust_env=False).json()["requests"]


@contextmanager
def servers(asks: Asks, seconds: float) -> Iterator[Servers]:
    """Both in processes of their own, until the block ends. ``seconds``: of an answer of the stand-in."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        direct, gateway = (HOST, free_port()), (HOST, free_port())
        arguments = ("--port", str(direct[1]), "--seconds", str(seconds))
        stack.enter_context(server("eval.stand_in", *arguments, url=_models(direct), log=folder / "stand_in.log"))
        asks.save_retriever(folder / "retriever.json")
        arguments = (
            "--backend", f"http://{HOST}:{direct[1]}/v1", "--port", str(gateway[1]),
            "--retriever", str(folder / "retriever.json"), "--tokenizer", "models/persona-tiny",
            "--store", str(folder / "store.sqlite"),
        )  # fmt: skip
        process = stack.enter_context(
            server("inference.gateway", *arguments, url=_models(gateway), log=folder / "gateway.log")
        )
        asks.put_cards(f"http://{HOST}:{gateway[1]}")
        yield Servers(direct, gateway, psutil.Process(process.pid), seconds)


def _models(address: tuple[str, int]) -> str:
    return f"http://{address[0]}:{address[1]}/v1/models"


def compare(asks: Asks, there: Servers, mode: str, clients: int, requests: int, rounds: int) -> dict:
    """``requests`` on either side in ``rounds``, the sides by turns; what the gateway adds, and its share."""
    runs = {side: Run([]) for side in SIDES}
    per_round = max(clients, requests // rounds)
    title = f"{mode}, {clients} at a time"
    with tqdm(total=2 * per_round * rounds, desc=title, leave=False) as progress:
        for number in range(rounds):
            for side in SIDES if number % 2 else SIDES[::-1]:
                _ask_all(runs[side], asks.some(per_round, getattr(there, side)), there, side, mode, clients, progress)
    direct, gateway = (runs[side].numbers() for side in SIDES)
    return {
        "direct": direct,
        "gateway": gateway,
        "added_p50_ms": round(gateway["p50_ms"] - direct["p50_ms"], 2),
        "share_of_direct": round(gateway["per_second"] / direct["per_second"], 4),
    }


def _ask_all(run: Run, some: list[Ask], there: Servers, side: str, mode: str, clients: int, progress: tqdm) -> None:
    wire = [ask.requests[mode] for ask in some]
    found, seconds = load(getattr(there, side), wire, clients, progress.update, there.seconds)
    run.seconds += seconds
    for ask, answer in zip(some, found, strict=True):
        if answer is not None:
            run.answers.append(answer)
        run.lost += answer is None or not is_right(ask, answer, side, mode)


def long_run(asks: Asks, there: Servers, requests: int, clients: int) -> dict:
    """Plain and streamed by turns through the gateway, each answer checked, with the gateway's memory in MiB."""
    some = [asks.some(1, there.gateway)[0] for _ in tqdm(range(requests), desc="questions", leave=False)]
    modes = [MODES[number % 2] for number in range(requests)]
    before = there.answered()
    with _memory(there.process) as rss, tqdm(total=requests, desc=f"long run, {clients} at a time") as progress:
        wire = [ask.requests[mode] for ask, mode in zip(some, modes, strict=True)]
        found, seconds = load(there.gateway, wire, clients, progress.update, there.seconds)
    right = [
        answer is not None and is_right(ask, answer, "gateway", mode)
        for ask, answer, mode in zip(some, found, modes, strict=True)
    ]
    warm = rss[int(len(rss) * WARM) :]
    tenth = max(1, len(warm) // 10)
    after, end = mean(warm[:tenth]), mean(warm[-tenth:])
    return {
        "clients": clients, "requests": requests, "lost": right.count(False),
        "cited": sum(len(ask.citations) for ask in some), "asked_of_the_backend": there.answered() - before,
        "per_second": round(requests / seconds, 2),
        "rss_mib": {"curve": [round(rss[len(rss) * n // 10], 1) for n in range(10)], "after_warm_up": round(after, 1),
                    "end": round(end, 1), "growth": round(end - after, 1)},
    }  # fmt: skip


@contextmanager
def _memory(process: psutil.Process) -> Iterator[list[float]]:
    """Resident memory of ``process`` in MiB, looked at from a thread until the block ends; at least once."""
    seen, over = [], threading.Event()

    def look() -> None:
        while True:
            seen.append(process.memory_info().rss / 2**20)
            if over.wait(SAMPLES):
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def measure(seconds: float, requests: int, per_client: int) -> dict:
    """All measurements. ``per_client``: questions of each client in a comparison."""
    asks = Asks()
    with servers(asks, seconds) as there:
        _warm_up(asks, there)
        usual = {
            f"{mode}, {clients}": compare(asks, there, mode, clients, clients * _times(per_client, clients), rounds)
            for mode in MODES
            for clients in CLIENTS
            for rounds in [_times(per_client, clients) if clients == 1 else max(2, per_client // 10)]
        }
        long = long_run(asks, there, requests, max(CLIENTS))
    with servers(asks, 0) as there:
        _warm_up(asks, there)
        at_once = {
            f"{mode}, {clients}": compare(asks, there, mode, clients, 20 * per_client, max(2, per_client // 2))
            for mode in MODES
            for clients in CLIENTS
        }
    return {"usual": usual, "at_once": at_once, "long_run": long}


def _times(per_client: int, clients: int) -> int:
    """One client alone asks more often, so that its median is firm."""
    return 3 * per_client if clients == 1 else per_client


def _warm_up(asks: Asks, there: Servers) -> None:
    for side in SIDES:
        for mode in MODES:
            load(getattr(there, side), [ask.requests[mode] for ask in asks.some(20, getattr(there, side))], 4, int)


def table(result: dict) -> str:
    """The result for people."""
    head = f"{'':22}{'direct/s':>10}{'gateway/s':>10}{'share':>8}{'p50 ms':>9}{'p95 ms':>9}{'added ms':>10}{'lost':>6}"
    lines = []
    for kind, title in (("usual", "Model takes its time"), ("at_once", "Model answers at once")):
        lines += [title, head]
        for name, found in result[kind].items():
            direct, gateway = found["direct"], found["gateway"]
            lines.append(
                f"  {name:20}{direct['per_second']:10.1f}{gateway['per_second']:10.1f}{found['share_of_direct']:8.1%}"
                f"{gateway['p50_ms']:9.1f}{gateway['p95_ms']:9.1f}{found['added_p50_ms']:10.2f}"
                f"{direct['lost'] + gateway['lost']:6}"
            )
    long = result["long_run"]
    rss = long["rss_mib"]
    lines.append(
        f"Long run: {long['requests']:,} requests, {long['clients']} at a time, {long['lost']} lost,"
        f" {long['per_second']:.1f}/s; memory {rss['after_warm_up']} MiB after warm-up, {rss['end']} at the end"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.bench_gateway", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--seconds", type=float, default=SECONDS, help=f"an answer of the stand-in takes (default: {SECONDS})")
    add("--requests", type=int, default=10_000, help="of the long run (default: 10,000)")
    add("--per-client", type=int, default=20, metavar="N", help="questions of each in a comparison (default: 20)")
    add("--json", type=Path, required=True, metavar="OUT", help="where to write the result")
    arguments = parser.parse_args()
    if arguments.seconds < 0 or arguments.requests < 1 or arguments.per_client < 1:
        print("--requests and --per-client must be at least 1, and --seconds not negative.", file=sys.stderr)
        sys.exit(2)
    try:
        check_writable(arguments.json)
        result = measure(arguments.seconds, arguments.requests, arguments.per_client)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except NotServed as failure:
        sys.exit(str(failure))
    result |= {"cores": os.cpu_count(), "python": platform.python_version()}
    config = {"seconds": arguments.seconds, "requests": arguments.requests, "per_client": arguments.per_client,
              "clients": CLIENTS, "turns": TURNS, "pieces": len(events(reply_to(0))) - 1}  # fmt: skip
    write_result(arguments.json, config, [find_files("sample")["train"]], result)
    print(table(result))


if __name__ == "__main__":
    main()
