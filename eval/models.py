"""Models by the names of the configurations that serve them, ``llamafactory_configs/serve/``."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import httpx
from huggingface_hub import snapshot_download
from omegaconf import OmegaConf

from data_prep.errors import InputError
from data_prep.provenance import sha256
from llamafactory_configs.config import ConfigurationError, find_config, load_config

WEIGHTS = ("*.safetensors", "*model*.bin", "adapter_config.json")
KEYS = ("model_name_or_path", "adapter_name_or_path", "template")


@dataclass(frozen=True)
class Model:
    """``model_name_or_path``, ``adapter_name_or_path``, ``template``: as LLaMA-Factory has them. ``served_with``: what
    else its configuration says."""

    name: str
    model_name_or_path: str
    adapter_name_or_path: str | None
    template: str
    served_with: dict

    @property
    def folder(self) -> Path:
        """Where the weights lie that training wrote: the adapter's, if there is one."""
        return Path(self.adapter_name_or_path or self.model_name_or_path)

    @cached_property
    def record(self) -> dict:
        """What it is, for results: with the hashes of its weights, which are fetched from the hub if need be.

        Raises InputError if they cannot be had.
        """
        weights = weight_files(self.model_name_or_path, self.adapter_name_or_path)
        own = {"name": self.name} | {key: getattr(self, key) for key in KEYS} | {"served_with": self.served_with}
        return own | {"weights_sha256": {file.name: sha256(file) for file in weights}}


def weight_files(model: str, adapter: str | None) -> list[Path]:
    """The files that make a model's answers: its weights, fetched from the hub if need be, and of its adapter also how
    they are scaled. Raises InputError."""
    if adapter and not (Path(adapter) / "adapter_config.json").is_file():
        raise InputError(f"There is no adapter at {adapter}; train it first, or name another model.")
    folders = [folder_of(model), *([Path(adapter)] if adapter else [])]
    return [file for folder in folders for name in WEIGHTS for file in sorted(folder.glob(name))]


def folder_of(model: str) -> Path:
    """Where the files of ``model`` lie, a folder or an id on the hub: Hugging Face's, or ModelScope's where
    ``USE_MODELSCOPE_HUB=1`` says so, as when LLaMA-Factory trains and serves. Raises InputError if it cannot be had."""
    if Path(model).is_dir():
        return Path(model)
    if Path(model).parts[0] == "saves":  # where training writes; a namespace of that name would be asked for in vain
        raise InputError(f"There is no model at {model}; train it first (`make train CONFIG=...`), or name another.")
    from llamafactory.extras.misc import use_modelscope  # takes seconds to import

    if use_modelscope():
        return _of_modelscope(model)
    try:
        return Path(snapshot_download(model))
    except (OSError, ValueError, httpx.HTTPError):
        raise InputError(f"There is no model at {model}; give its folder, or a mirror with HF_ENDPOINT=.") from None


def _of_modelscope(model: str) -> Path:
    from llamafactory.extras.misc import try_download_model_from_other_hub
    from llamafactory.hparams import ModelArguments
    from modelscope_hub.errors import HubError  # ModelScope comes with LLaMA-Factory

    try:
        return Path(try_download_model_from_other_hub(ModelArguments(model_name_or_path=model)))
    except (OSError, ValueError, HubError):
        raise InputError(
            f"There is no model at {model} on ModelScope; give its folder, or check the network."
        ) from None


def open_model(name: str) -> Model:
    """The model that the configuration ``name`` serves, such as ``tiny/lora``.

    Raises InputError if there is none, it lacks a key, or has more adapters than one.
    """
    try:
        config = load_config(find_config("serve", name))
    except ConfigurationError as error:
        raise InputError(str(error)) from None
    settings = OmegaConf.to_container(config)
    if missing := [key for key in ("model_name_or_path", "template") if not settings.get(key)]:
        raise InputError(f"{name} names no {missing[0]}; add it.")
    values = [settings.pop(key, None) for key in KEYS]
    if "," in (values[1] or ""):
        raise InputError(f"{name} has more than one adapter, {values[1]}; merge them first (`make export`).")
    return Model(name, *values, settings)
