"""LLaMA-Factory as a child process: hands signals on, and puts its known failures into one sentence."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

GRACE = 20  # seconds that a child gets to end before it is killed; torchrun ends its workers meanwhile
PATIENCE = 30  # seconds after which a traceback that did not end the child is printed after all
TRACEBACK = "Traceback (most recent call last)"

# What a traceback must hold, and what is said instead of it. The first that fits is taken.
FAILURES = {
    # safetensors and Python name the fault; torch.save says only that its stream broke
    r"No space left on device|os error 28|Disk quota exceeded|inline_container.*unexpected pos|iostream error": (
        "The disk of {output} is full: make room, or lower save_total_limit, then run the same command again."
    ),
    r"out of memory|OutOfMemoryError": (
        "The memory of the GPU is too small: halve per_device_train_batch_size and double gradient_accumulation_steps,"
        " or choose a smaller recipe; `make check-configs` says what each needs."
    ),
    r"We couldn't connect to|LocalEntryNotFoundError|MaxRetryError": (
        "A model could not be fetched from the hub: check the network, name a mirror with HF_ENDPOINT=, or give a"
        " folder with model_name_or_path=."
    ),
}
# Raised while LLaMA-Factory reads its arguments, before any work: its own message says what is wrong.
REFUSED = re.compile(r'File ".*(?:hparams/parser|hf_argparser|training_args)\.py"(?s:.*)\n\w*Error: (.+)')


class Stopped(Exception):
    """The child was ended because we were told to stop; ``number`` is the signal. ``where`` says where to go on."""

    def __init__(self, number: int, where: str = ""):
        super().__init__(f"Stopped by {signal.Signals(number).name}. {where}".rstrip())
        self.number = number


class Failed(Exception):
    """The child ended badly. The message is one sentence; ``traceback`` is what it printed if no sentence is known."""

    def __init__(self, sentence: str, traceback: str = ""):
        super().__init__(sentence)
        self.traceback = traceback


def run(command: list[str], env: dict[str, str], output: Path, keep_open: int | None = None) -> None:
    """Run ``command`` until it ends; ``keep_open``: a descriptor that it and all that it starts inherit, if any.

    Its standard error is passed on, except for a traceback, which is held back until it is known whether one sentence
    can say it. Raises Failed, or Stopped on SIGINT, SIGTERM and SIGHUP.
    """
    process = subprocess.Popen(
        command,
        env=env,
        stdin=keep_open,  # the one descriptor that torchrun hands on to its workers
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    errors = _StandardError(process.stderr)
    with _ended_with_us(process), _handing_on_signals(process) as received:
        errors.start()
        code = process.wait()
        errors.join(timeout=GRACE)  # until the last worker has let go of it
        _end_group(process, signal.SIGKILL)
    if received:
        raise Stopped(received[0])
    if code:
        raise _failure(code, errors.kept, output)
    sys.stderr.write(errors.kept)


@contextlib.contextmanager
def _ended_with_us(process: subprocess.Popen) -> Iterator[None]:
    """Until the block ends: should we be killed outright, the child and all that it started are ended too.

    A shell waits on a pipe whose other end only we hold; the kernel closes it however we end.
    """
    group = f"-{process.pid}"
    script = f"read _; kill -TERM {group}; sleep {GRACE}; kill -KILL {group}"
    watcher = subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        watcher.kill()
        watcher.wait()
        watcher.stdin.close()


def _end_group(process: subprocess.Popen, number: int) -> None:
    """Send a signal to the child and to all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextlib.contextmanager
def _handing_on_signals(process: subprocess.Popen) -> Iterator[list[int]]:
    """Gives the list of signals received; the first one ends the child and all that it started."""
    received: list[int] = []

    def end(number: int, _frame) -> None:
        received.append(number)
        _end_group(process, signal.SIGTERM if len(received) == 1 else signal.SIGKILL)
        if len(received) == 1:
            killer = threading.Timer(GRACE, _end_group, (process, signal.SIGKILL))
            killer.daemon = True
            killer.start()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _StandardError(threading.Thread):
    """Copies what the child prints to our standard error, but keeps a traceback back until ``PATIENCE`` is over."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.stream, self.kept, self.since = stream, "", 0.0

    def run(self) -> None:
        for chunk in iter(lambda: self.stream.read1(65536), b""):
            text = chunk.decode("utf-8", errors="replace")
            if not self.kept:
                before, mark, after = text.partition(TRACEBACK)
                self._write(before)
                self.kept, self.since = mark + after, time.monotonic()
            elif time.monotonic() - self.since < PATIENCE:
                self.kept += text
            else:  # the child lives on: it was a warning
                self._write(self.kept + text)
                self.kept = ""

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _failure(code: int, printed: str, output: Path) -> Failed:
    for pattern, sentence in FAILURES.items():
        if re.search(pattern, printed):
            return Failed(sentence.format(output=output))
    if refused := REFUSED.search(printed):
        return Failed(f"LLaMA-Factory refuses the configuration: {refused[1]}")
    if code == -signal.SIGKILL:
        return Failed("It was killed from outside, most likely for want of memory; free some and go on.")
    return Failed(f"LLaMA-Factory ended with exit code {code}; what it printed is above.", printed)
