"""Models by the names of the configurations that serve them, ``llamafactory_configs/serve/``."""

from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from huggingface_hub import snapshot_download

from data_prep.errors import InputError
from data_prep.provenance import sha256
from llamafactory_configs.config import ConfigurationError, find_config, load_config


@dataclass(frozen=True)
class Model:
    """``model_name_or_path``, ``adapter_name_or_path``, ``template``: as LLaMA-Factory has them."""

    name: str
    model_name_or_path: str
    adapter_name_or_path: str | None
    template: str

    @property
    def folder(self) -> Path:
        """Where the weights lie that training wrote: the adapter's, if there is one."""
        return Path(self.adapter_name_or_path or self.model_name_or_path)

    def record(self) -> dict:
        """What it is, for results: with the hashes of its weights, which are fetched from the hub if need be.

        Raises InputError if they cannot be had.
        """
        folders = [_here(self.model_name_or_path)]
        if self.adapter_name_or_path:
            folders.append(Path(self.adapter_name_or_path))
        weights = [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]
        return asdict(self) | {"weights_sha256": {file.name: sha256(file) for file in weights}}


def _here(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model)
    try:
        return Path(snapshot_download(model))
    except (OSError, ValueError, httpx.HTTPError):
        raise InputError(f"There is no model at {model}; give its folder, or a mirror with HF_ENDPOINT=.") from None


def open_model(name: str) -> Model:
    """The model that the configuration ``name`` serves, such as ``tiny/lora``. Raises InputError if there is none."""
    try:
        config = load_config(find_config("serve", name))
    except ConfigurationError as error:
        raise InputError(str(error)) from None
    return Model(name, config.model_name_or_path, config.get("adapter_name_or_path"), config.template)
