"""``run.json`` beside the model: what was trained from which data with which code on what, how fast, how it ended."""

import json
import resource
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import psutil
from omegaconf import DictConfig, OmegaConf

from data_prep.provenance import git_hash, sha256
from llamafactory_configs.output_folder import state
from llamafactory_configs.retriever_record import retriever_of

LOG = "trainer_log.jsonl"
PACKAGES = ("llamafactory", "torch", "transformers", "peft", "trl", "accelerate", "deepspeed")


class RunRecord:
    """The record of one output folder; each start of the run is one of its ``legs``."""

    def __init__(self, name: str, config: DictConfig, checkpoint: Path | None):
        """Begin a leg at ``checkpoint``, or at the first step; the legs of earlier starts of the run are kept."""
        self.folder = Path(config.output_dir)
        self.path = self.folder / "run.json"
        earlier = json.loads(self.path.read_text(encoding="utf-8")) if checkpoint and self.path.is_file() else {}
        legs = [{"status": "killed"} | leg for leg in earlier.get("legs", [])]  # what was closed says so itself
        before = state(checkpoint) if checkpoint else {}
        self.tokens_before = before.get("num_input_tokens_seen", 0)
        self.lines_before = len(_lines(self.folder / LOG))
        data = Path(config.get("dataset_dir", "data"))
        manifest = data / "manifest.json"
        self.record = {
            "name": name,
            "status": "running",
            "git": git_hash(),
            "config": OmegaConf.to_container(config),
            "data": {
                "folder": str(data),
                "manifest_sha256": sha256(manifest) if manifest.is_file() else None,
                "retriever": retriever_of(data),
            },
            "versions": {package: version(package) for package in PACKAGES},
            "hardware": hardware(),
            "legs": [*legs, {"from_step": before.get("global_step", 0), "started": _now()}],
        }
        self.started = time.monotonic()
        self._write()

    def end(self, status: str) -> dict:
        """Close the leg with ``status`` (``finished``, ``stopped``, ``failed``) and what the trainer left; gives it.

        ``tokens_per_second``: of this leg, without padding; ``peak_memory_mib``: ``host`` of the largest process,
        ``gpu`` as allocated on the first GPU, null without one.
        """
        log = _lines(self.folder / LOG)[self.lines_before :]
        final = state(self.folder) if status == "finished" else None
        leg = self.record["legs"][-1]
        leg |= {"seconds": round(time.monotonic() - self.started, 1), "status": status}
        logged = max((line["current_steps"] for line in log), default=leg["from_step"])
        leg["to_step"] = final["global_step"] if final else logged
        losses = [entry["loss"] for entry in (final or {}).get("log_history", []) if "loss" in entry]
        self.record |= {
            "status": status,
            "steps": leg["to_step"],
            "loss": {"first": losses[0], "last": losses[-1]} if losses else None,
            "tokens_per_second": self._speed(log),
            "peak_memory_mib": {
                # ru_maxrss is in KiB on Linux: of the largest process that was waited for
                "host": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
                "gpu": max((round(line.get("vram_allocated", 0) * 1024) for line in log), default=0) or None,
            },
        }
        self._write()
        return self.record

    def _speed(self, log: list[dict]) -> float | None:
        """Tokens per second of this leg; the trainer counts tokens over all legs, but time from the leg's start."""
        counted = [line for line in log if "total_tokens" in line]
        seconds = pd.Timedelta(counted[-1]["elapsed_time"]).total_seconds() if counted else 0
        return round((counted[-1]["total_tokens"] - self.tokens_before) / seconds, 1) if seconds else None

    def _write(self) -> None:
        staging = self.path.with_name(".run.json.staging")
        staging.write_text(json.dumps(self.record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        staging.replace(self.path)


def begun_with_other_data(folder: Path, data: Path) -> bool:
    """Whether the run in ``folder`` began with another build of ``data``, as far as the record tells."""
    record, manifest = folder / "run.json", data / "manifest.json"
    if not record.is_file() or not manifest.is_file():
        return False
    return json.loads(record.read_text(encoding="utf-8"))["data"]["manifest_sha256"] != sha256(manifest)


def hardware() -> dict:
    """Cores, memory and GPUs of this machine."""
    import torch  # takes seconds

    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return {
        "cores": psutil.cpu_count(),
        "memory_mib": psutil.virtual_memory().total // 2**20,
        "gpus": [{"name": gpu.name, "memory_mib": gpu.total_memory // 2**20} for gpu in gpus],
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _lines(path: Path) -> list[dict]:
    """The lines of LLaMA-Factory's log that are whole: the last one may have been cut off."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines
