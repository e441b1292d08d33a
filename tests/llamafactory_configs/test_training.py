"""Real runs that are ended, doubled and cut short: nothing is lost, and one sentence says what happened."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from llamafactory_configs.output_folder import checkpoints, state
from tests.conftest import ENV, ROOT

pytestmark = pytest.mark.slow
STEPS = 48  # enough that a run is still going when a second one has been refused


def command(data, output, *overrides):
    arguments = ("train", "tiny/lora", f"dataset_dir={data}", f"output_dir={output}", "logging_steps=1", "save_steps=3")
    return [sys.executable, "-m", "llamafactory_configs.run", *arguments, f"max_steps={STEPS}", *overrides]


def started(data, output, *overrides):
    return subprocess.Popen(
        command(data, output, *overrides), cwd=ROOT, env=ENV, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(data, output, *overrides):
    process = started(data, output, *overrides)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def wait_for_checkpoint(process, output, step):
    deadline = time.monotonic() + 180
    while not any(state(path)["global_step"] >= step for path in checkpoints(output)):
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def last_line(text):
    return text.strip().splitlines()[-1]


def record(output):
    return json.loads((output / "run.json").read_text(encoding="utf-8"))


def test_a_run_that_is_doubled_interrupted_and_killed_reaches_its_last_step(sample_data, tmp_path):
    output = tmp_path / "out"
    first = started(sample_data, output)
    wait_for_checkpoint(first, output, 3)

    code, out, err = run(sample_data, output)
    assert (code, err.count("\n")) == (2, 1)
    assert "Another run is training into" in err

    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=180)
    assert first.returncode == 128 + signal.SIGINT
    assert "Traceback" not in err
    kept = checkpoints(output)
    assert last_line(err) == f"Stopped by SIGINT. The same command goes on from {kept[-1]}."
    assert record(output)["status"] == "stopped"

    second = started(sample_data, output)
    wait_for_checkpoint(second, output, state(kept[-1])["global_step"] + 1)
    second.kill()  # outright: nothing of ours gets to tidy up, and no trainer may live on
    out, _ = second.communicate(timeout=180)
    assert f"Going on from {kept[-1]}." in out
    broken = output / f"checkpoint-{STEPS + 50}"  # as if killed while writing it
    shutil.copytree(checkpoints(output)[-1], broken)
    (broken / "trainer_state.json").write_text('{"global_step": 6')

    last = checkpoints(output)[-1]
    code, out, err = run(sample_data, output)
    assert code == 0, err[-3000:]
    assert f"Going on from {last}." in out
    assert not broken.exists()
    assert state(output)["global_step"] == STEPS
    assert [entry["step"] for entry in state(output)["log_history"] if "loss" in entry] == [*range(1, STEPS + 1)]

    final = record(output)
    assert (final["status"], final["steps"]) == ("finished", STEPS)
    assert [leg["status"] for leg in final["legs"]] == ["stopped", "killed", "finished"]
    assert final["loss"]["last"] < final["loss"]["first"]
    assert final["tokens_per_second"] > 0
    assert 100 < final["peak_memory_mib"]["host"] < 20_000
    assert final["data"]["retriever"] == json.loads((sample_data / "retriever.json").read_text())["identity"]
    assert final["config"]["max_steps"] == STEPS

    code, out, err = run(sample_data, output)
    assert (code, err.count("\n")) == (2, 1)
    assert "finished run" in err
    assert "overwrite_output_dir=true" in err


def test_starting_over_leaves_no_old_checkpoint_to_go_on_from(sample_data, tmp_path):
    old = tmp_path / "checkpoint-900"
    old.mkdir()
    (old / "trainer_state.json").write_text(json.dumps({"global_step": 900, "max_steps": 900}))
    (tmp_path / "train_results.json").write_text("{}")
    code, out, err = run(sample_data, tmp_path, "overwrite_output_dir=true", "max_steps=2", "save_steps=1")
    assert code == 0, err[-3000:]
    assert "Going on" not in out
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-1", "checkpoint-2"]
    assert float(re.search(r"train_loss\s+=\s+([\d.]+)", out)[1]) > 0.5


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_a_full_disk_is_one_sentence_and_costs_no_checkpoint(sample_data, tmp_path):
    """In a mount namespace of its own, on a file system that has room for one checkpoint but not for two."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c"]
    mount = f"mount -t tmpfs -o size=24m tmpfs {disk}"
    if subprocess.run([*namespace, mount], check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    train = command(sample_data, disk / "out", "save_steps=2", "max_steps=30", "lora_rank=64")
    script = f'{mount}; "$@"; code=$?; cp -r {disk}/out {kept}; exit $code'
    done = subprocess.run(
        [*namespace, script, "bash", *train], cwd=ROOT, env=ENV, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert checkpoints(kept)
    assert re.fullmatch(
        rf"The disk of {disk}/out is full: .*The same command goes on from {disk}/out/{checkpoints(kept)[-1].name}\.",
        last_line(done.stderr),
    )


def test_a_folder_that_cannot_be_written_is_one_sentence(sample_data):
    code, _, err = run(sample_data, "/proc/no/such/folder")
    assert (code, err.count("\n")) == (2, 1)
    assert "/proc/no/such/folder cannot be written to" in err
    assert "output_dir=" in err


def test_what_llamafactory_refuses_is_one_sentence(sample_data, tmp_path):
    code, _, err = run(sample_data, tmp_path / "out", "eval_strategy=no", "no_such_option=3")
    assert (code, "Traceback" in err) == (2, False)
    assert last_line(err).startswith("LLaMA-Factory refuses the configuration: ")
