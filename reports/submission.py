"""Report and code as one file to hand in: ``python -m reports.submission``, after ``python -m reports.build``.

Packs what git tracks and the report into saves/submission.zip; the same commit and report give the same bytes.
"""

import argparse
import io
import subprocess
import sys
import zipfile
from pathlib import Path

from reports.build import name_of, report_files
from reports.load import ReportError, write_whole
from reports.words import LANGUAGES

ROOT = Path(__file__).parents[1]
RESULTS, FIGURES = "reports/results/", "reports/figures/"
TOP = "persona-factory"
_MB = 10**6
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


def report_paths(root: Path) -> list[str]:
    """The files of the report from ``root``, each of which is there and says what the JSON says.

    Raises ReportError if one does not.
    """
    files = report_files(root / "reports" / "results", root / "reports")
    pages = [f"{name_of(language)}.pdf" for language in LANGUAGES]
    for name in [*files, *pages]:
        path = root / "reports" / name
        if not path.is_file():
            raise ReportError(f"reports/{name} is missing; run `make report`, and do what it asks for.")
        if name in files and path.read_bytes() != files[name]:
            raise ReportError(f"reports/{name} is not what the JSON in reports/results gives; run `make report`.")
    return [f"reports/{name}" for name in (*files, *pages)]


def tracked_paths(root: Path, report: list[str]) -> list[str]:
    """What git tracks under ``root``, and the results. Raises ReportError if anything else but the report is not
    committed; results, and figures of an earlier report, may also have been removed."""
    # A rename would be two paths behind one another; without, it is one that is gone and one that is new.
    lines = _git(root, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames")
    paths = [line[3:] for line in lines if line[3:] not in report and not line[3:].startswith(RESULTS)]
    changed = [path for path in paths if not path.startswith(FIGURES) or (root / path).exists()]
    if changed:
        raise ReportError(f"{changed[0]} is not committed ({len(changed)} files in all); commit or remove them.")
    tracked = [path for path in _git(root, "ls-files", "-z") if (root / path).exists()]
    return tracked + _git(root, "ls-files", "-z", "--others", "--exclude-standard", RESULTS)


def _git(root: Path, *arguments: str) -> list[str]:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise ReportError(f"{root} is no git checkout, or git is not installed; pack a clone of the project.") from None
    return [path for path in done.stdout.split("\0") if path]


def pack(root: Path, out: Path) -> tuple[int, float]:
    """Write the zip of the checkout at ``root``; gives the number of files, and MB. Raises ReportError."""
    report = report_paths(root)
    names = sorted({*tracked_paths(root, report), *report})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            path = root / name
            entry = zipfile.ZipInfo(f"{TOP}/{name}", _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if path.stat().st_mode & 0o100 else 0o644) << 16
            archive.writestr(entry, path.read_bytes())
    write_whole(out, content.getvalue())
    return len(names), content.tell() / _MB


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m reports.submission", description=__doc__.split("\n")[0])
    default = Path("saves/submission.zip")
    parser.add_argument("--out", type=Path, default=default, help="the file to write (default: saves/submission.zip)")
    arguments = parser.parse_args()
    try:
        files, size = pack(ROOT, arguments.out)
    except ReportError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(f"{arguments.out}: {files:,} files, {size:.1f} MB")


if __name__ == "__main__":
    main()
