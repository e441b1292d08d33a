import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psutil
import pytest

from data_prep import build as build_module
from data_prep import chunks
from data_prep.build import Settings, build
from data_prep.chunks import AHEAD, made_in_order
from data_prep.reader import read_chunks
from tests.conftest import ROOT


def test_processes_and_small_chunks_make_the_files_that_a_thread_makes(tmp_path, monkeypatch):
    settings = Settings(spc="sample", labeller="overlap", formats=("sharegpt", "alpaca"))
    build(settings, tmp_path / "thread")
    monkeypatch.setattr(chunks, "WORTH_A_PROCESS", 1)
    monkeypatch.setattr(chunks.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(build_module, "read_chunks", partial(read_chunks, rows=7))
    build(settings, tmp_path / "processes")
    made, expected = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("processes", "thread")
    )
    for files in (made, expected):  # rejects go by chunk
        files["rejects.jsonl"] = sorted(files["rejects.jsonl"].splitlines())
    assert made == expected


def test_results_come_in_order_and_no_more_than_some_chunks_are_taken_ahead():
    taken = []

    def numbers():
        for number in range(12):
            taken.append(number)
            yield (number,)

    def slow_at_first(number):
        time.sleep(0.2 if number % 4 == 0 else 0)
        return number, len(taken)

    with ThreadPoolExecutor(4) as pool:
        results = []
        for result in made_in_order(slow_at_first, numbers(), pool):
            results.append(result[0])
            assert len(taken) <= len(results) + AHEAD
    assert results == list(range(12))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "Ctrl-C", "a process killed"])
def test_a_build_that_is_stopped_says_so_and_leaves_no_process_behind(spc_dir, tmp_path, how):
    command = [sys.executable, "-m", "data_prep.build", "--spc", str(spc_dir), "--out", str(tmp_path / "data")]
    log = tmp_path / "log"
    with log.open("w") as stderr:
        building = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True)
    staging = tmp_path / ".data.staging"
    deadline = time.monotonic() + 120
    while not [*staging.glob("sharegpt-*")] and time.monotonic() < deadline:  # a process has begun to write
        time.sleep(0.05)
    started = building.children(recursive=True)
    assert building.poll() is None
    if how == "killed":
        building.kill()
    elif how == "Ctrl-C":
        os.killpg(building.pid, signal.SIGINT)
    else:
        max(started, key=lambda process: process.create_time()).kill()
    code = building.wait()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert len(started) >= 3  # a resource tracker, a fork server, and those that it has forked
    assert not alive
    assert code == {"killed": -signal.SIGKILL, "Ctrl-C": 130, "a process killed": 2}[how]
    said = log.read_text(encoding="utf-8")
    assert {"killed": "", "Ctrl-C": "Stopped;", "a process killed": "ended from outside"}[how] in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not (tmp_path / "data").exists()
