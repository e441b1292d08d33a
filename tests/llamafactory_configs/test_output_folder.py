"""What a folder with an interrupted run says about where to go on."""

import json

import pytest
from omegaconf import OmegaConf

from llamafactory_configs.config import ConfigurationError
from llamafactory_configs.output_folder import checkpoint_to_go_on_from, cut_log
from llamafactory_configs.run_record import begun_with_other_data
from llamafactory_configs.training import _where


def checkpoint(folder, step, max_steps=900):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": max_steps}))
    return path


def test_a_run_goes_on_from_the_newest_checkpoint_with_steps_left(tmp_path):
    assert checkpoint_to_go_on_from(tmp_path, -1) is None
    first, second, last = (checkpoint(tmp_path, step) for step in (300, 600, 900))
    (checkpoint(tmp_path, 1000) / "trainer_state.json").write_text('{"global_step": 10')  # cut off
    assert checkpoint_to_go_on_from(tmp_path, -1) == second
    assert checkpoint_to_go_on_from(tmp_path, 1200) == last  # longer than it was meant to be
    assert checkpoint_to_go_on_from(tmp_path, 400) == first
    with pytest.raises(ConfigurationError, match="no step left"):
        checkpoint_to_go_on_from(tmp_path, 300)


def test_what_is_said_of_a_run_that_ended_early_is_true(tmp_path):
    config = OmegaConf.create({"output_dir": str(tmp_path)})
    assert "no checkpoint yet" in _where(config, tmp_path)
    newest = checkpoint(tmp_path, 300)
    assert _where(config, tmp_path) == f"The same command goes on from {newest}."
    over = OmegaConf.create({"overwrite_output_dir": True})  # the same command would clear the folder again
    assert _where(over, tmp_path).startswith("The same command, without overwrite_output_dir=true, goes on from")
    (tmp_path / "train_results.json").write_text("{}")
    assert "The model is trained" in _where(config, tmp_path)


@pytest.mark.parametrize("cut_off", ["", '{"current_steps": 2, "lo'])
def test_the_log_is_cut_behind_its_last_whole_line(tmp_path, cut_off):
    cut_log(tmp_path)  # no log yet
    log = tmp_path / "trainer_log.jsonl"
    log.write_text('{"current_steps": 1}\n' + cut_off)
    cut_log(tmp_path)
    assert log.read_text() == '{"current_steps": 1}\n'


def test_data_that_were_built_anew_are_noticed(tmp_path):
    run, data = tmp_path / "run", tmp_path / "data"
    run.mkdir()
    data.mkdir()
    (data / "manifest.json").write_text("{}")
    assert not begun_with_other_data(run, data)
    sha256_of_braces = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    (run / "run.json").write_text(json.dumps({"data": {"manifest_sha256": sha256_of_braces}}))
    assert not begun_with_other_data(run, data)
    (data / "manifest.json").write_text('{"git": "another"}')
    assert begun_with_other_data(run, data)
