"""A visit to the endpoint's page in a browser: what it said, asked for, and looks like."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.end_to_end.page_server import Desk

SPLIT = "one ticket on every line"
# For every text that is visible: how much it stands out from the ground below it, after WCAG 2.2,
# https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio. Grounds may let those below them through.
CONTRASTS = """() => {
  const parse = css => {
    const [r, g, b, a = 1] = css.match(/[\\d.]+/g).map(Number);
    return {r, g, b, a};
  };
  const over = (top, low) => ({...Object.fromEntries(
    ['r', 'g', 'b'].map(k => [k, top[k] * top.a + low[k] * (1 - top.a)])), a: 1});
  const ground = node => node === null ? {r: 255, g: 255, b: 255, a: 1}
    : over(parse(getComputedStyle(node).backgroundColor), ground(node.parentElement));
  const channel = v => v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = c => 0.2126 * channel(c.r) + 0.7152 * channel(c.g) + 0.0722 * channel(c.b);
  const ratio = (node, color) => {
    const below = ground(node), [x, y] = [light(over(parse(color), below)), light(below)];
    return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
  };
  const found = [];
  for (const node of document.body.querySelectorAll('*')) {
    const written = [...node.childNodes].filter(child => child.nodeType === 3 && child.data.trim());
    const field = node.matches('input, textarea, select');
    if (!node.checkVisibility() || !(written.length || field)) continue;
    const name = written.length ? written[0].data.trim() : node.id;
    found.push([name, ratio(node, getComputedStyle(node).color)]);
    if (node.placeholder)
      found.push([node.placeholder, ratio(node, getComputedStyle(node, '::placeholder').color)]);
  }
  return found;
}"""
# The element with the focus: its name, and whether one sees that it has the focus.
FOCUS = """() => {
  const node = document.activeElement, style = getComputedStyle(node);
  const label = node.labels?.length ? node.labels[0].textContent : node.ariaLabel;
  const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  return {name: (label ?? node.textContent).trim(), seen};
}"""


class Visit:
    """The page of a desk, opened; `close` says what it found wrong."""

    def __init__(
        self,
        browser: Any,
        desk: Desk,
        *,
        width: int = 1280,
        scheme: str = "light",
        refusals: Sequence[int] = (),
        **more: Any,
    ) -> None:
        """`refusals` are the statuses that the test provokes: the browser tells of them."""
        self.desk = desk
        self.refusals = refusals
        viewport = {"width": width, "height": 800}
        self.page = browser.new_page(viewport=viewport, color_scheme=scheme, **more)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(desk.url)
        # Not wait_for_function, here and below: it evaluates strings, which the policy forbids.
        self.page.locator("#model:not([hidden]), #door:has-text('asks')").first.wait_for()

    def close(self) -> None:
        """Fails if the page said anything, or asked anybody but its own host."""
        self.page.close()
        provoked = [f"status of {status}" for status in self.refusals]
        said = [s for s in self.said if not any(p in s for p in provoked)]
        assert said == [], f"the page said: {said}"
        here = (self.desk.url, "data:")
        elsewhere = [url for url in self.asked if not url.startswith(here)]
        assert elsewhere == [], f"the page asked for: {elsewhere}"

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name)

    def write(self, text: str, mode: str = "one ticket") -> None:
        self.page.get_by_label(mode, exact=mode == "one ticket").check()
        self.page.get_by_label("Ticket", exact=True).fill(text)

    def ask(self, text: str, mode: str = "one ticket") -> list[str]:
        """Sends; the texts that went out, once they are answered."""
        self.write(text, mode)
        with self.page.expect_response("**/v1/classify") as reply:
            self.button("Find the team").click()
        self.page.locator("body:not(.busy)").wait_for()
        texts: list[str] = reply.value.request.post_data_json["texts"]
        return texts

    def answers(self) -> list[tuple[str, str]]:
        """The chosen team of each ticket and its share, as written."""
        chosen = self.page.locator(".chosen")
        return list(
            zip(
                chosen.locator("bdi").all_inner_texts(),
                chosen.locator(".share").all_inner_texts(),
                strict=True,
            )
        )

    def facts(self) -> dict[str, str]:
        """The card of the model, as written."""
        shown = self.page.locator("#facts").inner_text().split("\n")
        return dict(zip(shown[::2], shown[1::2], strict=True))

    def tab_to(self, name: str) -> None:
        """Presses Tab until the control of this name has the focus, seen at every stop."""
        for _ in range(30):
            self.page.keyboard.press("Tab")
            focus = self.page.evaluate(FOCUS)
            assert focus["seen"], f"nothing shows that {focus['name']!r} has the focus"
            if focus["name"] == name:
                return
        raise AssertionError(f"Tab does not reach {name!r}")

    def too_wide(self) -> int:
        found: int = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return found

    def faint(self) -> list[tuple[str, float]]:
        """Texts with a contrast below 4.5."""
        found = self.page.evaluate(CONTRASTS)
        assert len(found) > 20
        return [(text, ratio) for text, ratio in found if ratio < 4.5]


@contextmanager
def visits(browser: Any) -> Iterator[Callable[..., Visit]]:
    """A function that opens the page of a desk; each visit is closed, and judged, at the end."""
    opened: list[Visit] = []

    def visit(desk: Desk, **how: Any) -> Visit:
        opened.append(Visit(browser, desk, **how))
        return opened[-1]

    yield visit
    for each in opened:
        each.close()
