"""Run LLaMA-Factory on one of our configurations: ``python -m llamafactory_configs.run train tiny/lora``.

Checks first what would otherwise end in a traceback minutes later, sets the environment that the configuration
needs, and then becomes ``llamafactory-cli``. ``key=value`` arguments are handed on and win over the YAML.
"""

import argparse
import json
import os
import shutil
import socket
import sys
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

FOLDER = Path(__file__).parent
RECORD = "retriever.json"  # which retriever made the training data: beside the data, and beside what was trained on it
TASKS = {"train": "train", "serve": "api", "export": "export", "webui": "webui"}


class ConfigurationError(Exception):
    """One sentence that names the bad value and what to do."""


def find_config(task: str, name: str) -> Path:
    """The YAML file of ``name``: our ``tiny/lora``, or a file. Raises ConfigurationError if there is none."""
    ours = FOLDER / task / f"{name}.yaml"
    if ours.is_file():
        return ours
    if name.endswith((".yaml", ".yml")) and Path(name).is_file():
        return Path(name)
    names = sorted(str(path.relative_to(FOLDER / task).with_suffix("")) for path in (FOLDER / task).rglob("*.yaml"))
    raise ConfigurationError(
        f"There is no {task} configuration {name!r}; choose {', '.join(names)} or give a YAML file."
    )


def load_config(path: Path, overrides: list[str]) -> DictConfig:
    """The YAML with the ``key=value`` arguments merged in, as LLaMA-Factory does it. Raises ConfigurationError."""
    try:
        config = OmegaConf.load(path)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(config, DictConfig):
        raise ConfigurationError(f"{path} is not a configuration; it must hold lines like `key: value`.")
    return OmegaConf.merge(config, OmegaConf.from_cli(overrides))


def has_gpu() -> bool:
    """Whether PyTorch sees an accelerator (CUDA, ROCm, NPU, XPU, ...); Apple's MPS is too small a one to count."""
    import torch  # takes seconds, and only training needs it

    return torch.accelerator.is_available() and torch.accelerator.current_accelerator().type != "mps"


def check_train(config: DictConfig, name: str) -> None:
    """Raise ConfigurationError if ``config`` cannot be trained here and now."""
    wants_gpu = (config.get("bf16") or config.get("fp16")) and not config.get("use_cpu")
    if wants_gpu and not has_gpu():
        raise ConfigurationError(
            f"{name} needs a GPU and this machine has none; `make demo` shows the whole path on a CPU."
        )
    if not config.get("output_dir"):
        raise ConfigurationError(f"{name} names no output_dir; add one, such as output_dir=saves/mine.")
    info = Path(config.get("dataset_dir", "data")) / "dataset_info.json"
    if not info.is_file():
        raise ConfigurationError(f"{info} is not there; build the datasets with `make data`.")
    output = Path(config.output_dir)
    if (output / "train_results.json").is_file() and not config.get("overwrite_output_dir"):
        raise ConfigurationError(
            f"{output} holds a finished run; to start over add overwrite_output_dir=true to ARGS, "
            "to keep it add output_dir=saves/mine."
        )


def check_models(config: DictConfig) -> None:
    """Raise ConfigurationError if a model or adapter that a run of ours must have made is not there."""
    for key in ("model_name_or_path", "adapter_name_or_path"):
        for path in filter(None, (config.get(key) or "").split(",")):
            trained = [Path(path) / name for name in ("config.json", "adapter_config.json")]
            if path.startswith("saves/") and not any(file.is_file() for file in trained):
                name = path.removeprefix("saves/")
                ours = (FOLDER / "train" / f"{name}.yaml").is_file()
                hint = f"train it with `make train CONFIG={name}`" if ours else "make it first, or name another folder"
                raise ConfigurationError(f"{path} holds no model yet; {hint}.")


