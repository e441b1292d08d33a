import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError
from eval import loss_findings
from eval.loss_curve import judge, read_curve, summary
from eval.loss_findings import Curve, findings, smooth
from tests.conftest import in_process, python_m

# What a run of tiny/lora left (max_steps=12 logging_steps=1, four samples a step): step, loss, grad_norm.
REAL = [
    (1, 3.4579286575317383, 0.45635831356048584),
    (2, 3.5575788021087646, 0.4700740575790405),
    (3, 3.4852960109710693, 0.48031237721443176),
    (4, 3.551204204559326, 0.5434200167655945),
    (5, 3.163665771484375, 0.4616934061050415),
    (6, 3.05292010307312, 0.45377495884895325),
    (7, 2.9242844581604004, 0.5312744379043579),
    (8, 3.2666215896606445, 0.5),
    (9, 3.3070690631866455, 0.5),
    (10, 4.4758219718933105, 2.0),
    (11, 4.667483806610107, 2.3815619945526123),
    (12, 2.9201812744140625, 0.49468520283699036),
]


def curve(loss, evaluation=(), points_per_epoch=None, every=10, **others) -> Curve:
    """A curve logged every ``every`` steps, with the evaluations spread over it; by default one epoch long."""
    steps = every * (1 + np.arange(len(loss)))
    epochs = (1 + np.arange(len(loss))) / (points_per_epoch or len(loss))
    eval_steps = np.linspace(steps[0], steps[-1], len(evaluation)).astype(int)
    failed = np.zeros(len(loss), dtype=bool)
    return replace(Curve(steps, np.array(loss), epochs, failed, eval_steps, np.array(evaluation)), **others)


def falling(size, noise=0.0, seed=0, speed=4.0, floor=0.6) -> np.ndarray:
    """(size,) losses from 3.5 down towards 3.5 * floor; the noise is a share of the level."""
    time = np.linspace(0, 1, size)
    fall = floor + (1 - floor) * np.exp(-speed * time)
    return 3.5 * fall * np.exp(noise * np.random.default_rng(seed).normal(size=size))


def names(of: Curve) -> list[str]:
    return [finding.name for finding in findings(of)]


def state_file(folder, history, **others):
    folder.mkdir(parents=True, exist_ok=True)
    state = {"global_step": history[-1]["step"], "log_history": history} | others
    (folder / "trainer_state.json").write_text(json.dumps(state, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def history(points, last=12):
    return [{"epoch": s / last, "grad_norm": g, "learning_rate": 1e-3, "loss": x, "step": s} for s, x, g in points]


def log_file(folder, *lines, end="\n"):
    """Lines from (step, loss), (step, loss, "eval_loss") or a dict."""
    rows = []
    for line in lines:
        if not isinstance(line, dict):
            step, loss, *name = line
            line = {"current_steps": step, "total_steps": 300, (name or ["loss"])[0]: loss, "epoch": step / 100}
        rows.append(json.dumps(line))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainer_log.jsonl").write_text("\n".join(rows) + end, encoding="utf-8")


def run_of(folder) -> list[tuple[int, float]]:
    got, _, _ = read_curve(folder)
    return list(zip(got.steps.tolist(), got.loss.tolist(), strict=True))


# Sound curves


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03, 0.1, 0.2])
@pytest.mark.parametrize("size", [5, 6, 10, 30, 300])
def test_noisy_falling_curves_are_sound(size, noise):
    """The rates that the thresholds were set by: under one curve in a hundred of any length and noise."""
    found = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        shape = {"speed": random.uniform(2, 20), "floor": random.uniform(0.3, 0.75)}
        evaluation = 1.03 * falling(6, noise / 20, seed + 1, **shape)
        found += names(curve(falling(size, noise, seed, **shape), evaluation, max(1, size // random.integers(1, 5))))
    assert len(found) <= 2, found


@pytest.mark.parametrize("size", range(1, 5))
def test_too_short_to_judge(size):
    assert names(curve([3.0] * size)) == []


def test_a_real_run_is_sound(tmp_path):
    state_file(tmp_path, [*history(REAL), {"step": 12, "epoch": 1.0, "train_loss": 3.485837976137797}])
    got, found, cut_off = judge(tmp_path)
    assert (found, cut_off, got.train_loss) == ([], [], 3.485837976137797)
    assert summary(got) == "Loss 3.458 at step 1, 2.920 at step 12; no evaluation loss."


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1e6) | st.sampled_from([math.nan, math.inf, 0.0]), min_size=1, max_size=40), st.data())
def test_any_curve_is_judged(loss, data):
    per_epoch = data.draw(st.integers(1, 20))
    evaluation = data.draw(st.lists(st.floats(0, 1e6) | st.just(math.nan), max_size=9))
    found = findings(curve(loss, evaluation, per_epoch))
    assert all(str(finding.step) in finding.says and finding.says.endswith(".") for finding in found)
    assert ("nan" in [finding.name for finding in found]) == (not np.isfinite([*loss, *evaluation]).all())


