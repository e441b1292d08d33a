"""Draw a run's loss curve and say what is amiss with it: ``python -m eval.loss_curve saves/tiny/lora``.

Reads what LLaMA-Factory leaves there, during a run as well, and writes loss_curve.png and loss_curve.json beside it.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from data_prep.errors import InputError
from eval.loss_findings import FEWEST, THRESHOLDS, Curve, Finding, findings, smooth
from eval.results import write_result

LOG, STATE = "trainer_log.jsonl", "trainer_state.json"
NUMBERS = ("step", "epoch", "loss", "eval_loss", "grad_norm", "train_loss")
BLUE, RED, GREY = "#1f77b4", "#d62728", "#999999"


def read_curve(folder: Path) -> tuple[Curve, list[Path], list[Path]]:
    """The curve of the run in ``folder``, the files that it was read from, and the states that are cut off.

    The log is the record: it grows with every line, while a state is written at checkpoints and at the end only, and
    one of an earlier run may still lie there. The newest state stands in for a missing log, and where it has the same
    loss at the same step it adds what the log lacks. Raises InputError if there is no record, or a broken one.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name the output_dir of a run, such as saves/tiny/lora.")
    log = folder / LOG
    state, history, cut_off = _newest_state(folder)
    train, evaluation = _latest(_log_entries(log) if log.is_file() else history)
    if not train and cut_off and not log.is_file():
        raise InputError(f"{cut_off[0]} ends in the middle, and {folder} holds no other record; train again.")
    if not train:
        raise InputError(
            f"{folder} holds no training loss in {LOG} or {STATE}; train first, or name the output_dir of a run."
        )
    gradients = {(entry["step"], entry["loss"]): entry.get("grad_norm", 0.0) for entry in history if "loss" in entry}
    points = [(entry["step"], entry["loss"]) for entry in train]
    # A state that ends elsewhere is of an earlier run, or of this one before it ended: its mean is not of this curve.
    means = [entry["train_loss"] for entry in history if "train_loss" in entry and points[-1:] == [*gradients][-1:]]
    curve = Curve(
        steps=np.array([entry["step"] for entry in train]),
        loss=np.array([entry["loss"] for entry in train], dtype=float),
        epochs=np.array([entry["epoch"] for entry in train], dtype=float),
        failed=np.array([not np.isfinite(gradients.get(point, 0.0)) for point in points]),
        eval_steps=np.array([entry["step"] for entry in evaluation]),
        eval_loss=np.array([entry["eval_loss"] for entry in evaluation], dtype=float),
        train_loss=means[-1] if means else None,
    )
    return curve, [path for path in (log, state) if path and path.is_file()], cut_off


def _newest_state(folder: Path) -> tuple[Path | None, list[dict], list[Path]]:
    """The state that got furthest (of equals the folder's own), its history, and the states that are cut off.

    A run that is killed while it writes a state leaves it cut off; the one before it is whole.
    Raises InputError if a file is no state.
    """
    histories, cut_off = {}, []
    for path in (*folder.glob(STATE), *folder.glob(f"checkpoint-*/{STATE}")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if not text.endswith("}\n"):  # the trainer writes this last
            cut_off.append(path)
            continue
        history = _parsed(text, str(path)).get("log_history")
        if not isinstance(history, list):
            raise InputError(f"{path} is broken: it has no log_history; remove it, or train again.")
        histories[path] = [_checked(entry, f"{path}, log_history") for entry in history]
    newest = max(histories, key=lambda path: max((entry["step"] for entry in histories[path]), default=0), default=None)
    return newest, histories.get(newest, []), cut_off


def _log_entries(log: Path) -> list[dict]:
    """The lines of LLaMA-Factory's log with the names that the state uses. Raises InputError if one is broken."""
    entries = []
    for number, line in enumerate(log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True), 1):
        if not line.endswith("\n"):  # being written, or the run was killed while it was
            break
        entry = _parsed(line, f"{log}, line {number}")
        if "current_steps" in entry:
            entry["step"] = entry.pop("current_steps")
        entries.append(_checked(entry, f"{log}, line {number}"))
    return entries


