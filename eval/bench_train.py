"""How many replies a second training learns: ``python -m eval.bench_train --json OUT`` (``make bench-train``).

LLaMA-Factory's stock way (one Alpaca row per reply with its history, the settings of its example YAML) against ours
(whole conversations) on the same replies, model and machine: one epoch of each. With ``--model`` a model of the hub,
its real shape is trained with random weights, since speed does not depend on them; only the tokenizer is downloaded.
"""

import argparse
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import yaml
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_prep.errors import InputError
from data_prep.formats import dataset_info
from eval.results import check_writable, write_result
from llamafactory_configs.costs import model_config, shape
from llamafactory_configs.run_record import hardware
from retrieval.training.precision import computes_in_bf16

SEED = 42
DATA = Path("spc_sharegpt_train.json")
# What every run shares.
COMMON = {
    "stage": "sft", "do_train": True, "template": "qwen3_nothink", "cutoff_len": 2048, "num_train_epochs": 1.0,
    "lr_scheduler_type": "cosine", "warmup_steps": 0.1, "bf16": computes_in_bf16(), "logging_steps": 1,
    "save_strategy": "no", "report_to": "none", "seed": SEED,
}  # fmt: skip
TUNINGS = {
    "lora": {"finetuning_type": "lora", "lora_rank": 8, "lora_target": "all", "learning_rate": 1.0e-4},
    "full": {"finetuning_type": "full", "learning_rate": 1.0e-5},
}
# examples/train_lora/qwen3_lora_sft.yaml and examples/train_full/qwen3_full_sft.yaml of LLaMA-Factory 0.9.5
STOCK = {"per_device_train_batch_size": 1, "dataset": "spc_alpaca_train", "preprocessing_num_workers": 16,
         "dataloader_num_workers": 4}  # fmt: skip
OURS = {"gradient_accumulation_steps": 1, "dataset": "spc_sharegpt_train", "disable_gradient_checkpointing": True}
LENGTHS = {"train_sampling_strategy": "group_by_length"}
PACKED = {"packing": True, "neat_packing": True}
# Dense bf16 peaks of the vendors' data sheets, FLOP/s.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12, "4090": 165e12}