# Findings


def test_nan_in_the_loss_the_gradient_or_the_evaluation():
    for bad in (math.nan, math.inf):
        loss = falling(20)
        loss[7:] = bad
        (finding,) = findings(curve(loss))
        assert (finding.name, finding.step) == ("nan", 80)
        assert "13 of 20 training" in finding.says
    loss[7:] = 0.0  # as the trainer logs NaN
    assert names(curve(loss, failed=np.arange(20) >= 7)) == ["nan"]
    assert names(curve(falling(20), [3.0, math.nan])) == ["nan"]


def test_fp16_skips_steps_and_that_is_no_nan():
    assert names(curve(falling(20), failed=np.arange(20) == 1)) == []


def test_zero_loss():
    loss = falling(20)
    loss[7:] = 0.0
    (finding,) = findings(curve(loss))
    assert (finding.name, finding.step) == ("zero", 80)
    assert names(curve([0.0] * 3)) == ["zero"]
    assert names(curve(falling(20, floor=0.001))) == []


def test_a_finished_run_that_was_resumed(tmp_path):
    """As LLaMA-Factory left it: one step more, and the mean of that step over all thirteen."""
    log_file(tmp_path, *[(step, loss) for step, loss, _ in REAL], {"current_steps": 12, "epoch": 0.375}, (13, 3.1))
    state_file(tmp_path, [*history([*REAL, (13, 3.1, 0.5)]), {"step": 13, "epoch": 0.4, "train_loss": 0.2384885}])
    _, found, _ = judge(tmp_path)
    assert [(finding.name, finding.step) for finding in found] == [("zero", 13)]
    assert "0.238" in found[0].says
    log_file(tmp_path, *[(step, loss / 2) for step, loss, _ in REAL])  # another run: the state is not of this one
    assert judge(tmp_path)[1] == []


@pytest.mark.parametrize(("size", "noise"), [(5, 0), (6, 0.01), (30, 0.02), (300, 0.1)])
def test_never_fell(size, noise):
    found = [findings(curve(falling(size, noise, seed, floor=1.0))) for seed in range(30)]
    assert {finding.name for of_one in found for finding in of_one} == {"never_fell"}
    assert {finding.step for of_one in found for finding in of_one} == {10 * size}
    assert sum(map(bool, found)) >= 27  # of six points the noise cannot always be told
    assert names(curve(np.linspace(3, 3.6, size))) == ["never_fell"]


def test_spike():
    for noise in (0, 0.02):
        loss = falling(60, noise)
        loss[40] *= 2.5
        (finding,) = findings(curve(loss))
        assert (finding.name, finding.step) == ("spike", 410)
        assert "came back" in finding.says
    loss = falling(60, 0.02)
    loss[40] *= 1.4
    assert names(curve(loss)) == []


def test_divergence_is_a_spike_even_if_slow():
    loss = np.concatenate([falling(40, 0.01), np.geomspace(2.2, 5, 40)])
    (finding,) = findings(curve(loss))
    assert finding.name == "spike"
    assert "did not come back" in finding.says


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.04])
def test_epoch_step(noise):
    """Three epochs of 400 steps; the point after a boundary is half of either, as with a step count that is odd."""
    epochs = np.arange(1, 121) / 40
    loss = falling(120, noise) * 0.8 ** np.floor(epochs - 1e-9)
    loss[[40, 80]] /= math.sqrt(0.8)
    (finding,) = findings(curve(loss, points_per_epoch=40))
    assert (finding.name, finding.step) in [("epoch_step", 410), ("epoch_step", 810)]
    assert "2 of 2 ends" in finding.says or "2 of 3 ends" in finding.says
    assert names(curve(falling(120, noise), points_per_epoch=40)) == []
    assert names(curve(loss, points_per_epoch=120)) == []  # the same steps, but not where an epoch ends


