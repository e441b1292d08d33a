"""The report that lies in the repository is the one that its results make."""

from reports.build import report_files
from tests.conftest import ROOT

OUT = ROOT / "reports"


def test_it_is_made_anew_byte_for_byte():
    # Coordinates in figures can differ in the last digit from one CPU to another; that the figures are there is enough.
    made = report_files(OUT / "results", OUT)
    assert all((OUT / name).is_file() for name in made)
    texts = [name for name in made if name.endswith((".md", ".html"))]
    assert len(texts) == 4
    for name in texts:
        assert (OUT / name).read_bytes() == made[name], f"{name}: run `make report`"
