"""What LLaMA-Factory needs of its environment, and whether this machine gives it."""

import os
import socket
import sys
from pathlib import Path

from omegaconf import DictConfig

from llamafactory_configs.config import ConfigurationError
from llamafactory_configs.retriever_record import served_name


def has_gpu() -> bool:
    """Whether PyTorch sees an accelerator (CUDA, ROCm, NPU, XPU, ...); Apple's MPS is too small a one to count."""
    import torch  # takes seconds, and only training needs it

    return torch.accelerator.is_available() and torch.accelerator.current_accelerator().type != "mps"


def environment(config: DictConfig) -> dict[str, str]:
    """The environment for LLaMA-Factory: loopback only, no prompts in the log; a variable that is set already wins."""
    wanted = {"API_HOST": "127.0.0.1", "API_PORT": "8000", "API_VERBOSE": "0"}
    wanted["API_MODEL_NAME"] = served_name(config)
    wanted |= {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": "7860", "GRADIO_ANALYTICS_ENABLED": "False"}
    wanted["RECORD_VRAM"] = "1"  # peak memory of the GPU in the trainer's log
    if config.get("use_cpu"):
        wanted["OMP_NUM_THREADS"] = "2"  # more threads cost a small model more than they bring
        # oneDNN keeps what it compiled for each shape; with batches of every length memory grew by 16 MB a step.
        wanted |= {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
    by_torchrun = config.get("deepspeed") and not os.environ.get("USE_RAY")
    if by_torchrun or os.environ.get("FORCE_TORCHRUN"):
        wanted["FORCE_TORCHRUN"] = "1"
        if not has_gpu():  # LLaMA-Factory would start no process at all
            wanted |= {"NPROC_PER_NODE": "2", "OMP_NUM_THREADS": "1"}
    # LLaMA-Factory starts `torchrun` by name: it must be the one of this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**wanted, **os.environ, "PATH": path}


def check_port(host: str, port: str, variable: str) -> None:
    """Raise ConfigurationError unless ``host:port`` can be listened on."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{port} is not a port number; choose one from 1024 to 65535, such as {variable}=8010."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{host}:{port} cannot be used ({error.strerror}); choose another port, such as {variable}=8010."
        ) from None
