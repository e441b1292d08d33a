"""Configurations by name: find the YAML, read it with its overrides, as LLaMA-Factory does."""

from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

FOLDER = Path(__file__).parent


class ConfigurationError(Exception):
    """One sentence that names the bad value and what to do."""


def names(task: str, folder: Path = FOLDER) -> list[str]:
    """Names of the configurations of a task (``train``, ``serve``, ``export``), such as ``tiny/lora``, sorted."""
    files = (folder / task).rglob("*.yaml")
    return sorted(path.relative_to(folder / task).with_suffix("").as_posix() for path in files)


def find_config(task: str, name: str) -> Path:
    """The YAML file of ``name``: our ``tiny/lora``, or a file. Raises ConfigurationError if there is none."""
    ours = FOLDER / task / f"{name}.yaml"
    if ours.is_file():
        return ours
    if name.endswith((".yaml", ".yml")) and Path(name).is_file():
        return Path(name)
    raise ConfigurationError(
        f"There is no {task} configuration {name!r}; choose {', '.join(names(task))} or give a YAML file."
    )


def load_config(path: Path, overrides: list[str] = ()) -> DictConfig:
    """The YAML with the ``key=value`` arguments merged in, as LLaMA-Factory does it. Raises ConfigurationError."""
    try:
        config = OmegaConf.load(path)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(config, DictConfig):
        raise ConfigurationError(f"{path} is not a configuration; it must hold lines like `key: value`.")
    return OmegaConf.merge(config, OmegaConf.from_cli(list(overrides)))


# What LLaMA-Factory 0.9.5 takes where a training configuration is silent.
DEFAULTS = {
    "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "num_train_epochs": 3.0, "cutoff_len": 2048,
    "finetuning_type": "lora", "lora_rank": 8,
}  # fmt: skip


def setting(config: dict, key: str):
    """A value of a training configuration, or LLaMA-Factory's default for it."""
    return config.get(key, DEFAULTS[key])


def wants_gpu(config: dict) -> bool:
    """Whether a training configuration computes in half precision and not on the CPU."""
    return bool(config.get("bf16") or config.get("fp16")) and not config.get("use_cpu")


def gpus(config: dict) -> int:
    """GPUs (or processes, on a CPU) that a recipe is made for: two with DeepSpeed, else one."""
    return 2 if config.get("deepspeed") else 1


def effective_batch(config: dict, number: int | None = None) -> int:
    """Samples that one step of the optimizer sees, on ``number`` GPUs (default: those the recipe is made for)."""
    each = setting(config, "per_device_train_batch_size") * setting(config, "gradient_accumulation_steps")
    return each * (number or gpus(config))
