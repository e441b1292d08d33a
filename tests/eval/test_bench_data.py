import json

import pytest

from data_prep.sources import FILE_NAMES, SAMPLE
from eval.bench_data import obvious_loop
from tests.conftest import python_m


def test_the_loop_writes_both_formats_for_every_reply(tmp_path):
    replies = obvious_loop({split: SAMPLE / name for split, name in FILE_NAMES.items()}, tmp_path)
    rows = [row for split in FILE_NAMES for row in json.loads((tmp_path / f"alpaca_{split}.json").read_text())]
    assert len(rows) == replies > 900


@pytest.mark.slow
def test_the_command_writes_what_it_measured(tmp_path):
    done = python_m("eval.bench_data", "--spc", "sample", "--times", "2", "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert json.loads(done.stdout).items() <= result.items()
    assert result["scale"]["many"]["peak_mib"] > 50
    assert result["loop"]["seconds"] > 0