def ways(batch: int, tunings: list[str], gpu: bool) -> dict[str, dict]:
    """The settings of each way by name, for each of ``tunings``; ``batch`` conversations a step in ours."""
    ours = OURS | ({"enable_liger_kernel": True} if gpu else {})  # its kernels are Triton's
    grouped = ours | LENGTHS | {"per_device_train_batch_size": batch}
    # a packed row holds about as many tokens as three conversations
    packed = ours | PACKED | {"per_device_train_batch_size": max(1, batch // 3)}
    found = {}
    for tuning in tunings:
        accumulation = {"lora": 8, "full": 2}[tuning]  # of the stock way
        found[f"stock, {tuning}"] = STOCK | TUNINGS[tuning] | {"gradient_accumulation_steps": accumulation}
        found[f"ours, {tuning}"] = grouped | TUNINGS[tuning]
        found[f"ours packed, {tuning}"] = packed | TUNINGS[tuning]
    return found


def write_data(source: Path, conversations: int, folder: Path) -> int:
    """The same replies twice, as conversations and as one Alpaca row each; gives their number."""
    rows = json.loads(source.read_text(encoding="utf-8"))
    rows = random.Random(SEED).sample(rows, min(conversations, len(rows)))
    alpaca = []
    for row in rows:
        turns = [turn["value"] for turn in row["conversations"]]
        pairs = list(zip(turns[::2], turns[1::2], strict=True))
        alpaca += [
            {"instruction": message, "input": "", "output": reply, "system": row["system"], "history": pairs[:number]}
            for number, (message, reply) in enumerate(pairs)
        ]
    folder.mkdir()
    for name, content in (("spc_sharegpt_train.json", rows), ("spc_alpaca_train.json", alpaca)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    info = dataset_info(["sharegpt", "alpaca"], ["train"])
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    return len(alpaca)


def write_model(name: str, tokenizer: str, folder: Path) -> Path:
    """A model of the hub's shape with random weights, and a tokenizer; a folder with a model is taken as it is."""
    if Path(name).is_dir():
        return Path(name)
    torch.manual_seed(SEED)
    AutoModelForCausalLM.from_config(model_config(name), dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def measure(settings: dict, replies: int, folder: Path, tokens: int | None = None) -> dict:
    """One epoch; replies and tokens per second of the training loop, its peak memory, the share of peak FLOP/s.

    ``tokens``: of the data, without padding; None if the trainer can count them itself.
    Raises RuntimeError with what was printed if the run fails.
    """
    output = Path(settings["output_dir"])
    path = folder / "way.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "llamafactory_configs.run", "train", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-4000:])
    seconds = json.loads((output / "train_results.json").read_text(encoding="utf-8"))["train_runtime"]
    record = json.loads((output / "run.json").read_text(encoding="utf-8"))
    state = json.loads((output / "trainer_state.json").read_text(encoding="utf-8"))
    tokens = tokens or state["num_input_tokens_seen"]
    return {
        "seconds": round(seconds, 1),
        "replies_per_second": round(replies / seconds, 2),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds),
        "share_of_peak": share_of_peak(settings, tokens / seconds),
        "peak_memory_mib": record["peak_memory_mib"],
    }


def share_of_peak(settings: dict, tokens_per_second: float) -> float | None:
    """Model FLOP utilisation of full fine-tuning: 6 FLOP a weight and token (Chowdhery et al. 2022, arXiv 2204.02311,
    appendix B, without attention) over the GPU's dense bf16 peak. None for LoRA, and where no peak is known.
    """
    gpus = hardware()["gpus"]
    peak = next((PEAKS[word] for word in re.split("[ -]", gpus[0]["name"] if gpus else "") if word in PEAKS), None)
    if peak is None or settings["finetuning_type"] == "lora":
        return None
    return round(6 * shape(settings["model_name_or_path"]).weights * tokens_per_second / peak, 3)


def bench(model: Path, data: Path, replies: int, chosen: dict[str, dict], folder: Path) -> dict:
    """All ways, and how many times the replies of the stock way each learns."""
    place = {} if torch.cuda.is_available() else {"use_cpu": True}
    found = {}
    for name, way in (progress := tqdm(chosen.items())):
        progress.set_description(name)
        output = folder / name.replace(", ", "-").replace(" ", "-")
        where = {"model_name_or_path": str(model), "dataset_dir": str(data), "output_dir": str(output)}
        # packed rows are filled up with padding, which the trainer would count; they hold the same conversations
        tokens = found[name.replace(" packed", "")]["tokens"] if "neat_packing" in way else None
        found[name] = measure(COMMON | way | where | place, replies, folder, tokens)
    for name, result in found.items():
        stock = found["stock, " + name.split(", ")[1]]
        result["times_stock"] = round(result["replies_per_second"] / stock["replies_per_second"], 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.bench_train", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, default=Path("data"), help="folder of the datasets (default: data)")
    add("--model", default="models/persona-tiny", help="folder, or a model of models.yaml (default: persona-tiny)")
    add("--tokenizer", metavar="MODEL", help="folder or hub id, if not the model's")
    add("--conversations", type=int, default=48, metavar="N", help="to learn (default: 48)")
    add("--batch", type=int, default=4, metavar="N", help="conversations a step in our way (default: 4)")
    add("--tuning", choices=TUNINGS, nargs="+", default=list(TUNINGS), help="what is trained (default: lora full)")
    add("--json", type=Path, required=True, metavar="OUT", help="where to write the result")
    arguments = parser.parse_args()
    source = arguments.data / DATA
    try:
        check_writable(arguments.json)
        if not source.is_file():
            raise InputError(f"{source} is not there; build it with `make data`.")
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    with TemporaryDirectory() as folder:
        model = write_model(arguments.model, arguments.tokenizer or arguments.model, Path(folder) / "model")
        replies = write_data(source, arguments.conversations, Path(folder) / "data")
        chosen = ways(arguments.batch, arguments.tuning, torch.cuda.is_available())
        found = bench(model, Path(folder) / "data", replies, chosen, Path(folder))
    config = {"model": arguments.model, "conversations": arguments.conversations, "batch": arguments.batch,
              "replies": replies, "ways": {name: COMMON | way for name, way in chosen.items()}}  # fmt: skip
    result = {"hardware": hardware(), "ways": found}
    write_result(arguments.json, config, [source], result)
    for name, way in found.items():
        print(f"{name:20} {way['replies_per_second']:9.2f} replies/s {way['tokens_per_second']:9,} tokens/s"
              f" {way['times_stock']:6.1f} times stock")  # fmt: skip


if __name__ == "__main__":
    main()
