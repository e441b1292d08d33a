from pathlib import Path

import pytest

from data_prep.folder import replaced_folder
from tests.conftest import python_m


def test_a_run_killed_between_the_renames_is_mended(tmp_path):
    (tmp_path / ".data.previous").mkdir()
    (tmp_path / ".data.previous" / "old").touch()
    with pytest.raises(RuntimeError, match="stop"), replaced_folder(tmp_path / "data"):
        raise RuntimeError("stop")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["old"]


def test_an_interrupt_between_the_renames_puts_the_old_folder_back(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "old").touch()
    real = Path.rename

    def rename(path, target):
        if path.name == ".data.staging":
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt), replaced_folder(tmp_path / "data") as staging:
        (staging / "new").touch()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["old"]


def test_a_linked_folder_stays_a_link(tmp_path):
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "data").symlink_to(tmp_path / "disk" / "data")
    for name in ("first", "second"):
        with replaced_folder(tmp_path / "data") as staging:
            (staging / name).touch()
    assert (tmp_path / "data").is_symlink()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["first", "second"]


def test_two_builds_at_once_do_not_mix(tmp_path):
    with replaced_folder(tmp_path / "data") as staging:
        done = python_m("data_prep.build", "--spc", "sample", "--out", str(tmp_path / "data"))
        assert done.returncode == 2
        assert "Another run" in done.stderr
        (staging / "whole").touch()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["whole"]
