"""What must hold for our YAML files, a rule a function: each yields a sentence a breach, naming what to change."""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args, get_origin

from llamafactory.data.template import TEMPLATES
from llamafactory.extras.constants import DEFAULT_TEMPLATE, SUPPORTED_MODELS
from llamafactory.hparams import get_infer_args, get_train_args
from omegaconf import OmegaConf

from llamafactory_configs.config import FOLDER, effective_batch, gpus, load_config, names

TASKS = ("train", "serve", "export")
# A Qwen3 that can think is trained and served with the template that leaves thinking out; untouched, with its own.
WITHOUT_THINKING = {"qwen3": "qwen3_nothink"}


@dataclass(frozen=True)
class Configs:
    """All configurations of a folder like ours: ``train/``, ``serve/`` and ``export/``, by name."""

    folder: Path = FOLDER

    @cached_property
    def by_task(self) -> dict[str, dict[str, dict]]:
        """Task to name to content. Raises ConfigurationError if one is not valid YAML."""
        return {
            task: {
                name: OmegaConf.to_container(load_config(self.folder / task / f"{name}.yaml"))
                for name in names(task, self.folder)
            }
            for task in TASKS
        }

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The folder that a training writes to its name."""
        return {config.get("output_dir"): name for name, config in self.by_task["train"].items()}

    def all(self) -> Iterator[tuple[str, str, dict]]:
        """Task, name and content of each."""
        for task, configs in self.by_task.items():
            for name, config in configs.items():
                yield task, name, config


def parses(configs: Configs) -> Iterator[str]:
    """LLaMA-Factory's own parser takes it, and every number is a number."""
    for task, name, config in configs.all():
        # What depends on the machine is set aside: another rule looks after it.
        here = {"use_cpu": True, "bf16": False, "fp16": False, "deepspeed": None} if task == "train" else {}
        here |= {"output_dir": tempfile.gettempdir() + "/never-written"} if task == "train" else {}
        parse = get_train_args if task == "train" else get_infer_args
        try:
            parsed = parse(config | here)
        except (ValueError, TypeError, ImportError) as error:
            yield f"{task}/{name}: LLaMA-Factory refuses it: {str(error).splitlines()[0]}"
            continue
        kinds = {field.name: field.type for part in parsed for field in fields(part)}
        for key, value in config.items():
            if isinstance(value, str) and kinds.get(key) in (int, float, bool):
                yield f"{task}/{name}: {key} is the text {value!r}; write a number, such as 1.0e-4"
            choices = _choices(kinds.get(key))
            if choices and value not in choices:
                yield f"{task}/{name}: {key} is {value}; choose {', '.join(map(str, choices))}"


def _choices(kind: type) -> list:
    """The values of an enumeration or ``Literal``, which the parser does not hold a YAML file to; else none."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [member.value for member in kind]
    return [*get_args(kind)] if get_origin(kind) is Literal else []


def deepspeed(configs: Configs) -> Iterator[str]:
    """The DeepSpeed file is there and JSON, and nothing that ZeRO-3 cannot do is asked for."""
    for name, config in configs.by_task["train"].items():
        if not config.get("deepspeed"):
            continue
        try:
            zero = json.loads(Path(config["deepspeed"]).read_text(encoding="utf-8"))["zero_optimization"]
        except (OSError, ValueError, KeyError, TypeError):
            yield f"train/{name}: {config['deepspeed']} is no DeepSpeed file; ours are in deepspeed/"
            continue
        if config.get("use_cpu"):
            yield f"train/{name}: with use_cpu, accelerate leaves DeepSpeed off; remove use_cpu"
        for key in ("predict_with_generate", "pure_bf16", "use_unsloth"):
            if zero.get("stage") == 3 and config.get(key):
                yield f"train/{name}: ZeRO-3 cannot do {key}; remove it or take zero2.json"


def template(configs: Configs) -> Iterator[str]:
    """LLaMA-Factory has it, and it is the model's own; a hybrid thinker thinks neither in training nor in serving."""
    for task, name, config in configs.all():
        model, given = config.get("model_name_or_path"), config.get("template")
        if given not in TEMPLATES:
            yield f"{task}/{name}: LLaMA-Factory has no template {given}; ours are qwen3_nothink and qwen"
            continue
        own = _own_template(model)
        if own is None or (task == "serve" and given == own and not config.get("enable_thinking", own == "qwen3")):
            continue
        wanted = WITHOUT_THINKING.get(own, own)
        if given != wanted:
            also = f", or template {own} with enable_thinking: false" if task == "serve" and wanted != own else ""
            yield f"{task}/{name}: template {given} does not fit {model}; write {wanted}{also}"