def retriever_of(folder: Path) -> str | None:
    """The identity of the retriever that a folder's record names; None if there is no record.

    Raises ConfigurationError if it cannot be read.
    """
    record = folder / RECORD
    if not record.is_file():
        return None
    try:
        return json.loads(record.read_text(encoding="utf-8"))["identity"]
    except (KeyError, TypeError, ValueError):
        raise ConfigurationError(f"{record} does not say which retriever it is; run `make data` anew.") from None


def keep_record(source: Path, target: Path, replace: bool) -> None:
    """Copy the record of the retriever. Raises ConfigurationError if ``target`` has another one not to be replaced."""
    wanted, present = retriever_of(source), retriever_of(target)
    if wanted and present and present != wanted and not replace:
        raise ConfigurationError(
            f"{target} was begun with facts that {present} retrieved, but {source} holds those of {wanted}; name"
            " another output_dir, or add overwrite_output_dir=true."
        )
    if replace:
        (target / RECORD).unlink(missing_ok=True)
    if wanted:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / RECORD, target / RECORD)


def model_folder(config: DictConfig) -> Path:
    """Where the record of what ``config`` serves is: the last adapter, or the model."""
    return Path((config.get("adapter_name_or_path") or config.get("model_name_or_path") or "").split(",")[-1])


def served_name(config: DictConfig) -> str:
    """The name that the API gives the model: clients read from it which retriever it was trained with."""
    identity = retriever_of(model_folder(config))
    return f"persona@{identity}" if identity else "persona"


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


def environment(config: DictConfig) -> dict[str, str]:
    """The environment for LLaMA-Factory: loopback only, no prompts in the log; a variable that is set already wins."""
    wanted = {"API_HOST": "127.0.0.1", "API_PORT": "8000", "API_VERBOSE": "0"}
    wanted["API_MODEL_NAME"] = served_name(config)
    wanted |= {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": "7860", "GRADIO_ANALYTICS_ENABLED": "False"}
    if config.get("use_cpu"):
        wanted["OMP_NUM_THREADS"] = "2"  # more threads cost a small model more than they bring
    if config.get("deepspeed"):
        wanted["FORCE_TORCHRUN"] = "1"
        if not has_gpu():  # LLaMA-Factory would start no process at all
            wanted |= {"NPROC_PER_NODE": "2", "OMP_NUM_THREADS": "1"}
    # LLaMA-Factory starts `torchrun` by name: it must be the one of this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**wanted, **os.environ, "PATH": path}


def prepare(task: str, name: str | None, overrides: list[str]) -> tuple[list[str], dict[str, str]]:
    """The ``llamafactory-cli`` command and its environment. Raises ConfigurationError if it cannot work."""
    path = find_config(task, name) if name else None
    config = load_config(path, overrides) if path else OmegaConf.create()
    env = environment(config)
    check_models(config)
    if task == "train":
        check_train(config, name)
        replace = bool(config.get("overwrite_output_dir"))
        keep_record(Path(config.get("dataset_dir", "data")), Path(config.output_dir), replace)
    elif task == "serve":
        check_port(env["API_HOST"], env["API_PORT"], "PORT")
    elif task == "export":
        if not config.get("export_dir"):
            raise ConfigurationError(f"{name} names no export_dir; add one, such as export_dir=saves/merged.")
        keep_record(model_folder(config), Path(config.export_dir), replace=True)
    elif task == "webui":
        check_port(env["GRADIO_SERVER_NAME"], env["GRADIO_SERVER_PORT"], "GRADIO_SERVER_PORT")
    command = [str(Path(sys.executable).with_name("llamafactory-cli")), TASKS[task]]
    return command + ([str(path), *overrides] if path else []), env


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m llamafactory_configs.run", description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("config", nargs="?", help="e.g. tiny/lora, or a YAML file (webui: none)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="handed on to LLaMA-Factory")
    arguments = parser.parse_args()
    if (arguments.config is None) != (arguments.task == "webui"):
        parser.error("train, serve and export take a configuration, webui takes none")
    try:
        command, env = prepare(arguments.task, arguments.config, arguments.overrides)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    os.execve(command[0], command, env)


if __name__ == "__main__":
    main()
