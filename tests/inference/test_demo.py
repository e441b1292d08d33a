import re
import subprocess
import sys
from pathlib import Path

import pytest

from inference.demo import QUESTIONS
from tests.conftest import ROOT
from tests.inference.test_serving import listening

pytestmark = pytest.mark.slow


def test_the_demo_ends_with_its_page(tmp_path):
    out = tmp_path / "demo"
    script = "import sys, pathlib; from inference.demo import demo; print(demo(pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", script, str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    page = (out / "page.txt").read_text(encoding="utf-8")
    assert done.stdout.endswith(page + "\n")
    for question in QUESTIONS:
        assert re.search(
            rf"You: {re.escape(question)}\n(  retrieved  0\.\d{{3}}  \[P\d\] .+\n){{1,2}}Persona: .*\w.*\n  cited ",
            page,
        )
    losses = re.findall(
        r"^  (?:training, 10 steps each|held-out conversations) +([\d.]+) +([\d.]+)$", page, re.MULTILINE
    )
    assert len(losses) == 2
    for before, after in losses:
        assert float(after) < float(before) - 0.3
    [curve] = re.findall(r"Loss curve: (\S+)", page)
    assert Path(curve).stat().st_size > 1000
    steps = re.findall(r"step +\d+ of +\d+   loss", done.stdout)
    assert len(steps) >= 5
    port = int(re.search(r"waiting for http://127\.0\.0\.1:(\d+)", done.stdout)[1])
    assert not listening(port)
