"""Pictures of the page of a running endpoint, with tickets answered.

    python -m tests.end_to_end.page_screenshot --url http://127.0.0.1:8000 --key KEY \
        --output page.png

Writes page.png in light and page-dark.png in dark; `--width 320` shows it on a small phone.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.end_to_end import chromium

TICKETS = (
    "Cannot log in since this morning, it says my password has expired and the code never comes",
    "Printer on the third floor eats the paper and then shows an error",
    "Since Monday it is slow, and sometimes it does not answer at all",
)


def picture(browser: Any, url: str, key: str, file: Path, *, scheme: str, width: int) -> None:
    """One PNG of the whole page; playwright's TimeoutError if no answer comes in 30 s."""
    page = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme=scheme, device_scale_factor=2
    )
    page.goto(url)
    if key:
        page.get_by_label("API key").fill(key)
        page.get_by_label("API key").press("Tab")
    page.get_by_text("The model that answers").wait_for()
    page.get_by_label("one ticket on every line").check()
    page.get_by_label("Ticket", exact=True).fill("\n".join(TICKETS))
    page.get_by_role("button", name="Find the teams").click()
    page.locator(".chosen").nth(len(TICKETS) - 1).wait_for()
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.screenshot(path=str(file), full_page=True, animations="disabled")
    page.close()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tests.end_to_end.page_screenshot")
    parser.add_argument("--url", required=True, help="where the endpoint listens")
    parser.add_argument("--key", default="", help="its key; none if it is open")
    parser.add_argument("--output", required=True, type=Path, help="the PNG of the light page")
    parser.add_argument("--width", type=int, default=1280, help="of the window, in CSS pixels")
    given = parser.parse_args(argv)
    reason = chromium.missing()
    if reason is not None:
        parser.error(reason)
    dark = given.output.with_stem(f"{given.output.stem}-dark")
    with chromium.launched() as browser:
        for scheme, file in (("light", given.output), ("dark", dark)):
            picture(browser, given.url, given.key, file, scheme=scheme, width=given.width)
            print(file)


if __name__ == "__main__":
    main()
