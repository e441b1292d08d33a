"""Our commands as servers in the background: started, waited for until they answer, ended with the block."""

import ctypes
import os
import shlex
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

SECONDS_TO_START = 180


class NotServed(Exception):
    """A server did not start; one sentence that says which, where its output is, and how that ends."""


def end_as_by_ctrl_c() -> None:
    """From now on, a closed terminal or a plain kill ends this process as Ctrl-C does: through every ``finally``."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def model_api(config: str, *overrides: str, log: Path, seconds: float = SECONDS_TO_START) -> Iterator[str]:
    """LLaMA-Factory's API on a free port, as ``make serve CONFIG=config`` with ``key=value`` overrides; gives its
    base URL, which ends in ``/v1``. Raises NotServed if it does not answer within ``seconds``."""
    port = free_port()
    base_url = f"http://127.0.0.1:{port}/v1"
    arguments, env = ("serve", config, *overrides), {"API_PORT": str(port)}
    with server("llamafactory_configs.run", *arguments, url=f"{base_url}/models", log=log, env=env, seconds=seconds):
        yield base_url


@contextmanager
def server(
    module: str,
    *arguments: str,
    url: str,
    log: Path,
    env: dict[str, str] | None = None,
    seconds: float = SECONDS_TO_START,
) -> Iterator[subprocess.Popen]:
    """``child`` whose ``url`` answers. Raises NotServed if it does not within ``seconds``."""
    with child(module, *arguments, log=log, env=env) as process:
        print(f"  waiting for {url} ", end="", flush=True)
        deadline = time.monotonic() + seconds
        while not answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                print(flush=True)
                ends = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                raise NotServed(
                    f"python -m {module} did not start; its output is in {log}, at the end: {''.join(ends)}"
                )
            print(".", end="", flush=True)
            time.sleep(1)
        print(" up", flush=True)
        yield process


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


def command(module: str, *arguments: str) -> list[str]:
    """The command line of one of our modules; printed, so that it can be run again by hand."""
    print(f"$ {shlex.join(['python', '-m', module, *arguments])}", flush=True)
    return [sys.executable, "-m", module, *arguments]


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
            preexec_fn=_die_with_parent,
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


def _die_with_parent() -> None:
    """Linux only: have the kernel end this process when ours is killed outright (no `finally` runs then)."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1  # prctl(2)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
