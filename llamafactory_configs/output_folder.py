"""The output folder of a training run: who writes to it, which checkpoints are whole, whether the run is finished."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llamafactory_configs.config import ConfigurationError

# What a run leaves besides its weights; `overwrite_output_dir=true` starts without them.
TRACES = ("checkpoint-*", "*_results.json", "trainer_log.jsonl", "trainer_state.json", "training_*.png", "run.json",
          "loss_curve.*")  # fmt: skip
PROBE = 2**16  # bytes that must fit


def try_writing(folder: Path) -> None:
    """Make the folder if it is not there. Raises OSError if nothing can be written to it; what was tried is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(PROBE))
        probe.flush()


def check_writable(folder: Path) -> None:
    """Make the folder if it is not there. Raises ConfigurationError if nothing can be written to it."""
    try:
        try_writing(folder)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written to ({error.strerror}); make room there or name another folder, with"
            " output_dir= for training and export_dir= for export."
        ) from None


@contextmanager
def writing_alone(folder: Path) -> Iterator[int]:
    """Hold the folder's lock; gives the descriptor that holds it, for a child to inherit.

    The kernel lets go of the lock when the last process that has the descriptor ends, however it ends. Raises
    ConfigurationError if another run holds it, or if nothing can be written there.
    """
    check_writable(folder)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(
            f"Another run is training into {folder}; wait for it, or name another folder with output_dir=."
        ) from None
    else:
        yield lock
    finally:
        os.close(lock)


def state(folder: Path) -> dict | None:
    """The trainer's state in a checkpoint or output folder; None if there is none or it was cut off in mid-write."""
    try:
        return json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints that are whole, oldest first. The trainer writes its state last: with it, all is there."""
    whole = [path for path in _checkpoint_folders(folder) if state(path)]
    return sorted(whole, key=_step)


def remove_broken_checkpoints(folder: Path) -> list[str]:
    """Delete checkpoints that were cut off in mid-write, which LLaMA-Factory would go on from; gives their names."""
    broken = sorted(set(_checkpoint_folders(folder)) - set(checkpoints(folder)), key=_step)
    for path in broken:
        shutil.rmtree(path)
    return [path.name for path in broken]


def cut_log(folder: Path) -> None:
    """Cut the trainer's log behind its last whole line: a run that goes on would write into a line cut off."""
    log = folder / "trainer_log.jsonl"
    if log.is_file():
        os.truncate(log, log.read_bytes().rfind(b"\n") + 1)


def checkpoint_to_go_on_from(folder: Path, max_steps: int) -> Path | None:
    """The newest whole checkpoint with steps left to do, of ``max_steps`` or, where that is below 0, of the run's own.

    None if there is no checkpoint at all.

    A run that was ended after its last step and before its model was saved has a checkpoint with no step left: going on
    from there would train nothing and report a loss of 0.0, so the stretch before it is trained again. Raises
    ConfigurationError if there is no checkpoint before it.
    """
    whole = checkpoints(folder)
    unfinished = [
        path
        for path in whole
        if state(path)["global_step"] < (max_steps if max_steps > 0 else state(path)["max_steps"])
    ]
    if whole and not unfinished:
        raise ConfigurationError(
            f"{whole[-1]} has no step left to train; its weights can be served; to start over add"
            " overwrite_output_dir=true to ARGS."
        )
    return unfinished[-1] if unfinished else None


def is_finished(folder: Path) -> bool:
    """Whether a run ended here; LLaMA-Factory writes these results after the model."""
    return (folder / "train_results.json").is_file()


def clear(folder: Path) -> None:
    """Delete what an earlier run left, but for its weights, which the new ones replace.

    LLaMA-Factory's own ``overwrite_output_dir`` keeps old checkpoints, and the next start would go on from them.
    """
    for pattern in TRACES:
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _checkpoint_folders(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if path.is_dir() and path.name[11:].isdigit()]


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))