def test_a_steep_bend_at_the_end_of_an_epoch_is_no_step():
    for bend in range(30, 50):
        loss = np.concatenate([np.linspace(4, 2, bend), np.full(80 - bend, 2.0)])
        assert names(curve(loss, points_per_epoch=40)) == []


def test_overfitting():
    (finding,) = findings(curve(falling(60, 0.02), [3.0, 2.6, 2.5, 2.6, 2.8]))
    assert (finding.name, finding.step) == ("overfitting", 305)
    assert "2.500" in finding.says
    assert names(curve(falling(60, 0.02), [3.0, 2.6, 2.5, 2.51, 2.52])) == []  # 1 %: flat
    assert names(curve(falling(60, 0.02), [3.0, 2.6, 2.5, 2.7, 2.5])) == []  # no rise that stays
    assert names(curve(np.r_[falling(30), falling(30)[::-1]], [3.0, 2.6, 2.3, 2.6, 2.8])) != ["overfitting"]
    assert "overfitting" not in names(curve(np.r_[falling(30), falling(30)[::-1]], [3.0, 2.6, 2.3, 2.6, 2.8]))
    noisy = [3.0, 2.5, 2.8, 2.4, 2.7, 2.35, 2.6, 2.55]
    assert names(curve(falling(60, 0.02), noisy)) == []  # it swings by more than it rises


def test_every_threshold_is_in_the_record(tmp_path):
    log_file(tmp_path, (10, 3.0))
    judge(tmp_path)
    config = json.loads((tmp_path / "loss_curve.json").read_text(encoding="utf-8"))["config"]
    assert config["thresholds"] == json.loads(json.dumps(loss_findings.THRESHOLDS))


def test_smoothing_leaves_gaps_out():
    assert smooth(np.array([3.0, 9.0, 2.0, math.nan])).tolist() == [6.0, 3.0, 5.5, 2.0]
    assert np.isnan(smooth(np.array([math.nan]))).all()


# Records


def test_a_resumed_log_goes_back_to_the_checkpoint(tmp_path):
    log_file(tmp_path, (10, 3.0), (20, 2.9), (20, 2.8, "eval_loss"), (30, 9.0), (40, 9.0), (40, 9.0, "eval_loss"),
             (30, 2.7), (40, 2.6), (40, 2.5, "eval_loss"))  # fmt: skip
    got, sources, _ = read_curve(tmp_path)
    assert run_of(tmp_path) == [(10, 3.0), (20, 2.9), (30, 2.7), (40, 2.6)]
    assert (got.eval_steps.tolist(), got.eval_loss.tolist()) == ([20, 40], [2.8, 2.5])
    assert [path.name for path in sources] == ["trainer_log.jsonl"]  # killed before any state
    log_file(tmp_path, (10, 3.0), (20, 2.9), (30, 9.0), (10, 2.9))  # begun anew, and going on
    assert run_of(tmp_path) == [(10, 2.9)]


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    log_file(tmp_path, (10, 3.0), (20, 2.9), end='\n{"current_steps": 30, "lo')
    assert run_of(tmp_path) == [(10, 3.0), (20, 2.9)]


def test_the_newest_state_stands_in_for_the_log(tmp_path):
    for step in (6, 12):
        state_file(tmp_path / f"checkpoint-{step}", history(REAL[:step]))
    state_file(tmp_path, history(REAL[:3]))  # of an earlier, shorter run
    assert run_of(tmp_path) == [(step, loss) for step, loss, _ in REAL]
    whole = (tmp_path / "checkpoint-12" / "trainer_state.json").read_text(encoding="utf-8")
    (tmp_path / "checkpoint-12" / "trainer_state.json").write_text(whole[:700], encoding="utf-8")
    assert len(run_of(tmp_path)) == 6
    done = in_process("eval.loss_curve", str(tmp_path))
    assert done.returncode == 0
    assert "checkpoint-12/trainer_state.json ends in the middle" in done.stdout


