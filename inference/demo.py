"""The whole path on a laptop CPU: ``python -m inference.demo`` (``make demo``).

Reads top to bottom: sample to datasets, a tiny model, LLaMA-Factory's training, LLaMA-Factory's API, three questions
through the client, and a closing page. Each step is a command that you can run yourself; it is printed before it
runs. Everything lands in ``saves/demo``; ``data/`` and other runs stay as they are.
"""

import argparse
import ctypes
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inference.card_file import EXAMPLE
from inference.client import PersonaClient, Reply, format_reply
from retrieval.registry import load_retriever

FOLDER = Path("saves/demo")
SECONDS_TO_START = 180

QUESTIONS = ["Do you have a dog or a cat?", "Do you work every morning?", "Do you play in a band, or do you work?"]


class StepFailed(Exception):
    """A command of the demo ended badly; the message says which, and where its output is."""


def main() -> None:
    argparse.ArgumentParser(prog="python -m inference.demo", description=__doc__.split("\n")[0]).parse_args()
    # A closed terminal or a plain kill ends the demo the way Ctrl-C does: through every `finally`.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    try:
        print(demo(FOLDER))
    except StepFailed as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit(130)


def demo(folder: Path) -> str:
    """Run all steps and return the closing page, which is also in ``page.txt``. Raises StepFailed."""
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    step("1/4  The bundled sample becomes LLaMA-Factory datasets")
    run("data_prep.build", "--spc", "sample", "--out", str(folder / "data"))
    step("2/4  LLaMA-Factory trains persona-tiny on them")
    train(folder)
    step("3/4  LLaMA-Factory's API serves it")
    with api(folder / "model", folder / "api.log") as base_url:
        step("4/4  Three questions through the client")
        replies = ask(base_url, folder / "data" / "retriever.json")
    page = closing_page(replies, folder, time.monotonic() - started)
    (folder / "page.txt").write_text(page, encoding="utf-8")
    return page


def step(title: str) -> None:
    print(f"\n== {title}", flush=True)


def command(module: str, *arguments: str) -> list[str]:
    """The command line of one of our modules; printed, so that it can be run again by hand."""
    print(f"$ {shlex.join(['python', '-m', module, *arguments])}", flush=True)
    return [sys.executable, "-m", module, *arguments]


def run(module: str, *arguments: str) -> None:
    if subprocess.run(command(module, *arguments)).returncode:
        raise StepFailed(f"python -m {module} failed; what it printed is above.")


def train(folder: Path) -> None:
    """LLaMA-Factory writes pages of log: they go to a file, and its own progress record is shown a line at a time."""
    log, output = folder / "train.log", folder / "model"
    arguments = ("train", "tiny/full", f"dataset_dir={folder / 'data'}", f"output_dir={output}")
    arguments += ("max_steps=120", 'save_strategy="no"', "eval_dataset=spc_sharegpt_valid", "eval_on_start=true")
    arguments += ("eval_strategy=steps", "eval_steps=40")
    with child("llamafactory_configs.run", *arguments, log=log) as process:
        shown = ""
        while process.poll() is None:
            time.sleep(1)
            line = last_progress(output / "trainer_log.jsonl")
            if line and line != shown:
                print(f"  {line}", flush=True)
                shown = line
        if process.returncode:
            raise StepFailed(f"The training failed; its output is in {log}.")


def last_progress(path: Path) -> str | None:
    """The newest line of LLaMA-Factory's ``trainer_log.jsonl`` that has a loss, in words."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # the line is being written at this moment
            continue
        if "loss" in entry:
            done, total = entry["current_steps"], entry["total_steps"]
            return f"step {done:4d} of {total}   loss {entry['loss']:.3f}   {entry['remaining_time']} left"
    return None


@contextmanager
def api(model: Path, log: Path) -> Iterator[str]:
    """Serve ``model`` on a free port, wait until it answers, give its base URL; it ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    base_url = f"http://127.0.0.1:{port}/v1"
    arguments = ("serve", "tiny/full", f"model_name_or_path={model}")
    with child("llamafactory_configs.run", *arguments, log=log, env={"API_PORT": str(port)}) as process:
        print(f"  waiting for {base_url} ", end="", flush=True)
        deadline = time.monotonic() + SECONDS_TO_START
        while not answers(f"{base_url}/models"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StepFailed(f"The API did not start; its output is in {log}.")
            print(".", end="", flush=True)
            time.sleep(1)
        print(" up", flush=True)
        yield base_url


def answers(url: str) -> bool:
    """Whether something answers at ``url``, whatever it says (an API_KEY in the environment makes it say 401)."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def child(module: str, *arguments: str, log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """Run a module in the background, output to ``log``; it is ended with the block, whatever happens."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command(module, *arguments),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | (env or {}),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def die_with_parent() -> None:
    """Linux only: have the kernel end this process when the demo is killed outright (no `finally` runs then)."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1  # prctl(2)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def ask(base_url: str, retriever: Path) -> list[Reply]:
    client = PersonaClient(base_url, os.environ.get("API_KEY") or "none", load_retriever(retriever))
    replies = []
    for question in QUESTIONS:
        print(f"  {question}", flush=True)
        replies.append(client.reply([{"role": "user", "content": question}], EXAMPLE, temperature=0, max_tokens=60))
    return replies


def closing_page(replies: list[Reply], folder: Path, seconds: float) -> str:
    """The card, each question with facts and reply, the loss before and after, and where things are."""
    history = json.loads((folder / "model" / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    train_loss = [entry["loss"] for entry in history if "loss" in entry]
    valid_loss = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    first_steps = next(entry["step"] for entry in history if "loss" in entry)
    rule = "-" * 78
    lines = ["", rule, "The card", *(f"  [P{i}] {fact}" for i, fact in enumerate(EXAMPLE, start=1)), ""]
    for question, reply in zip(QUESTIONS, replies, strict=True):
        lines += [format_reply(question, reply), ""]
    lines += [
        "Loss, nats per token          before    after",
        f"  held-out conversations      {valid_loss[0]:6.2f}   {valid_loss[-1]:6.2f}",
        f"  training, {first_steps:2} steps each      {train_loss[0]:6.2f}   {train_loss[-1]:6.2f}",
        f"Loss curve: {folder}/model/training_loss.png",
        f"This page:  {folder}/page.txt   ({seconds / 60:.1f} minutes)",
        rule,
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