def _parsed(text: str, where: str) -> dict:
    """A JSON object, NaN allowed. Raises InputError if ``text`` is none."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where} is broken: not JSON ({error}); remove it, or train again.") from None
    if not isinstance(value, dict):
        raise InputError(f"{where} is broken: not a JSON object; remove it, or train again.")
    return value


def _checked(entry: object, where: str) -> dict:
    """``entry`` itself. Raises InputError unless it is an object with a step and with numbers where they belong."""
    if not isinstance(entry, dict) or "step" not in entry or ("loss" in entry and "epoch" not in entry):
        raise InputError(f"{where} is broken: an entry without its step or epoch; remove it, or train again.")
    for name in NUMBERS:
        if name in entry and not isinstance(entry[name], int | float):
            raise InputError(f"{where} is broken: {name} is {entry[name]!r}, no number; remove it, or train again.")
    return entry


def _latest(entries: list[dict]) -> tuple[list[dict], list[dict]]:
    """The entries with a training loss, and those with an evaluation loss, each by rising step.

    A resumed run goes back to its checkpoint and logs the steps after it again; what it logged there before was
    learned by a model that is no more. At one step the trainer logs first and evaluates then.
    """
    kept = []
    for entry in entries:
        if "loss" in entry or "eval_loss" in entry:
            place = (entry["step"], "eval_loss" in entry)
            while kept and kept[-1][0] >= place:
                kept.pop()
            kept.append((place, entry))
    return tuple([entry for _, entry in kept if name in entry] for name in ("loss", "eval_loss"))


def draw(curve: Curve, found: list[Finding], title: str, path: Path) -> None:
    """Write the picture, as PNG, whole or not at all."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="step", ylabel="loss")
    ends = np.arange(1, int(curve.epochs[-1]) + 1)
    for number, step in enumerate(np.interp(ends, curve.epochs, curve.steps)):
        axes.axvline(step, color=GREY, linewidth=0.5, label="end of an epoch" if number == 0 else None)
    axes.plot(curve.steps, curve.loss, color=BLUE, alpha=0.3, label="training, as logged")
    axes.plot(curve.steps, smooth(curve.loss), color=BLUE, label="training, running median")
    if curve.eval_steps.size:
        axes.plot(curve.eval_steps, curve.eval_loss, color=RED, marker="o", markersize=4, label="evaluation")
    for finding in found:
        axes.axvline(finding.step, color=RED, linestyle=":", linewidth=1)
        axes.annotate(finding.name, (finding.step, 1), (2, -2), xycoords=("data", "axes fraction"),
                      textcoords="offset points", rotation=90, va="top", fontsize=8, color=RED)  # fmt: skip
    axes.legend(frameon=False)
    staging = path.with_name(f".{path.name}.staging")
    figure.savefig(staging, format="png", dpi=150)
    staging.replace(path)


def summary(curve: Curve) -> str:
    """``Loss 3.468 at step 10, 1.595 at step 120; lowest evaluation loss 2.619 at step 120.``"""
    text = f"Loss {curve.loss[0]:.3f} at step {curve.steps[0]}, {curve.loss[-1]:.3f} at step {curve.steps[-1]}"
    if not np.isfinite(curve.eval_loss).any():
        return f"{text}; no evaluation loss."
    lowest = np.nanargmin(np.where(np.isfinite(curve.eval_loss), curve.eval_loss, np.nan))
    return f"{text}; lowest evaluation loss {curve.eval_loss[lowest]:.3f} at step {curve.eval_steps[lowest]}."


def judge(folder: Path) -> tuple[Curve, list[Finding], list[Path]]:
    """Write picture and JSON into ``folder``; return the curve, what is amiss, and the states that are cut off.

    In the JSON a loss that is NaN or infinite is null. Raises InputError if there is no record, or a broken one.
    """
    curve, sources, cut_off = read_curve(folder)
    found = findings(curve)
    numbers = lambda values: [float(value) if np.isfinite(value) else None for value in values]  # noqa: E731
    result = {
        "folder": str(folder),
        "steps": curve.steps.tolist(),
        "loss": numbers(curve.loss),
        "epochs": numbers(curve.epochs),
        "eval_steps": curve.eval_steps.tolist(),
        "eval_loss": numbers(curve.eval_loss),
        "findings": [asdict(finding) for finding in found],
    }
    draw(curve, found, str(folder), folder / "loss_curve.png")
    write_result(folder / "loss_curve.json", {"thresholds": THRESHOLDS}, sources, result)
    return curve, found, cut_off


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.loss_curve", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="the output_dir of a run, e.g. saves/tiny/lora")
    arguments = parser.parse_args()
    try:
        curve, found, cut_off = judge(arguments.folder)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    for path in cut_off:
        print(f"{path} ends in the middle and was left out.")
    for finding in found:
        print(f"{finding.name}: {finding.says}")
    if not found:
        short = f", as far as {curve.loss.size} points can tell" if curve.loss.size < FEWEST else ""
        print(f"Nothing is amiss{short}.")
    print(summary(curve))


if __name__ == "__main__":
    main()