def test_the_state_tells_which_zeros_are_nan(tmp_path):
    """A run with a learning rate of 1e30, as it was: the log has 0.0, the state has the gradient."""
    log_file(tmp_path, (2, 3.5), (4, 0.0), (6, 0.0), (6, math.nan, "eval_loss"))
    assert [finding.name for finding in judge(tmp_path)[1]] == ["nan", "zero"]
    state_file(tmp_path / "checkpoint-6", history([(2, 3.5, 0.4), (4, 0.0, math.nan), (6, 0.0, math.nan)]))
    (finding,) = judge(tmp_path)[1]
    assert (finding.name, finding.step) == ("nan", 4)


# The command


def test_the_command_draws_writes_and_prints(tmp_path):
    loss, evaluation = falling(30), [3.4, 2.4, 2.9, 3.1]
    loss[20] = 9.0
    lines = [(10 * (at + 1), float(value)) for at, value in enumerate(loss)]
    log_file(tmp_path, *lines, *[(300, value, "eval_loss") for value in evaluation[3:]], {"current_steps": 300})
    log_file(tmp_path, *lines[:28], (280, 2.4, "eval_loss"), (290, math.nan), lines[29], (300, 3.1, "eval_loss"))
    done = python_m("eval.loss_curve", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads((tmp_path / "loss_curve.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert set(result) == {"git", "config", "input_sha256", "folder", "steps", "loss", "epochs", "eval_steps",
                           "eval_loss", "findings"}  # fmt: skip
    assert (result["steps"][28], result["loss"][28], result["eval_loss"]) == (290, None, [2.4, 3.1])
    lines = done.stdout.splitlines()
    assert lines[:-1] == [f"{finding['name']}: {finding['says']}" for finding in result["findings"]]
    assert [(finding["name"], finding["step"]) for finding in result["findings"]] == [("nan", 290), ("spike", 210)]
    assert lines[-1].endswith("lowest evaluation loss 2.400 at step 280.")
    assert (tmp_path / "loss_curve.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*"))


def test_a_sound_curve_is_one_line_and_a_summary(tmp_path):
    log_file(tmp_path, *[(at + 1, float(value)) for at, value in enumerate(falling(20))])
    done = in_process("eval.loss_curve", str(tmp_path))
    assert done.stdout.splitlines()[0] == "Nothing is amiss."
    assert len(done.stdout.splitlines()) == 2
    log_file(tmp_path, (10, 3.0))
    assert "as far as 1 points can tell" in in_process("eval.loss_curve", str(tmp_path)).stdout


def test_errors_are_one_sentence(tmp_path):
    done = in_process("eval.loss_curve", str(tmp_path / "none"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "none is no folder" in done.stderr


BROKEN_LOGS = ["{}\n", "[]\n", "{\n{}\n", '{"current_steps": 1, "loss": "x", "epoch": 1}\n',
               '{"current_steps": 1, "loss": 2}\n', '{"current_steps": null, "loss": 2, "epoch": 0}\n']  # fmt: skip


@pytest.mark.parametrize("text", BROKEN_LOGS)
def test_a_broken_log_is_named_with_its_line(tmp_path, text):
    log_file(tmp_path, (10, 3.0))
    with (tmp_path / "trainer_log.jsonl").open("a", encoding="utf-8") as file:
        file.write(text)
    with pytest.raises(InputError, match=r"trainer_log\.jsonl, line 2 is broken"):
        judge(tmp_path)
    assert not list(tmp_path.glob("loss_curve*"))


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "no training loss"), ("{}\n", "no log_history"), ("{x}\n", "not JSON"), ("{", "ends in the middle"),
     ('{"log_history": [{}]}\n', "without its step"), ('{"log_history": []}\n', "no training loss")],
)  # fmt: skip
def test_no_record_or_a_broken_state(tmp_path, text, says):
    if text:
        (tmp_path / "trainer_state.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        judge(tmp_path)
