import json
import os
import socket

import pytest
import torch
from omegaconf import OmegaConf

from llamafactory_configs.config import FOLDER, ConfigurationError, find_config, names
from llamafactory_configs.environment import check_port, environment
from llamafactory_configs.retriever_record import keep_record
from llamafactory_configs.run import prepare, start
from tests.conftest import ROOT, python_m

CONFIGS = {
    task: {name: FOLDER / task / f"{name}.yaml" for name in names(task)} for task in ("train", "serve", "export")
}
RECIPES = sorted(name for name in CONFIGS["train"] if not name.startswith("tiny/pretrain"))  # those make persona-tiny
needs_no_gpu = pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has a GPU")


@pytest.fixture(autouse=True)
def project_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def load(task, name):
    return OmegaConf.load(CONFIGS[task][name])


def test_what_is_trained_can_be_served_and_exported():
    assert set(RECIPES) <= set(CONFIGS["serve"])
    assert {name for name in RECIPES if load("train", name).finetuning_type == "lora"} == set(CONFIGS["export"])


def test_an_unknown_configuration_is_named_with_the_choices():
    done = python_m("llamafactory_configs.run", "train", "qwen3/lora")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "'qwen3/lora'" in done.stderr
    assert "qwen3-1.7b/lora" in done.stderr


def test_a_yaml_file_of_ones_own_is_taken(tmp_path):
    (tmp_path / "mine.yaml").write_text("template: qwen3_nothink\n")
    assert find_config("train", str(tmp_path / "mine.yaml")) == tmp_path / "mine.yaml"
    for content, says in (("a: [", "not valid YAML"), ("- a", "not a configuration")):
        (tmp_path / "mine.yaml").write_text(content)
        with pytest.raises(ConfigurationError, match=says):
            prepare("export", str(tmp_path / "mine.yaml"), [])


@needs_no_gpu
def test_without_a_gpu_the_default_configuration_names_the_demo():
    done = python_m("llamafactory_configs.run", "train", "qwen3-1.7b/lora")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "make demo" in done.stderr


@pytest.mark.parametrize(
    ("task", "name", "overrides", "says"),
    [
        ("train", "tiny/lora", ["dataset_dir=nowhere"], "make data"),
        ("train", "tiny/lora", ["output_dir="], "output_dir"),
        ("serve", "qwen3-1.7b/full_zero3", ["model_name_or_path=saves/qwen3-1.7b/lora"], "CONFIG=qwen3-1.7b/lora"),
        ("export", "tiny/lora", ["adapter_name_or_path=saves/no/where"], "saves/no/where holds no model"),
        ("export", "tiny/lora", ["adapter_name_or_path=models/persona-tiny,saves/no"], "saves/no holds no model"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_makes_it(task, name, overrides, says):
    with pytest.raises(ConfigurationError, match=says):
        prepare(task, name, overrides)


def test_a_finished_run_is_not_run_again(sample_data, tmp_path):
    arguments = [f"dataset_dir={sample_data}", f"output_dir={tmp_path}"]
    command, _ = prepare("train", "tiny/lora", arguments)
    assert command[1:] == ["train", str(CONFIGS["train"]["tiny/lora"]), *arguments]
    (tmp_path / "train_results.json").touch()
    with pytest.raises(ConfigurationError, match="finished run"):
        prepare("train", "tiny/lora", arguments)
    prepare("train", "tiny/lora", [*arguments, "overwrite_output_dir=true"])


def test_a_port_in_use_is_named(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = python_m("llamafactory_configs.run", "webui", env=os.environ | {"GRADIO_SERVER_PORT": str(port)})
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert str(port) in done.stderr
        monkeypatch.setenv("API_PORT", str(port))
        with pytest.raises(ConfigurationError, match=str(port)):
            start("serve", "qwen3-1.7b/base", [])
    for wrong in ("many", "80000"):
        with pytest.raises(ConfigurationError, match=wrong):
            check_port("127.0.0.1", wrong, "PORT")


def test_the_environment_is_safe_by_default_and_the_users_words_win(monkeypatch):
    for name in ("API_HOST", "API_VERBOSE", "NPROC_PER_NODE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("llamafactory_configs.environment.has_gpu", lambda: False)
    env = environment(load("train", "tiny/lora_zero3"))
    assert (env["API_HOST"], env["API_VERBOSE"], env["GRADIO_SERVER_NAME"]) == ("127.0.0.1", "0", "127.0.0.1")
    assert (env["FORCE_TORCHRUN"], env["NPROC_PER_NODE"], env["OMP_NUM_THREADS"]) == ("1", "2", "1")
    monkeypatch.setattr("llamafactory_configs.environment.has_gpu", lambda: True)
    assert "NPROC_PER_NODE" not in environment(load("train", "qwen3-1.7b/lora_zero3"))
    monkeypatch.setenv("API_HOST", "0.0.0.0")
    assert environment(OmegaConf.create())["API_HOST"] == "0.0.0.0"


def test_the_command_becomes_llamafactory_cli():
    command, _ = prepare("serve", "qwen3-1.7b/base", ["temperature=0.1"])
    assert os.access(command[0], os.X_OK)
    assert command[1:] == ["api", str(CONFIGS["serve"]["qwen3-1.7b/base"]), "temperature=0.1"]


def test_the_record_of_the_retriever_goes_where_the_model_goes(sample_data, tmp_path, monkeypatch):
    monkeypatch.delenv("API_MODEL_NAME", raising=False)
    output = tmp_path / "model"
    keep_record(sample_data, output, replace=False)
    record = (sample_data / "retriever.json").read_bytes()
    assert (output / "retriever.json").read_bytes() == record
    served = environment(OmegaConf.create({"model_name_or_path": str(output)}))
    assert served["API_MODEL_NAME"] == f"persona@{json.loads(record)['identity']}"
    assert environment(load("serve", "qwen3-1.7b/base"))["API_MODEL_NAME"] == "persona"


def test_a_run_is_not_continued_on_what_another_retriever_found(sample_data, tmp_path):
    (tmp_path / "retriever.json").write_text('{"identity": "other-12345678"}')
    with pytest.raises(ConfigurationError, match="begun with facts that other-12345678 retrieved"):
        start("train", "tiny/lora", [f"dataset_dir={sample_data}", f"output_dir={tmp_path}"])
    keep_record(sample_data, tmp_path, replace=True)
    assert (tmp_path / "retriever.json").read_bytes() == (sample_data / "retriever.json").read_bytes()
