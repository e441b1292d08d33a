"""Fixtures shared by all tests: the bundled sample, real SPC where it lies, and datasets built from the sample."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPC_DIR = Path(os.environ.get("SPC_DIR", ROOT.parent / "shared" / "spc"))


def python_m(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Run ``python -m ...`` from the project's root, output captured as text."""
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, **options
    )


@pytest.fixture(scope="session")
def spc_dir() -> Path:
    """The folder with the real SPC files."""
    if not SPC_DIR.is_dir():
        pytest.skip(f"real SPC is not at {SPC_DIR}; set SPC_DIR to the folder with its CSV files")
    return SPC_DIR


@pytest.fixture(scope="session")
def sample_data(tmp_path_factory) -> Path:
    """``make data SPC=sample`` in a folder of its own."""
    out = tmp_path_factory.mktemp("built") / "data"
    done = python_m("data_prep.build", "--spc", "sample", "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out
