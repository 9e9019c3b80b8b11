"""The report of a search in a real browser: what is drawn is what trials.parquet says.

Skips where there is no Chromium or no playwright: `make setup tools` brings both.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.end_to_end.conftest import run_module
from tests.unit import experiments

WIDTHS = {"desk": (1280, 900), "phone": (390, 844)}
# What plotly has drawn, by the name of each chart: its traces as they are, and marks in the page.
DRAWN = """() => {
  const charts = [...document.querySelectorAll('.draw')];
  return Object.fromEntries(charts.map(chart => [chart.id, {
    traces: chart.data.map(t => ({name: t.name, x: t.x, y: t.y, who: t.customdata ?? null})),
    marks: chart.querySelectorAll('.points path, .lines path').length,
  }]));
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command made of forty trials."""
    home = tmp_path_factory.mktemp("report")
    experiments.write(str(home / "search"), 40)
    done = run_module("tuning.analyze", "--experiment", str(home / "search"), cwd=home)
    assert done.returncode == 0, done.stderr
    return home / "search" / "analysis"


@pytest.fixture(scope="module")
def trials(folder: Path) -> pd.DataFrame:
    found = pd.read_parquet(folder / "trials.parquet")
    return found.assign(name=found["trial"].astype(str)).set_index("name")


class Opened:
    """A page, and what it said and asked for while it was open."""

    def __init__(self, browser: Any, file: Path, size: tuple[int, int], scheme: str) -> None:
        width, height = size
        viewport = {"width": width, "height": height}
        self.page = browser.new_page(viewport=viewport, color_scheme=scheme)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_function(
            "[...document.querySelectorAll('.draw')].every(e => e.querySelector('.main-svg'))"
        )

    def drawn(self) -> dict[str, Any]:
        found: dict[str, Any] = self.page.evaluate(DRAWN)
        return found


@pytest.fixture(scope="module")
def opened(browser: Any, folder: Path) -> Iterator[Opened]:
    found = Opened(browser, folder / "report.html", WIDTHS["desk"], "light")
    yield found
    found.page.close()


def points(chart: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Trial → where it was drawn."""
    found: dict[str, list[tuple[float, float]]] = {}
    for trace in chart["traces"]:
        names = trace["who"] or [None] * len(trace["x"])
        for name, x, y in zip(names, trace["x"], trace["y"], strict=True):
            if name is not None:
                found.setdefault(name, []).append((x, y))
    return found


def test_the_page_is_quiet_and_asks_for_nothing(browser: Any, folder: Path) -> None:
    for size in WIDTHS.values():
        for scheme in ("light", "dark"):
            found = Opened(browser, folder / "report.html", size, scheme)
            assert found.said == []
            assert found.asked == [(folder / "report.html").as_uri()]
            wide = found.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"the page is {wide} px wider than a screen of {size[0]}"
            found.page.close()


def test_the_best_value_on_the_page_is_that_of_the_table(
    opened: Opened, trials: pd.DataFrame
) -> None:
    finished = trials[trials["state"] == "finished"]["macro_f1"]
    tile = opened.page.locator(".tiles li").first
    assert tile.locator("b").inner_text() == f"{finished.max():.4f}"
    assert f"trial {finished.idxmax()}" in tile.inner_text()
    for name in ("over-trials", "over-time"):
        line = opened.drawn()[name]["traces"][-1]
        assert max(line["y"]) == finished.max()


def test_every_trial_is_drawn_where_the_table_has_it(opened: Opened, trials: pd.DataFrame) -> None:
    drawn = opened.drawn()
    over, cost = points(drawn["over-trials"]), points(drawn["cost"])
    assert set(over) == set(cost) == set(trials.index)
    for name, row in trials.iterrows():
        assert set(over[name]) == {(row["trial"], row["macro_f1"])}
        (x, y), *_ = cost[name]
        assert (x * 60, y) == (pytest.approx(row["cost_seconds"]), row["macro_f1"])


def test_slices_show_the_values_of_the_table(opened: Opened, trials: pd.DataFrame) -> None:
    titles = opened.page.locator(".slices h3").all_inner_texts()
    drawn = opened.drawn()
    names = {title.split(" ")[0]: drawn[f"slice-{k}"] for k, title in enumerate(titles)}
    assert set(names) == set(experiments.SPACE)
    for key in ("optim.lr", "optim.weight_decay", "train.epochs"):
        for name, spots in points(names[key]).items():
            assert set(spots) == {(trials[key][name], trials["macro_f1"][name])}
    focal = trials[trials["balance.strategy"] == "focal"]
    assert set(points(names["balance.gamma"])) == set(focal.index)


def test_curves_show_every_epoch(opened: Opened, folder: Path) -> None:
    history = pd.read_parquet(folder / "history.parquet")
    lines = [t for t in opened.drawn()["curves"]["traces"] if t["name"] != "cut"]
    found = points({"traces": lines})
    for number, part in history.groupby("trial"):
        assert found[str(number)] == list(zip(part["percent"], part["macro_f1"], strict=True))


def test_plotly_has_drawn_marks_in_every_chart(opened: Opened) -> None:
    assert {name: chart["marks"] > 0 for name, chart in opened.drawn().items()} == dict.fromkeys(
        opened.drawn(), True
    )


def test_a_trial_is_picked_with_the_keyboard_and_marked_everywhere(opened: Opened) -> None:
    page = opened.page
    before = {name: len(chart["traces"]) for name, chart in opened.drawn().items()}
    button = page.locator(".pick").nth(1)
    name = button.inner_text()
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator("#says").inner_text() == f"Trial {name} is marked in all charts."
    assert button.get_attribute("aria-pressed") == "true"
    after = opened.drawn()
    for chart in ("over-trials", "over-time", "curves", "cost", "parallel"):
        assert len(after[chart]["traces"]) > before[chart]
    page.keyboard.press("Enter")
    assert {key: len(chart["traces"]) for key, chart in opened.drawn().items()} == before
    assert opened.said == []


def test_the_leaderboard_sorts(opened: Opened, trials: pd.DataFrame) -> None:
    heading = opened.page.locator("#board th button", has_text="Cost")
    heading.click()
    names = opened.page.locator("#board .pick").all_inner_texts()
    costs = [trials["cost_seconds"][name] for name in names]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) > 3


