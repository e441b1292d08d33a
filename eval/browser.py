"""The system's Chromium, driven by playwright over the gateway's page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from data_prep.errors import InputError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Without a window, until the block ends. Raises InputError if none is installed."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise InputError(f"None of the browsers {', '.join(NAMES)} is installed; install one and put it on the PATH.")
    from playwright.sync_api import sync_playwright  # takes half a second to import

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()
