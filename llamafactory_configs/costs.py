"""What a training run needs of GPUs, memory and time, computed from the model's shape: no GPU and no download."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from llamafactory_configs.config import FOLDER, ConfigurationError, setting

GIB = 2**30
MARGIN = 1.1  # of what is computed: fragments of the allocator
CONTEXT = 1.0 * GIB  # CUDA's own
ADAM = 16  # bytes per trained weight in mixed precision: weight 4, gradient 4, two moments 8
NF4 = 4.13 / 8  # bytes per weight in 4 bits with double quantization (Dettmers et al. 2023, arXiv 2305.14314)
# Bytes per token and unit of width that a layer keeps for the backward pass if attention scores are not stored
# (Korthikanti et al. 2022, arXiv 2205.05198, equation 2 without its second term; an MLP four times as wide).
LAYER = 34
LOGITS = 14  # bytes per token and word of the vocabulary: bf16, float32, log-softmax, and its gradient in both
# The GPU whose hours are given: an A100 at 40 % of its dense bf16 peak (NVIDIA's data sheet), which is what
# well-tuned training reaches on models of this size.
A100 = 0.4 * 312e12


@dataclass(frozen=True)
class Shape:
    """What memory depends on. ``linear``: (in, out) of every weight matrix under the head that LoRA can adapt."""

    width: int
    layers: int
    vocabulary: int
    weights: int
    linear: tuple[tuple[int, int], ...]

    def adapter(self, rank: int) -> int:
        """Weights of a LoRA adapter on every linear layer."""
        return sum(rank * (inputs + outputs) for inputs, outputs in self.linear)


def model_config(name: str) -> PretrainedConfig:
    """The configuration of a model: of a folder, of ``models.yaml``, else from the hub.

    Raises ConfigurationError if the hub does not give it.
    """
    known = yaml.safe_load((FOLDER / "models.yaml").read_text(encoding="utf-8"))
    if name in known:
        return AutoConfig.for_model(**known[name])
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError):
        raise ConfigurationError(
            f"The shape of {name} is not in {FOLDER / 'models.yaml'} and the hub does not give it; add it there."
        ) from None


@cache
def shape(name: str) -> Shape:
    """The shape of a model, from an instance that holds no data. Raises ConfigurationError as ``model_config`` does."""
    config = model_config(name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    linear = tuple(
        (module.in_features, module.out_features)
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and path != "lm_head"
    )
    return Shape(config.hidden_size, config.num_hidden_layers, config.vocab_size, model.num_parameters(), linear)


def needed(config: dict, gpus: int) -> float:
    """Bytes that a training configuration needs on each of ``gpus`` GPUs, at its longest samples: an upper estimate.

    Raises ConfigurationError if the model's shape cannot be had.
    """
    model = shape(config["model_name_or_path"])
    zero = _zero(config)
    states = _states(config, model)
    if zero.get("stage", 0) >= 2:
        states /= gpus
    weights = _frozen_weights(config, model)
    if zero.get("stage", 0) == 3:
        weights /= gpus
    if "offload_optimizer" in zero:
        states = weights = 0
    tokens = setting(config, "per_device_train_batch_size") * setting(config, "cutoff_len")
    if config.get("stage") == "dpo":
        tokens *= 2  # the chosen and the rejected reply go through together
    kept = LAYER * model.width * tokens
    if config.get("disable_gradient_checkpointing"):
        activations = kept * model.layers
    else:
        activations = kept + 2 * model.width * tokens * model.layers
    logits = 0 if config.get("enable_liger_kernel") else LOGITS * model.vocabulary * tokens
    return CONTEXT + MARGIN * (states + weights + activations + logits)


def _states(config: dict, model: Shape) -> float:
    """Bytes of what is trained: weights in float32, gradients, moments."""
    if setting(config, "finetuning_type") == "lora":
        return ADAM * model.adapter(setting(config, "lora_rank"))
    return ADAM * model.weights


def _frozen_weights(config: dict, model: Shape) -> float:
    if setting(config, "finetuning_type") != "lora":
        return 0
    in_layers = sum(inputs * outputs for inputs, outputs in model.linear)
    each = NF4 if config.get("quantization_bit") == 4 else 2
    return each * in_layers + 2 * (model.weights - in_layers)


def _zero(config: dict) -> dict:
    """ZeRO's part of the DeepSpeed file; empty without one."""
    if not config.get("deepspeed"):
        return {}
    return json.loads(Path(config["deepspeed"]).read_text(encoding="utf-8"))["zero_optimization"]


def hours(config: dict, tokens: int) -> float:
    """GPU hours on an A100 for ``num_train_epochs`` over ``tokens``.

    FLOP a weight and token: 2 forward, 2 back through activations, 2 for the gradients of the weights unless they are
    frozen, 2 for the second forward pass of gradient checkpointing.
    """
    flops = 4 if setting(config, "finetuning_type") == "lora" else 6
    flops += 0 if config.get("disable_gradient_checkpointing") else 2
    return (
        flops * shape(config["model_name_or_path"]).weights * tokens * setting(config, "num_train_epochs") / A100 / 3600
    )
