"""The command, with Chromium and without."""

import re
from unicodedata import normalize

import pytest
from pypdf import PdfReader

from reports import build, pdf
from reports.words import LANGUAGES, words_of
from tests.conftest import in_process
from tests.reports import synthetic


@pytest.fixture
def quick(monkeypatch):
    """The figures, which take seconds, are as they are in other tests."""
    monkeypatch.setattr(build, "figures", lambda results: {"loss.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"})


def run(out, results=None):
    folder = synthetic.write(out / "results", synthetic.results() if results is None else results)
    return in_process("reports.build", "--results", str(folder), "--out", str(out))


def test_with_chromium_there_is_a_pdf_with_the_text_and_the_screenshot(quick, tmp_path):
    if pdf.browser_path() is None:
        pytest.skip(f"no browser to print with: none of {', '.join(pdf.BROWSERS)} is installed")
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    for language in LANGUAGES:
        name = build.name_of(language)
        if f"{name}.pdf was not written: no font" in done.stdout:
            assert not (tmp_path / f"{name}.pdf").exists()
            continue
        printed = PdfReader(tmp_path / f"{name}.pdf")
        assert printed.metadata.creation_date.year == printed.metadata.modification_date.year == 2000
        pages = printed.pages
        text = "".join(page.extract_text() for page in pages)
        # A font may have one glyph for a character and its radical, and the PDF then names the radical.
        shown = re.sub(r"\s", "", normalize("NFKC", text))
        assert len(pages) > 3
        assert re.sub(r"\s", "", normalize("NFKC", words_of(language)("comparison.title"))) in shown
        assert "0.750[0.700,0.850]" in shown
        assert "Iplaythebanjo.[P2]" in shown


def test_without_chromium_markdown_and_html_are_written_and_a_sentence_says_what_to_install(
    quick, tmp_path, monkeypatch
):
    (tmp_path / "report.pdf").write_bytes(b"of an earlier report")
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == [
        "report.pdf and report_zh.pdf were not written: none of chromium, chromium-browser, google-chrome,"
        " google-chrome-stable is here; install Chromium (apt install chromium)."
    ]
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [
        "report.html", "report.md", "report_zh.html", "report_zh.md"]  # fmt: skip


def test_a_pdf_of_the_same_report_is_kept(quick, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    run(tmp_path)
    (tmp_path / "report.pdf").write_bytes(b"of this report")
    run(tmp_path)
    assert (tmp_path / "report.pdf").read_bytes() == b"of this report"


def test_figures_of_an_earlier_report_go(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "loss.svg").write_text("old")
    assert run(tmp_path, {}).returncode == 0
    assert list((tmp_path / "figures").iterdir()) == []


def test_a_browser_that_fails_is_one_sentence(quick, tmp_path, monkeypatch):
    browser = tmp_path / "chromium"
    browser.write_text("#!/bin/sh\nexit 1\n")
    browser.chmod(0o755)
    monkeypatch.setattr(build, "browser_path", lambda: str(browser))
    done = run(tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "could not make the PDF" in done.stderr
    assert (tmp_path / "report.md").is_file()


def test_a_folder_that_cannot_be_written_is_one_sentence(quick, tmp_path):
    folder = synthetic.write(tmp_path / "results", {})
    (tmp_path / "file").write_text("")
    done = in_process("reports.build", "--results", str(folder), "--out", str(tmp_path / "file"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot be written" in done.stderr
