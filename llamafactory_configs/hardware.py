"""The card at hand, and whether it can do what a training configuration asks."""

from collections.abc import Iterator
from dataclasses import dataclass

from llamafactory_configs.config import effective_batch, gpus, setting, wants_gpu
from llamafactory_configs.costs import GIB, needed


@dataclass(frozen=True)
class Cards:
    """GPUs of one kind. ``memory``: GiB of each; ``bf16``: whether they compute in it (Ampere and later do)."""

    count: int
    memory: float
    bf16: bool


def cards_at_hand() -> Cards | None:
    """This machine's CUDA or ROCm GPUs, as the smallest of them; None without one."""
    import torch  # takes seconds

    if not torch.cuda.is_available():
        return None
    number = torch.cuda.device_count()
    smallest = min(torch.cuda.get_device_properties(index).total_memory for index in range(number))
    return Cards(number, smallest / GIB, torch.cuda.is_bf16_supported(including_emulation=False))


def fits(config: dict, cards: Cards) -> Iterator[str]:
    """What the cards cannot do, a sentence each, with what to change. Raises ConfigurationError as ``needed`` does."""
    if not wants_gpu(config):
        return
    if config.get("bf16") and not cards.bf16:
        yield "these cards have no bf16; write fp16: true in its place, or take qwen3-1.7b/lora_fp16"
    if cards.count < gpus(config):
        yield (
            f"made for {gpus(config)} GPUs, here is {cards.count}; take a recipe without DeepSpeed, or"
            f" multiply gradient_accumulation_steps by {gpus(config)}"
        )
    elif cards.count > gpus(config):
        sees = effective_batch(config, cards.count)
        yield (
            f"made for {gpus(config)} GPU(s), here are {cards.count}: a step sees {sees} samples, not"
            f" {effective_batch(config)}; start with CUDA_VISIBLE_DEVICES=0, or lower gradient_accumulation_steps"
        )
    wanted = needed(config, cards.count) / GIB
    if wanted > cards.memory:
        batch = setting(config, "per_device_train_batch_size")
        change = (
            f"set per_device_train_batch_size to {batch // 2} and double gradient_accumulation_steps"
            if batch > 1
            else "take a recipe with qlora, lora or offload, or more GPUs with ZeRO-3"
        )
        yield f"needs about {wanted:.0f} GiB a GPU, here are {cards.memory:.0f}; {change}"
