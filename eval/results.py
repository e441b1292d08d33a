"""Results as JSON: every file carries the commit, the configuration and the hashes of its input."""

import json
from pathlib import Path

from data_prep.provenance import git_hash, sha256


def write_result(path: Path, config: dict, inputs: list[Path], result: dict) -> None:
    """Write one result file, whole or not at all."""
    record = {
        "git": git_hash(),
        "config": config,
        "input_sha256": {file.name: sha256(file) for file in inputs},
    } | result
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.staging")
    staging.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    staging.replace(path)
