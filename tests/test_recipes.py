"""Every tiny recipe trains, through the same command as the large ones that it is the twin of."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import yaml

from llamafactory_configs.config import FOLDER, effective_batch, names
from llamafactory_configs.environment import has_gpu
from tests.conftest import free_port, losses, train

pytestmark = pytest.mark.slow
PRETRAINING = "tiny/pretrain"  # these make persona-tiny from random weights
TINY = [name for name in names("train") if name.startswith("tiny/") and not name.startswith(PRETRAINING)]
NO_TWIN = {"lora_fp16"}  # PyTorch trains in fp16 on GPUs only


def recipe(name):
    return yaml.safe_load((FOLDER / "train" / f"{name}.yaml").read_text(encoding="utf-8"))


def test_every_kind_of_recipe_has_a_tiny_twin():
    kinds = {name.split("/")[1] for name in names("train") if not name.startswith("tiny/")}
    assert kinds - NO_TWIN <= {name.split("/")[1] for name in TINY}


@pytest.fixture(scope="module")
def adapter(sample_data, tmp_path_factory):
    """What recipes that go on from another one begin with."""
    output = tmp_path_factory.mktemp("adapter") / "lora"
    train("tiny/lora", sample_data, output, "max_steps=1", "logging_steps=1")
    return output


@pytest.mark.parametrize("name", [name for name in TINY if name != "tiny/lora"])
def test_it_trains(sample_data, adapter, tmp_path, name):
    config = recipe(name)
    if config.get("deepspeed") and shutil.which("g++") is None:
        pytest.skip("DeepSpeed builds an op with g++, which is not installed")
    overrides = [f"adapter_name_or_path={adapter}"] if "adapter_name_or_path" in config else []
    output = tmp_path / "out"
    printed = train(name, sample_data, output, "max_steps=2", "logging_steps=1", *overrides)
    assert len(losses(output)) == 2
    assert list(output.glob("*model*.safetensors"))
    record = json.loads((output / "run.json").read_text(encoding="utf-8"))
    assert (record["status"], record["steps"]) == ("finished", 2)
    if config["stage"] in ("dpo", "kto"):
        assert losses(output, "rewards/chosen")
    if config.get("deepspeed") and not has_gpu():
        assert int(re.search(r"Total train batch size .* = (\d+)", printed)[1]) == effective_batch(config)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="its GPUs would be taken")
def test_two_processes_without_deepspeed(sample_data, tmp_path):
    printed = train("tiny/lora", sample_data, tmp_path / "out", "max_steps=2", "logging_steps=1", FORCE_TORCHRUN="1")
    assert "distributed training: True" in printed
    assert re.search(r"Total train batch size .* = 8\b", printed)
    assert len(losses(tmp_path / "out")) == 2


@pytest.mark.skipif(torch.accelerator.is_available(), reason="its GPUs would be taken")
def test_two_nodes_train_one_model(sample_data, tmp_path):
    """Both nodes on this machine, as the README has it for two."""
    nodes = {"FORCE_TORCHRUN": "1", "NNODES": "2", "NPROC_PER_NODE": "1", "MASTER_ADDR": "127.0.0.1"}
    output, port = tmp_path / "out", str(free_port())

    def node(rank):
        return train("tiny/lora", sample_data, output, "max_steps=2", "logging_steps=1", **nodes, NODE_RANK=str(rank),
                     MASTER_PORT=port)  # fmt: skip

    with ThreadPoolExecutor() as pool:
        first, second = pool.map(node, range(2))
    assert "distributed training: True" in second
    assert re.search(r"Total train batch size .* = 8\b", first)
    assert json.loads((output / "run.json").read_text(encoding="utf-8"))["status"] == "finished"
