"""The whole path on a laptop CPU: ``python -m inference.demo`` (``make demo``).

Reads top to bottom: sample to datasets, a tiny model, LLaMA-Factory's training, LLaMA-Factory's API, three questions
through the client, and a closing page. Each step is a command that you can run yourself; it is printed before it
runs. Everything lands in ``saves/demo``; ``data/`` and other runs stay as they are.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from inference.card_file import EXAMPLE
from inference.client import PersonaClient, Reply, format_reply
from inference.serving import NotServed, child, command, end_as_by_ctrl_c, model_api
from retrieval.registry import load_retriever

FOLDER = Path("saves/demo")

QUESTIONS = ["Do you have a dog or a cat?", "Do you work every morning?", "Do you play in a band, or do you work?"]


class StepFailed(Exception):
    """A command of the demo ended badly; the message says which, and where its output is."""


def main() -> None:
    argparse.ArgumentParser(prog="python -m inference.demo", description=__doc__.split("\n")[0]).parse_args()
    end_as_by_ctrl_c()
    try:
        print(demo(FOLDER))
    except (StepFailed, NotServed) as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit(130)


def demo(folder: Path) -> str:
    """Run all steps and return the closing page, which is also in ``page.txt``. Raises StepFailed, NotServed."""
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    step("1/4  The bundled sample becomes LLaMA-Factory datasets")
    run("data_prep.build", "--spc", "sample", "--out", str(folder / "data"))
    step("2/4  LLaMA-Factory trains persona-tiny on them")
    train(folder)
    step("3/4  LLaMA-Factory's API serves it")
    with model_api("tiny/full", f"model_name_or_path={folder / 'model'}", log=folder / "api.log") as base_url:
        step("4/4  Three questions through the client")
        replies = ask(base_url, folder / "data" / "retriever.json")
    page = closing_page(replies, folder, time.monotonic() - started)
    (folder / "page.txt").write_text(page, encoding="utf-8")
    return page


def step(title: str) -> None:
    print(f"\n== {title}", flush=True)


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
