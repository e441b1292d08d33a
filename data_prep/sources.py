"""Where the SPC files come from: a folder, the Hugging Face hub, or the bundled sample."""

from pathlib import Path

import httpx
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import EntryNotFoundError

from data_prep.errors import InputError

HUB_REPOSITORY = "google/Synthetic-Persona-Chat"
FILE_NAMES = {split: f"Synthetic-Persona-Chat_{split}.csv" for split in ("train", "valid", "test")}
HELD_OUT = ("valid", "test")
NEW_PERSONA = {"new_persona": "New-Persona-New-Conversations.csv"}
SAMPLE = Path(__file__).parent / "sample"


def find_files(source: str, new_persona: bool = False) -> dict[str, Path]:
    """CSV path of each split. ``source``: a folder, ``hub`` or ``sample``. Raises InputError if they are not there.

    ``new_persona`` adds the file of conversations between new cards, as a split of its own.
    """
    names = FILE_NAMES | (NEW_PERSONA if new_persona else {})
    if source == "hub":
        return _from_hub(names)
    folder = SAMPLE if source == "sample" else Path(source).expanduser()
    if not folder.is_dir():
        raise InputError(f"SPC={source} is not a folder; give a folder with the CSV files, `hub` or `sample`.")
    files = {split: folder / name for split, name in names.items()}
    for path in files.values():
        if not path.is_file():
            raise InputError(f"{folder} has no {path.name}; it must hold {', '.join(names.values())}.")
    return files


def _from_hub(names: dict[str, str]) -> dict[str, Path]:
    try:
        return {
            split: Path(hf_hub_download(HUB_REPOSITORY, f"data/{name}", repo_type="dataset"))
            for split, name in names.items()
        }
    # No network and no such file (both OSError), a break in mid-download (httpx), an answer that is no file (OSError).
    except (OSError, httpx.HTTPError, EntryNotFoundError) as error:
        raise InputError(
            f"The hub at {ENDPOINT} did not give {HUB_REPOSITORY}; use SPC=<folder with the CSV files> or SPC=sample, "
            "or name a mirror with HF_ENDPOINT=."
        ) from error
