"""PDF from HTML, printed by the Chromium of the system without a window."""

import re
import shutil
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

from reports.load import ReportError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
_PAGE_NUMBER = (
    """<div style="width: 100%; font-size: 8px; text-align: center;"><span class="pageNumber"></span></div>"""
)
_MARGINS = {"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}
# When it was printed, which is no business of the report's: the same JSON makes the same file.
_DATE = re.compile(rb"(/(?:Creation|Mod)Date )\(D:\d{14}\+00'00'\)")
# Two characters that no font of the system has are both drawn as the same box.
_HAS_CHINESE = """() => {
  const drawn = (character) => {
    const canvas = document.createElement("canvas").getContext("2d");
    canvas.font = "20px " + getComputedStyle(document.body).fontFamily;
    canvas.fillText(character, 0, 20);
    return canvas.canvas.toDataURL();
  };
  return drawn("中") !== drawn("国");
}"""


def browser_path() -> str | None:
    """Where Chromium is; None if it is not installed."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def print_pages(browser: str, pages: list[Path]) -> dict[Path, bytes | None]:
    """The PDF of each HTML file in ``pages``; None for a Chinese one if no font of the system has its characters.

    Raises ReportError if the browser fails.
    """
    try:
        with sync_playwright() as driver:
            chromium = driver.chromium.launch(executable_path=browser, args=FLAGS)
            try:
                page = chromium.new_page()
                return {path: _print(page, path) for path in pages}
            finally:
                chromium.close()
    except Error as error:
        said = " ".join(error.message.split())[:300].rstrip(".")
        raise ReportError(f"{browser} could not make the PDF: {said}.") from None


def _print(page, path: Path) -> bytes | None:
    page.goto(path.resolve().as_uri())
    if page.evaluate("document.documentElement.lang") == "zh" and not page.evaluate(_HAS_CHINESE):
        return None
    printed = page.pdf(format="A4", margin=_MARGINS, print_background=True, display_header_footer=True,
                       header_template="<span></span>", footer_template=_PAGE_NUMBER)  # fmt: skip
    return _DATE.sub(rb"\1(D:20000101000000+00'00')", printed)  # as long as before, so that all offsets still hold
