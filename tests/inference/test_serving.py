import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from inference.serving import NotServed, free_port, server
from tests.conftest import ROOT


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


SERVE = """
import sys, time
from pathlib import Path
from inference.serving import end_as_by_ctrl_c, model_api
end_as_by_ctrl_c()
with model_api("tiny/full", "model_name_or_path=models/persona-tiny", log=Path(sys.argv[1])) as base_url:
    print(base_url, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_server_ends_with_its_command_however_that_is_ended(tmp_path, number):
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
    process.wait(timeout=120)
    deadline = time.monotonic() + 60
    while listening(port):
        assert time.monotonic() < deadline, "the API outlived its command"
        time.sleep(0.2)


def test_what_does_not_start_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    log, url = tmp_path / "log", f"http://127.0.0.1:{free_port()}/"
    says = r"eval.stand_in did not start; .*log, .*--no-such-option"
    with pytest.raises(NotServed, match=says), server("eval.stand_in", "--no-such-option", url=url, log=log):
        pass
