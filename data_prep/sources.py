"""Where the SPC files come from: a folder, the Hugging Face hub, or the bundled sample."""

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from data_prep.errors import InputError

HUB_REPOSITORY = "google/Synthetic-Persona-Chat"
FILE_NAMES = {split: f"Synthetic-Persona-Chat_{split}.csv" for split in ("train", "valid", "test")}
SAMPLE = Path(__file__).parent / "sample"


def find_files(source: str) -> dict[str, Path]:
    """CSV path of each split. ``source``: a folder, ``hub`` or ``sample``. Raises InputError if they are not there."""
    if source == "hub":
        return _from_hub()
    folder = SAMPLE if source == "sample" else Path(source)
    if not folder.is_dir():
        raise InputError(f"SPC={source} is not a folder; give a folder with the CSV files, `hub` or `sample`.")
    files = {split: folder / name for split, name in FILE_NAMES.items()}
    for path in files.values():
        if not path.is_file():
            raise InputError(f"{folder} has no {path.name}; it must hold {', '.join(FILE_NAMES.values())}.")
    return files


def _from_hub() -> dict[str, Path]:
    try:
        return {
            split: Path(hf_hub_download(HUB_REPOSITORY, f"data/{name}", repo_type="dataset"))
            for split, name in FILE_NAMES.items()
        }
    # The first covers no network at all; the others a mirror that answers, but not with the file.
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, EntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"The hub did not give {HUB_REPOSITORY} ({type(error).__name__}); "
            "use SPC=<folder with the CSV files> or SPC=sample instead."
        ) from error
