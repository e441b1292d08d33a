"""A launcher and its worker, as torchrun has them: whatever ends the supervisor ends both."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.conftest import ROOT

# Starts a worker that outlives SIGTERM if told to, as one that hangs in a collective does, and waits for it.
WORKER = "import signal, time; signal.signal(signal.SIGTERM, signal.{}); print('up', flush=True); time.sleep(300)"
SUPERVISOR = """
import sys
from pathlib import Path
from llamafactory_configs import supervise
supervise.GRACE = 2
launcher = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', sys.argv[1]]))"
supervise.run([sys.executable, "-c", launcher, sys.argv[1]], None, Path("out"))
"""


@pytest.mark.parametrize("handler", ["SIG_DFL", "SIG_IGN"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_lives_on(number, handler):
    command = [sys.executable, "-c", SUPERVISOR, WORKER.format(handler)]
    supervisor = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert supervisor.stdout.readline() == "up\n"
    started = psutil.Process(supervisor.pid).children(recursive=True)
    workers = [process for process in started if "python" in process.name()]
    assert len(workers) == 2
    supervisor.send_signal(number)
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    supervisor.wait(timeout=30)


def test_a_normal_end_waits_for_nothing():
    script = SUPERVISOR.replace('launcher = "', 'launcher = "import sys; sys.exit(0); ')
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script, "unused"], cwd=ROOT, check=True)
    assert done.returncode == 0
    assert time.monotonic() - began < 60
