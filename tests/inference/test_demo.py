import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.demo import QUESTIONS
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def test_the_demo_ends_with_its_page(tmp_path):
    out = tmp_path / "demo"
    script = "import sys, pathlib; from inference.demo import demo; print(demo(pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", script, str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    page = (out / "page.txt").read_text(encoding="utf-8")
    assert done.stdout.endswith(page + "\n")
    for question in QUESTIONS:
        assert re.search(
            rf"You: {re.escape(question)}\n(  retrieved  0\.\d{{3}}  \[P\d\] .+\n){{1,2}}Persona: .*\w.*\n  cited ",
            page,
        )
    losses = re.findall(
        r"^  (?:training, 10 steps each|held-out conversations) +([\d.]+) +([\d.]+)$", page, re.MULTILINE
    )
    assert len(losses) == 2
    for before, after in losses:
        assert float(after) < float(before) - 0.3
    [curve] = re.findall(r"Loss curve: (\S+)", page)
    assert Path(curve).stat().st_size > 1000
    steps = re.findall(r"step +\d+ of +\d+   loss", done.stdout)
    assert len(steps) >= 5
    port = int(re.search(r"waiting for http://127\.0\.0\.1:(\d+)", done.stdout)[1])
    assert not listening(port)


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


SERVE = """
import signal, sys, time
from pathlib import Path
from inference.demo import api
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
with api(Path("models/persona-tiny"), Path(sys.argv[1])) as base_url:
    print(base_url, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_api_ends_with_the_demo_however_it_is_ended(tmp_path, number):
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux ends the children of a process that is killed outright")
    command = [sys.executable, "-c", SERVE, str(tmp_path / "api.log")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    printed = ""
    while "up\n" not in printed:
        line = process.stdout.readline()
        assert line, "the API did not come up"
        printed += line
    port = int(re.search(r"127\.0\.0\.1:(\d+)", printed)[1])
    assert listening(port)
    process.send_signal(number)
    process.wait(timeout=30)
    deadline = time.monotonic() + 20
    while listening(port):
        assert time.monotonic() < deadline, "the API outlived the demo"
        time.sleep(0.2)
