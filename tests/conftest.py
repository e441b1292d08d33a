"""Fixtures shared by all tests: the bundled sample, real SPC where it lies, and datasets built from the sample."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest

from inference.serving import free_port

ROOT = Path(__file__).parents[1]
ENV = os.environ | {"OMP_NUM_THREADS": "1"}  # more threads make tiny runs slower
SPC_DIR = Path(os.environ.get("SPC_DIR", ROOT.parent / "shared" / "spc"))


@contextmanager
def running(command, url, log, **env):
    """A server in the background until the block ends; waits until ``url`` answers, gives the process."""
    with log.open("a") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=ENV | env, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            try:
                httpx.get(url, trust_env=False, timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def persona_tiny_at(log, **env):
    """LLaMA-Factory's API, serving persona-tiny; gives its address."""
    port = free_port()
    serve = ["serve", "tiny/full", "model_name_or_path=models/persona-tiny"]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "llamafactory_configs.run", *serve]
    with running(command, f"{url}/v1/models", log, API_PORT=str(port), **env):
        yield url


def python_m(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Run ``python -m ...`` from the project's root, output captured as text."""
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, **options
    )


def in_process(module: str, *arguments: str) -> subprocess.CompletedProcess:
    """What ``python_m`` gives, without another Python, whose imports take many times what a small check does."""
    out, err, code = StringIO(), StringIO(), 0
    with chdir(ROOT), redirect_stdout(out), redirect_stderr(err), patch.object(sys, "argv", [module, *arguments]):
        try:
            import_module(module).main()
        except SystemExit as stopped:
            code = stopped.code
    return subprocess.CompletedProcess([module, *arguments], code, out.getvalue(), err.getvalue())


def train(config: str, data: Path, output: Path, *overrides: str, **env: str) -> str:
    """Train a configuration of ours on ``data`` into ``output``; gives what LLaMA-Factory printed."""
    arguments = (config, f"dataset_dir={data}", f"output_dir={output}", *overrides)
    done = python_m("llamafactory_configs.run", "train", *arguments, env=ENV | env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def losses(output: Path, key: str = "loss") -> list[float]:
    """What the trainer logged under ``key``, in order."""
    history = json.loads((output / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return [entry[key] for entry in history if key in entry]


@pytest.fixture(scope="session")
def spc_dir() -> Path:
    """The folder with the real SPC files."""
    if not SPC_DIR.is_dir():
        pytest.skip(f"real SPC is not at {SPC_DIR}; set SPC_DIR to the folder with its CSV files")
    return SPC_DIR


@pytest.fixture(scope="session")
def sample_data(tmp_path_factory) -> Path:
    """``make data SPC=sample`` in a folder of its own."""
    out = tmp_path_factory.mktemp("built") / "data"
    done = python_m("data_prep.build", "--spc", "sample", "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out
