"""The benchmark of training: both ways learn the same replies, and it says which is faster by how much."""

import json

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval import bench_train
from eval.bench_train import share_of_peak, ways, write_data, write_model
from llamafactory_configs.costs import shape
from tests.conftest import ENV, ROOT, in_process, python_m

TINY = str(ROOT / "models" / "persona-tiny")


def test_both_ways_hold_the_same_replies(sample_data, tmp_path):
    replies = write_data(sample_data / "spc_sharegpt_train.json", 5, tmp_path / "data")
    conversations, alpaca = (
        json.loads((tmp_path / "data" / f"spc_{form}_train.json").read_text()) for form in ("sharegpt", "alpaca")
    )
    assert len(conversations) == 5
    said = [turn["value"] for row in conversations for turn in row["conversations"] if turn["from"] == "gpt"]
    assert said == [row["output"] for row in alpaca]
    assert len(said) == replies
    last = [row["conversations"] for row in conversations][-1]
    assert len(alpaca[-1]["history"]) == len(last) // 2 - 1


def test_a_model_of_the_hub_is_made_from_its_shape(tmp_path, monkeypatch):
    assert write_model(TINY, TINY, tmp_path / "x") == ROOT / "models" / "persona-tiny"
    monkeypatch.setattr(bench_train, "model_config", lambda name: AutoModelForCausalLM.from_pretrained(TINY).config)
    folder = write_model("Qwen/Some", TINY, tmp_path / "model")
    made = AutoModelForCausalLM.from_pretrained(folder)
    assert made.num_parameters() == shape(TINY).weights
    assert len(AutoTokenizer.from_pretrained(folder)) == len(AutoTokenizer.from_pretrained(TINY))


def test_the_share_of_the_peak_is_six_flop_a_weight_and_token(monkeypatch):
    full = {"finetuning_type": "full", "model_name_or_path": "Qwen/Qwen3-1.7B"}
    monkeypatch.setattr(bench_train, "hardware", lambda: {"gpus": [{"name": "NVIDIA H200"}]})
    expected = 6 * 1.7206e9 * 40_000 / 989e12  # by hand: 0.4176
    assert share_of_peak(full, 40_000) == pytest.approx(expected, abs=1e-3)
    assert share_of_peak(full | {"finetuning_type": "lora"}, 40_000) is None
    monkeypatch.setattr(bench_train, "hardware", lambda: {"gpus": []})
    assert share_of_peak(full, 40_000) is None


def test_on_a_gpu_its_kernels_are_used():
    assert all(way.get("enable_liger_kernel") for name, way in ways(8, ["full"], gpu=True).items() if "ours" in name)
    assert not any("enable_liger_kernel" in way for way in ways(8, ["full"], gpu=False).values())


@pytest.mark.slow
def test_the_command_measures_each_way(sample_data, tmp_path):
    out = tmp_path / "bench.json"
    arguments = ("--data", str(sample_data), "--conversations", "6", "--tuning", "full", "--json", str(out))
    done = python_m("eval.bench_train", *arguments, env=ENV)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(out.read_text(encoding="utf-8"))
    assert list(result["ways"]) == ["stock, full", "ours, full", "ours packed, full"]
    stock, ours, packed = result["ways"].values()
    assert stock["times_stock"] == 1.0
    assert stock["tokens"] > 4 * ours["tokens"]  # each history is read again for every reply
    assert packed["tokens"] == ours["tokens"]
    assert ours["times_stock"] > 3  # a sixth of the tokens; with so few conversations the loop's own costs weigh
    assert ours["share_of_peak"] is None or result["hardware"]["gpus"]


def test_missing_data_is_one_sentence(tmp_path):
    done = in_process("eval.bench_train", "--data", str(tmp_path), "--json", str(tmp_path / "out.json"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "make data" in done.stderr