def _own_template(model: str) -> str | None:
    """The template that LLaMA-Factory knows for a model of the hub; None if it does not know the model."""
    for known, sources in SUPPORTED_MODELS.items():
        if model in sources.values():
            return DEFAULT_TEMPLATE.get(known)
    return None


def agreement(configs: Configs) -> Iterator[str]:
    """What is served, exported or gone on from was trained here, on the same model and with the same template."""
    train = configs.by_task["train"]
    for task, name, config in configs.all():
        source = config.get("adapter_name_or_path") or config.get("model_name_or_path") or ""
        if not source.startswith("saves/") or (task == "train" and not config.get("adapter_name_or_path")):
            continue
        if source not in configs.outputs:
            yield f"{task}/{name}: no training writes to {source}; name the output_dir of one"
            continue
        trained = train[configs.outputs[source]]
        keys = ("template", "enable_thinking")
        if config.get("adapter_name_or_path"):
            keys += ("model_name_or_path",)
        for key in keys:
            if config.get(key) != trained.get(key):
                yield (
                    f"{task}/{name}: {key} is {config.get(key)}, but train/{configs.outputs[source]}, whose output"
                    f" it takes, has {trained.get(key)}"
                )


def outputs(configs: Configs) -> Iterator[str]:
    """Every training writes to the folder of its own name."""
    for name, config in configs.by_task["train"].items():
        if config.get("output_dir") != f"saves/{name}":
            yield f"train/{name}: output_dir is {config.get('output_dir')}; write saves/{name}"


def no_test_split(configs: Configs) -> Iterator[str]:
    """Nothing is trained or tuned on a test split."""
    for name, config in configs.by_task["train"].items():
        for dataset in datasets_of(config):
            if "test" in dataset.split("_"):
                yield f"train/{name}: {dataset} is a test split; train on ..._train, evaluate on ..._valid"


def histories_masked(configs: Configs) -> Iterator[str]:
    """Alpaca rows repeat earlier replies; without ``mask_history`` each is learned once more in every row."""
    for name, config in configs.by_task["train"].items():
        if any("alpaca" in dataset for dataset in datasets_of(config)) and not config.get("mask_history"):
            yield f"train/{name}: Alpaca rows hold earlier replies; add mask_history: true"


def same_batch(configs: Configs) -> Iterator[str]:
    """Variants of a recipe, the trainings of one model and stage, differ in how, not in what a step sees."""
    first: dict[tuple, tuple[str, int]] = {}
    for name, config in configs.by_task["train"].items():
        model, batch = config.get("model_name_or_path") or "", effective_batch(config)
        # the parts of persona-tiny's pretraining are no variants of each other
        kind = (name if model.startswith("saves/") else model, config.get("stage"))
        other, wanted = first.setdefault(kind, (name, batch))
        if batch != wanted:
            yield (
                f"train/{name}: a step sees {batch} samples on {gpus(config)} GPU(s), in train/{other} {wanted}; change"
                " gradient_accumulation_steps"
            )


def datasets_of(config: dict, *keys: str) -> list[str]:
    """The names of the datasets that a training reads, under ``keys`` (default: to train and to evaluate)."""
    given = ",".join(str(config.get(key, "")) for key in keys or ("dataset", "eval_dataset"))
    return [name.strip() for name in given.split(",") if name.strip()]


# Those that need nothing but the files. Data and hardware have modules of their own.
RULES: tuple[Callable[[Configs], Iterator[str]], ...] = (
    parses, deepspeed, template, agreement, outputs, no_test_split, histories_masked, same_batch,
)  # fmt: skip
