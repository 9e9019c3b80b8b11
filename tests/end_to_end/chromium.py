"""A headless Chromium for tests and pictures of this project's pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def missing() -> str | None:
    """Why there is no browser, in a sentence; None where there is one."""
    try:
        import playwright.sync_api  # noqa: F401  # looked for, not used
    except ImportError:
        return "no browser tests: playwright is not installed"
    return None if _program() else "no browser tests: chromium is not installed (make tools)"


@contextmanager
def launched() -> Iterator[Any]:
    """A Chromium that runs until the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_program(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def _program() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")
