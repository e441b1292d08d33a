"""Whether a result can be written is told before the work."""

import pytest

from data_prep.errors import InputError
from eval.results import check_writable


def test_a_place_that_can_be_written_is_left_as_it_was_but_for_its_folder(tmp_path):
    check_writable(tmp_path / "new" / "folder" / "out.json")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "out.json").write_text("of an earlier run")
    check_writable(tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == "of an earlier run"


@pytest.mark.parametrize(
    ("place", "says"), [("", "is a folder"), ("file/out.json", "cannot be written"), ("a" * 300, "cannot be written")]
)
def test_a_place_that_cannot_is_one_sentence(tmp_path, place, says):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=says):
        check_writable(tmp_path / place)
