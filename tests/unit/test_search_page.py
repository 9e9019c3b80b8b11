"""The report of a search, parsed: what it says, that it escapes, and the points of its charts."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.unit import experiments
from tests.unit.experiments import epoch, write_trial
from tests.unit.reporting import Page
from tuning import analysis, charts, confusion
from tuning.experiment import Folder
from tuning.overview import Overview, overview
from tuning.page import search_html

HOSTILE = "</script><script>alert('x')</script><b>&amp;</b>"


def look(folder: Folder) -> Overview:
    return overview(analysis.load(folder.uri))


def read(found: Overview) -> Page:
    return Page(search_html(found, title="How the search went"))


def drawn(page: Page) -> dict[str, dict[str, Any]]:
    """The charts of a page by name."""
    found = next(script for script in page.scripts if script.startswith(("[{", "[]")))
    return {chart["name"]: chart for chart in json.loads(found)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Overview:
    folder = experiments.write(str(tmp_path_factory.mktemp("search")), 20)
    write_trial(folder, 21, {"optim.lr": 1e-3}, [], "failed", f"no memory: {HOSTILE}")
    return look(folder)


@pytest.fixture(scope="module")
def page(found: Overview) -> Page:
    return read(found)


def test_the_winner_stands_on_top_with_its_lead(found: Overview, page: Page) -> None:
    best = found.best
    assert best is not None
    assert page.tiles[0].startswith(f"{best['macro_f1']:.4f} Macro F1 of trial {best['name']}")
    given = found.ranked[found.ranked["origin"] == "known"]["macro_f1"].iloc[0]
    lead = 100 * (best["macro_f1"] - given)
    assert any(tile.startswith(f"{lead:+.1f} Points over trial 1") for tile in page.tiles)


def test_the_leaderboard_has_every_trial_and_ranks_those_that_finished(
    found: Overview, page: Page
) -> None:
    rows = page.body("Rank")
    assert [row[1] for row in rows[: len(found.ranked)]] == list(found.ranked["name"])
    assert [row[0] for row in rows[: len(found.ranked)]] == [
        str(rank) for rank in range(1, len(found.ranked) + 1)
    ]
    assert {row[0] for row in rows[len(found.ranked) :]} == {"–"}
    assert len(rows) == 20


def test_a_parameter_that_was_not_in_force_is_a_dash(found: Overview, page: Page) -> None:
    heading = next(table[0] for table in page.tables if table[0][0] == "Rank")
    strategy, gamma = heading.index("balance.strategy"), heading.index("balance.gamma")
    for row in page.body("Rank"):
        assert (row[gamma] == "–") == (row[strategy] != "focal")


def test_a_failed_trial_stands_with_its_reason(page: Page) -> None:
    assert page.body("Trial") == [["21", "failed", f"no memory: {HOSTILE}"]]


def test_every_chart_has_a_title_and_says_in_words_what_it_shows(page: Page) -> None:
    ids = {attributes.get("id") for _, attributes in page.tags}
    places = [a for _, a in page.tags if (a.get("class") or "").startswith("draw")]
    assert len(places) == len(drawn(page)) > 6
    for place in places:
        assert place["role"] == "img"
        assert {place["aria-labelledby"], place["aria-describedby"]} <= ids
    assert all(chart["title"] and chart["summary"] for chart in drawn(page).values())


def test_the_best_so_far_never_falls_and_ends_at_the_best(found: Overview, page: Page) -> None:
    for name in ("over-trials", "over-time"):
        line = drawn(page)[name]["data"][-1]
        assert line["y"] == sorted(line["y"])
        assert line["x"] == sorted(line["x"])
        assert line["y"][-1] == found.ranked["macro_f1"].max()


def test_cuts_are_marked_where_trials_were_stopped(found: Overview, page: Page) -> None:
    marks = drawn(page)["curves"]["data"][-1]
    stopped = found.trials[found.trials["state"] == "stopped"]
    assert marks["name"] == "cut"
    assert dict(zip(marks["customdata"], marks["x"], strict=True)) == dict(
        zip(stopped["name"], stopped["percent"], strict=True)
    )
    rungs = [shape["x0"] for shape in drawn(page)["curves"]["layout"]["shapes"]]
    assert rungs == list(experiments.RUNGS)


def test_no_finished_trial_beats_one_on_the_front(found: Overview) -> None:
    front = charts.front(found.ranked)
    for row in front.to_dict("records"):
        better = found.ranked["macro_f1"] > row["macro_f1"]
        assert not (better & (found.ranked["cost_seconds"] <= row["cost_seconds"])).any()
    assert front["macro_f1"].iloc[-1] == found.ranked["macro_f1"].max()
    assert front["cost_seconds"].is_monotonic_increasing


def test_a_trial_that_is_dearer_and_worse_than_an_earlier_one_is_not_on_the_front() -> None:
    ranked = pd.DataFrame({"cost_seconds": [1, 2, 3, 4, 4], "macro_f1": [0.5, 0.4, 0.45, 0.6, 0.7]})
    assert charts.front(ranked)["macro_f1"].tolist() == [0.5, 0.7]


def test_a_slice_has_the_trials_in_which_its_parameter_was_in_force(
    found: Overview, page: Page
) -> None:
    gamma = next(c for c in drawn(page).values() if c["title"].startswith("balance.gamma"))
    names = {name for trace in gamma["data"] for name in trace["customdata"]}
    focal = found.trials[
        (found.trials["balance.strategy"] == "focal") & (found.trials["trial"] < 21)
    ]
    assert names == set(focal["name"])


def test_the_confusions_of_the_winner_are_counted(page: Page) -> None:
    assert page.body("True class") == [
        ["mail <b>&", "cards", "5", "27.8%"],
        ["cards", "payments", "2", "14.3%"],
    ]
    matrix = next(json.loads(s) for s in page.scripts if s.startswith('{"labels"'))
    assert set(matrix["labels"]) == set(experiments.LABELS)
    assert sum(sum(row[1::2]) for row in matrix["cells"]) == 77


def test_confusions_without_a_row_are_nothing() -> None:
    assert confusion.confusion([], ["a", "b"]) is None
    assert confusion.confusion([[0, 0, 0]], ["a", "b"]) is None


def test_what_users_wrote_stays_text(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "<b>search"))
    base = experiments.BASE | {"model.name": HOSTILE}
    space = experiments.SPACE | {"optim.schedule": {"kind": "choice", "values": [HOSTILE, "b"]}}
    labels = [HOSTILE, "mail", "b", "c", "d"]
    folder.write_record(experiments.record(settings=base, space=space, labels=labels))
    for number, value in enumerate((HOSTILE, "b"), 1):
        tried = {"optim.schedule": value, "optim.lr": 1e-4 * number}
        write_trial(folder, number, tried, [epoch(1, 1, 0.5)])
    page = read(look(folder))
    assert not any(script.startswith("alert") for script in page.scripts)
    assert all(tag != "b" or not attributes for tag, attributes in page.tags)
    assert any(HOSTILE in row for table in page.tables for row in table[1:] for row in row)
    for chart in drawn(page).values():  # plotly reads markup in what it draws
        assert "<script" not in json.dumps({**chart, "title": "", "summary": ""})
    assert "alert('x')</script>" not in page.html


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    loaded = [
        attributes
        for tag, attributes in page.tags
        if tag in ("script", "link", "img", "iframe") and (attributes.get("src") or "").strip()
    ]
    assert loaded == []
    assert [a["href"] for tag, a in page.tags if tag == "link"] == ["data:,"]


def test_plotly_is_inlined_once(page: Page) -> None:
    assert sum("plotly.js v" in script[:200] for script in page.scripts) == 1


@pytest.mark.parametrize("trials", [0, 1, 3])
def test_few_trials_have_a_report_that_says_so(tmp_path: Path, trials: int) -> None:
    page = read(look(experiments.write(str(tmp_path / "search"), trials)))
    assert f"Too early to say: {trials} of the 15" in page.html
    assert "importance" not in drawn(page)
    assert ("over-trials" in drawn(page)) == bool(trials)
    assert ("there is no winner" in page.html) == (not trials)


def test_several_searches_have_a_line_each(tmp_path: Path) -> None:
    uris = [str(tmp_path / name) for name in "ab"]
    for seed, uri in enumerate(uris):
        experiments.write(uri, 6, seed=seed)
    page = read(overview(analysis.load(uris)))
    names = [trace["name"] for trace in drawn(page)["over-trials"]["data"]]
    assert names[-2:] == ["best so far A", "best so far B"]
    assert {row[1][0] for row in page.body("Rank")} == {"A", "B"}
    assert all(uri in page.html for uri in uris)
