"""Models by the names of the configurations that serve them, ``llamafactory_configs/serve/``."""

from dataclasses import asdict, dataclass
from pathlib import Path

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
        """What it is, for results: with the hashes of the weights that lie here, none of what comes from the hub."""
        folders = filter(None, (self.model_name_or_path, self.adapter_name_or_path))
        weights = [file for folder in folders for file in sorted(Path(folder).glob("*.safetensors"))]
        return asdict(self) | {"weights_sha256": {file.name: sha256(file) for file in weights}}


def open_model(name: str) -> Model:
    """The model that the configuration ``name`` serves, such as ``tiny/lora``. Raises InputError if there is none."""
    try:
        config = load_config(find_config("serve", name))
    except ConfigurationError as error:
        raise InputError(str(error)) from None
    return Model(name, config.model_name_or_path, config.get("adapter_name_or_path"), config.template)