def test_a_box_on_an_axis_keeps_the_lines_through_it(browser: Any, folder: Path) -> None:
    found = Opened(browser, folder / "report.html", WIDTHS["desk"], "light")
    chart = found.page.locator("#parallel")
    chart.scroll_into_view_if_needed()
    box = chart.locator(".nsewdrag").bounding_box()
    before = shown_lines(found)
    found.page.mouse.move(box["x"] + 2, box["y"] + 2)
    found.page.mouse.down()
    found.page.mouse.move(box["x"] + 60, box["y"] + box["height"] * 0.35, steps=8)
    found.page.mouse.up()
    found.page.wait_for_function(
        "count => document.getElementById('parallel').data.flatMap(t => t.y)"
        ".filter(y => y !== null).length < count",
        arg=before,
    )
    assert 0 < shown_lines(found) < before
    assert found.said == []
    found.page.close()


def shown_lines(found: Opened) -> int:
    """Points on the parallel axes that are drawn."""
    traces = found.drawn()["parallel"]["traces"]
    return sum(y is not None for trace in traces for y in trace["y"])


def test_the_matrix_is_read_with_the_keyboard(opened: Opened) -> None:
    opened.page.locator("#canvas").focus()
    opened.page.keyboard.press("ArrowRight")
    tip = opened.page.locator("#tip").inner_text()
    assert "rows right" in tip


def test_a_search_that_has_only_begun_has_a_page_without_an_error(
    browser: Any, tmp_path: Path
) -> None:
    # With one trial nothing was varied; the third brings the parallel axes and a slice each.
    for count, charts in ((0, 0), (1, 4), (3, 5 + len(experiments.SPACE))):
        search = experiments.write(str(tmp_path / f"search-{count}"), count)
        done = run_module("tuning.analyze", "--experiment", search.uri, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        report = Path(search.uri) / "analysis" / "report.html"
        found = Opened(browser, report, WIDTHS["phone"], "dark")
        assert found.said == []
        assert found.page.locator(".findings .early").count() == 3
        assert found.page.locator(".draw").count() == charts
        found.page.close()
