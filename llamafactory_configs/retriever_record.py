"""Which retriever made the training data: ``retriever.json`` beside the data, and beside what was trained on it."""

import json
import shutil
from pathlib import Path

from omegaconf import DictConfig

from llamafactory_configs.config import ConfigurationError

RECORD = "retriever.json"


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
