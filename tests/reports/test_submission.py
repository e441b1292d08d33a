"""What is handed in: report and code of one commit, or a sentence that says why not."""

import json
import subprocess
import zipfile

import pytest

from reports import build, submission
from reports.load import ReportError
from tests.conftest import in_process
from tests.reports import synthetic

REPORT = ("report.md", "report.html", "report.pdf", "report_zh.md", "report_zh.html", "report_zh.pdf",
          "figures/loss.svg")  # fmt: skip


def git(root, *arguments):
    name = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", str(root), *name, *arguments], check=True, capture_output=True)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small project with its report, committed but for the report."""
    monkeypatch.setattr(build, "figures", lambda results: {"loss.svg": b"<svg/>"})
    monkeypatch.setattr(build, "browser_path", lambda: "chromium")
    monkeypatch.setattr(build, "print_pages", lambda browser, pages: dict.fromkeys(pages, b"%PDF"))
    root = tmp_path / "project"
    folder = synthetic.write(root / "reports" / "results", synthetic.results())
    (root / "code").mkdir()
    (root / "code" / "été .py").write_text("1\n")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / ".gitignore").write_text("saves/\n")
    git(tmp_path, "init", "-q", str(root))
    git(root, "add", "-A")
    git(root, "commit", "-qm", "all")
    build.build(folder, root / "reports")
    return root


def test_it_holds_what_git_tracks_and_the_report(root):
    (root / "saves").mkdir()
    (root / "saves" / "model").write_text("ignored")
    out = root / "saves" / "submission.zip"
    files, size = submission.pack(root, out)
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        modes = {one.filename: one.external_attr >> 16 for one in archive.infolist()}
        for name in names:
            assert archive.read(name) == (root / name.removeprefix("persona-factory/")).read_bytes()
    tracked = {"code/été .py", "run", ".gitignore", "reports/results/screenshots/page-1.png"}
    tracked |= {f"reports/results/{name}.json" for name in synthetic.results()}
    assert names == sorted(f"persona-factory/{name}" for name in tracked | {f"reports/{name}" for name in REPORT})
    assert (files, size) == (len(names), out.stat().st_size / 1e6)
    assert (modes["persona-factory/run"], modes["persona-factory/.gitignore"]) == (0o755, 0o644)


def test_the_same_commit_and_report_give_the_same_bytes(root):
    submission.pack(root, root / "saves" / "a.zip")
    (root / "run").touch()
    submission.pack(root, root / "saves" / "b.zip")
    assert (root / "saves" / "a.zip").read_bytes() == (root / "saves" / "b.zip").read_bytes()


def test_a_report_that_is_committed_is_packed_too(root):
    git(root, "add", "-A")
    git(root, "commit", "-qm", "report")
    files, _ = submission.pack(root, root / "saves" / "a.zip")
    assert files == len(REPORT) + 4 + len(synthetic.results())


def test_results_and_figures_that_are_gone_are_not_missed(root, monkeypatch):
    git(root, "add", "-A")
    git(root, "commit", "-qm", "report")
    monkeypatch.setattr(build, "figures", lambda results: {})
    (root / "reports" / "results" / "judge.json").unlink()
    build.build(root / "reports" / "results", root / "reports")
    assert not (root / "reports" / "figures" / "loss.svg").exists()
    files, _ = submission.pack(root, root / "saves" / "a.zip")
    assert files == len(REPORT) - 1 + 4 + len(synthetic.results()) - 1


@pytest.mark.parametrize("name", REPORT)
def test_without_a_file_of_the_report_there_is_nothing_to_hand_in(root, name):
    (root / "reports" / name).unlink()
    with pytest.raises(ReportError, match=f"reports/{name} is missing; run `make report`"):
        submission.pack(root, root / "saves" / "a.zip")
    assert not (root / "saves" / "a.zip").exists()


def test_a_report_over_other_numbers_is_not_handed_in(root):
    path = root / "reports" / "results" / "comparison.json"
    content = json.loads(path.read_text())
    content["systems"][0]["measures"]["text"]["f1"]["value"] += 0.1
    path.write_text(json.dumps(content))
    with pytest.raises(ReportError, match=r"reports/report.md is not what the JSON"):
        submission.pack(root, root / "saves" / "a.zip")


@pytest.mark.parametrize("name", ["run", "new.py"])
def test_what_is_not_committed_is_told(root, name):
    (root / name).write_text("changed")
    with pytest.raises(ReportError, match=rf"{name} is not committed \(1 files"):
        submission.pack(root, root / "saves" / "a.zip")


def test_no_git_is_told(root):
    (root / ".git").rename(root / "git")
    with pytest.raises(ReportError, match="no git checkout"):
        submission.pack(root, root / "saves" / "a.zip")


def test_the_command_prints_name_files_and_size_or_one_sentence(root, monkeypatch):
    monkeypatch.setattr(submission, "ROOT", root)
    out = root / "saves" / "a.zip"
    done = in_process("reports.submission", "--out", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{out}: 20 files, {out.stat().st_size / 1e6:.1f} MB\n"
    (root / "run").unlink()
    done = in_process("reports.submission", "--out", str(out))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
