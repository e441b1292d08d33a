"""The report over ``reports/results/*.json``, in English and Chinese: ``python -m reports.build``.

Writes report.md, report.html, report.pdf, the same as report_zh, and figures/. Nothing but the JSON changes what
Markdown, HTML and figures hold; a number that the JSON lacks is told as not measured. The PDF needs Chromium.
"""

import argparse
import sys
from pathlib import Path

from reports.figures import figures
from reports.load import ReportError, read_results, write_whole
from reports.pdf import BROWSERS, browser_path, print_pages
from reports.render import html, markdown
from reports.words import LANGUAGES


def name_of(language: str) -> str:
    """``report``, ``report_zh``"""
    return "report" if language == "en" else f"report_{language}"


def report_files(results: Path, out: Path) -> dict[str, bytes]:
    """What the report for ``out`` holds besides its PDF, by path from there: Markdown, HTML and figures.

    The same JSON gives the same bytes. Raises ReportError if the JSON cannot be used.
    """
    read = read_results(results)
    files = {f"figures/{name}": picture for name, picture in figures(read).items()}
    pictures = {Path(name).name for name in files}
    for language in LANGUAGES:
        text = markdown(read, language, pictures, results, out)
        files[f"{name_of(language)}.md"] = text.encode()
        files[f"{name_of(language)}.html"] = html(text, language).encode()
    return files


def build(results: Path, out: Path) -> list[str]:
    """Write the report into ``out``, each file whole or not at all; give a sentence for each PDF that was not written.

    A PDF or figure of an earlier report is removed, since it would tell of other numbers. Raises ReportError.
    """
    files = report_files(results, out)
    pages = {language: out / f"{name_of(language)}.html" for language in LANGUAGES}
    old = [path for path in (out / "figures").glob("*.svg") if f"figures/{path.name}" not in files]
    for page in pages.values():
        if not page.is_file() or page.read_bytes() != files[page.name]:
            old.append(page.with_suffix(".pdf"))
    for name, content in files.items():
        write_whole(out / name, content)
    for path in old:
        path.unlink(missing_ok=True)
    return _write_pdf(pages)


def _write_pdf(pages: dict[str, Path]) -> list[str]:
    browser = browser_path()
    if browser is None:
        names = " and ".join(page.with_suffix(".pdf").name for page in pages.values())
        return [
            f"{names} were not written: none of {', '.join(BROWSERS)} is here; install Chromium (apt install chromium)."
        ]
    missing = []
    for page, printed in print_pages(browser, list(pages.values())).items():
        path = page.with_suffix(".pdf")
        if printed is None:
            missing.append(f"{path.name} was not written: no font here has Chinese characters; install fonts-noto-cjk.")
        else:
            write_whole(path, printed)
    return missing


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m reports.build", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--results", type=Path, default=Path("reports/results"), help="folder with the JSON (default: reports/results)")
    add("--out", type=Path, default=Path("reports"), help="folder for the report (default: reports)")
    arguments = parser.parse_args()
    try:
        missing = build(arguments.results, arguments.out)
    except ReportError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(f"{arguments.out / 'report.md'}, and in Chinese report_zh.md; beside them as .html and .pdf")
    for sentence in missing:
        print(sentence)


if __name__ == "__main__":
    main()
