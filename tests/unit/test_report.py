"""The HTML reports, read as a browser would read them: parsed, not matched as one long string."""

import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs import charts, comparison
from jobs import evaluation as evaluation_
from jobs.profiling.profile import describe
from jobs.report import data_html, evaluation_html

HOSTILE = "<script>alert('x')</script> & Söhne 支付"
LABELS = [HOSTILE, "cards", "payments"]
CONFUSION = [[6, 4, 0], [5, 80, 15], [1, 9, 30]]
METRICS: dict[str, Any] = {
    "rows": 1150,
    "accuracy": 0.7733,
    "balanced_accuracy": 0.7167,
    "macro_precision": 0.6756,
    "macro_recall": 0.7168,
    "macro_f1": 0.6932,
    "weighted_precision": 0.7843,
    "weighted_recall": 0.7734,
    "weighted_f1": 0.7773,
    "calibration_error": 0.0312,
    "coverage": 0.9121,
    "per_class": {
        HOSTILE: {"precision": 0.5, "recall": 0.6, "f1": 0.5452, "support": 10},
        "cards": {"precision": 0.8602, "recall": 0.8, "f1": 0.829, "support": 100},
        "payments": {"precision": 0.6667, "recall": 0.75, "f1": 0.7059, "support": 40},
    },
    "baselines": {
        "majority": {"accuracy": 0.6667, "macro_f1": 0.2667, "macro_recall": 0.3333},
        "tf-idf": {"accuracy": 0.75, "macro_f1": 0.6432, "per_class": {"cards": {"f1": 0.8011}}},
        "zero-shot": None,
    },
}
MANIFEST: dict[str, Any] = {
    "labels": {
        HOSTILE: {"train": {"rows": 40, "texts": 39}, "test": {"rows": 10, "texts": 10}},
        "cards": {
            "train": {"rows": 1600, "texts": 1500},
            "validation": {"rows": 200, "texts": 190},
            "test": {"rows": 200, "texts": 195},
        },
    },
    "rejected": {"empty text": 7, "no label": 12},
    "duplicates": 31,
    "conflicts": 4,
    "seed": 17,
    "settings": {"split": {"validation": 0.1}, "columns": {"text": ["title", "body"]}},
    "sources": [{"path": "s3://desk/a.parquet", "bytes": 2_500_000}],
}
LENGTHS: dict[str, Any] = {
    "rows": 1000,
    "mean": 31.4,
    "p50": 28,
    "p90": 60,
    "p95": 90,
    "p99": 150,
    "max": 900,
    "max_tokens": 128,
    "cut_share": 0.031,
    "cut_tokens_share": 0.2,
    "limits": [{"max_tokens": 64, "cut_share": 0.1}, {"max_tokens": 128, "cut_share": 0.031}],
    "model_limit": 512,
    "histogram": {"edges": [0, 64, 128, 192, 900], "counts": [900, 69, 30, 1], "width": 64},
}


def profiled(manifest: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The manifest with the profile that jobs.prepare would put there, but for what needs texts."""
    profile = describe(
        manifest["labels"],
        pa.table({"text": pa.array([], pa.string()), "split": pa.array([], pa.string())}),
        rows=2050,
        duplicates=31,
        conflicts=4,
        encoder=None,
        max_tokens=128,
        seed=0,
    )
    return manifest | {"profile": profile | more}


class Page(HTMLParser):
    """What a report holds: the text of its tables, tiles and scripts, and all attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tables: list[list[list[str]]] = []
        self.tiles: list[str] = []
        self.scripts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.titles: list[str] = []
        self._texts: list[str] | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th", "li", "script", "title"):
            kinds = {"li": self.tiles, "script": self.scripts, "title": self.titles}
            self._texts = kinds[tag] if tag in kinds else self.tables[-1][-1]
            self._texts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "li", "script", "title"):
            self._texts = None

    def handle_data(self, data: str) -> None:
        if self._texts is not None:
            self._texts[-1] = " ".join(f"{self._texts[-1]} {data}".split())

    def body(self, heading: str) -> list[list[str]]:
        """The rows, without the headings, of the table whose first heading is `heading`."""
        return next(table[1:] for table in self.tables if table[0][0] == heading)


def evaluation(
    metrics: dict[str, Any] = METRICS,
    confusion: list[list[int]] = CONFUSION,
    labels: list[str] = LABELS,
) -> Page:
    facts = {"Bundle": "s3://models/desk/bundle <7>"}
    return Page(evaluation_html(metrics, confusion, labels, title="Desk <b>7</b>", facts=facts))


def uncertain() -> dict[str, Any]:
    """The metrics of a bundle with a threshold, held against another and against a baseline."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), [10, 100, 40])
    ours = np.concatenate([np.repeat(np.arange(3), row) for row in CONFUSION])
    theirs = np.where(rng.random(150) < 0.3, 1, ours)
    scores = rng.beta(5, 2, 150)
    prior = [0.1, 0.6, 0.3]
    columns = (truth, ours, scores, scores < 0.4)
    found = evaluation_.from_columns(*columns, LABELS, prior)
    found |= evaluation_.uncertainty(*columns, prior) | {"abstention_threshold": 0.4}
    rare = evaluation_.rarest_third(prior)
    found["against"] = {
        "bundle": "/runs/<old>/bundle",
        "created": "2026-01-01",
        "unknown_labels": [HOSTILE],
        "unknown_rows": 10,
        "unanswered_rows": 0,
    } | comparison.compare(truth, ours, theirs, LABELS, rare)
    test = {"only_this_right": 41, "only_other_right": 20, "p_value": 0.00959}
    found["baselines"] = {"majority": METRICS["baselines"]["majority"] | {"mcnemar": test}}
    return found


def data(manifest: dict[str, Any] = MANIFEST) -> Page:
    return Page(data_html(manifest, title="Desk <b>data</b>"))


def many(size: int) -> tuple[dict[str, Any], list[list[int]], list[str]]:
    """The heaviest report of `size` classes: every cell of the matrix holds rows."""
    labels = [
        f"{position} a rather long name of a team, écrit en détail" for position in range(size)
    ]
    row = {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    per_class = {label: {**row, "support": size - at} for at, label in enumerate(labels)}
    return {**METRICS, "per_class": per_class}, [[123] * size for _ in labels], labels


PAGES = {
    "evaluation": evaluation(),
    "uncertain": evaluation(uncertain()),
    "data": data(),
    "profile": data(profiled(MANIFEST)),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_label_that_is_markup_stays_text(page: Page) -> None:
    assert "alert('x')</script>" not in page.html
    assert not any(script.startswith("alert") for script in page.scripts)
    assert all(tag != "b" or not attributes for tag, attributes in page.tags)
    assert "Desk &lt;b&gt;" in page.html
    assert any(row[0] == HOSTILE for table in page.tables for row in table)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_report_loads_nothing_from_a_network(page: Page) -> None:
    assert "http://" not in page.html
    assert "https://" not in page.html
    assert "@import" not in page.html
    loaded = [
        attributes[name]
        for _, attributes in page.tags
        for name in ("src", "href", "srcset", "data", "action", "poster")
        if name in attributes
    ]
    assert loaded == ["data:,"]


def test_every_headline_figure_is_the_one_given() -> None:
    tiles = " | ".join(evaluation().tiles)
    for figure in ("0.693 Macro F1", "77.3% Accuracy", "71.7% Balanced", "91.2% Coverage"):
        assert figure in tiles
    assert "0.031 Calibration error" in tiles
    assert "1,150 Rows in 3 classes" in tiles
    assert evaluation().body("Average") == [
        ["over classes (macro)", "0.676", "0.717", "0.693"],
        ["over rows (weighted)", "0.784", "0.773", "0.777"],
    ]


def test_every_class_has_its_row_and_the_largest_comes_first() -> None:
    assert evaluation().body("Class") == [
        ["cards", "100", "0.860", "0.800", "0.829", "0.801"],
        ["payments", "40", "0.667", "0.750", "0.706", "–"],
        [HOSTILE, "10", "0.500", "0.600", "0.545", "–"],
    ]


def test_the_baselines_stand_beside_the_model_with_its_lead() -> None:
    page = evaluation()
    assert page.body("") == [
        ["this model", "77.3%", "0.693", "0.717", ""],
        ["tf-idf", "75.0%", "0.643", "–", "+5.0"],
        ["majority", "66.7%", "0.267", "0.333", "+42.7"],
        ["zero-shot (not measured)", "–", "–", "–", ""],
    ]
    assert "The model leads the best baseline" in page.html


def test_a_model_behind_its_baseline_is_said_to_trail() -> None:
    baselines = {"tf-idf": {"accuracy": 0.8, "macro_f1": 0.7135}}
    page = evaluation({**METRICS, "baselines": baselines})
    assert "The model trails the best baseline" in page.html
    assert page.body("")[1][-1] == "-2.0"


def test_the_top_confusions_are_counted_and_shared_over_the_true_class() -> None:
    assert evaluation().body("True class") == [
        ["cards", "payments", "15", "15.0%"],
        ["payments", "cards", "9", "22.5%"],
        ["cards", HOSTILE, "5", "5.0%"],
        [HOSTILE, "cards", "4", "40.0%"],
        ["payments", HOSTILE, "1", "2.5%"],
    ]


def test_no_more_than_fifteen_confusions_are_listed() -> None:
    assert len(evaluation(*many(20)).body("True class")) == 15


def test_a_model_without_mistakes_has_no_confusions() -> None:
    page = evaluation(confusion=[[10, 0, 0], [0, 100, 0], [0, 0, 40]])
    assert "every row was given its own class" in page.html


def test_the_heatmap_gets_the_whole_matrix_in_the_order_of_the_table() -> None:
    page = evaluation()
    matrix = json.loads(next(script for script in page.scripts if script.startswith("{")))
    assert matrix["labels"] == ["cards", "payments", HOSTILE]
    assert matrix["cells"] == [[0, 80, 1, 15, 2, 5], [0, 9, 1, 30, 2, 1], [0, 4, 2, 6]]


def test_the_small_classes_have_a_mean_of_their_own() -> None:
    tiles = " | ".join(evaluation().tiles)
    assert "0.829 Largest classes 1 class, 100 rows" in tiles
    assert "0.545 Smallest classes 1 class, 10 rows" in tiles


@pytest.mark.parametrize("size", [2, 77, 300])
def test_a_report_of_few_or_many_classes_is_whole_and_light(size: int) -> None:
    page = evaluation(*many(size))
    assert len(page.body("Class")) == size
    assert len(page.html.encode()) < 1_500_000


def test_figures_that_are_missing_or_not_finite_are_dashes() -> None:
    page = evaluation({"macro_f1": math.nan, "per_class": {"cards": {"f1": None}}})
    assert page.tiles[0].startswith("– Macro F1")
    assert ["cards", "100", "–", "–", "–"] in page.body("Class")


def test_figures_stand_with_their_intervals() -> None:
    found = uncertain()
    page = evaluation(found)
    low, high = found["intervals"]["macro_f1"]
    assert f"Macro F1 {low:.3f} to {high:.3f}; every class" in page.tiles[0]
    low, high = found["intervals"]["weighted_recall"]
    assert page.body("Average")[1][2] == f"0.773 ({low:.3f} to {high:.3f})"
    assert "95% intervals of 2,000 resamples" in page.html
    tiles = " | ".join(page.tiles)
    assert "60.0% Recall of the rarest third" in tiles
    assert f"{found['answered_accuracy']:.1%} Accuracy where answered" in tiles


def test_metrics_of_an_earlier_version_have_a_report_without_intervals_and_curves() -> None:
    page = evaluation()
    for word in ("resamples", "Against another bundle", "When to ask a human", "rarest third"):
        assert word not in page.html


def test_the_comparison_is_told_and_every_class_that_was_tested_is_there() -> None:
    found = uncertain()
    page = evaluation(found)
    assert comparison.sentence(found["against"]["mcnemar"]) in page.html
    assert "does not know 1 label of these rows" in page.html
    assert "Of 3 classes tested together" in page.html
    figures = {row[0]: row[1:] for row in page.body("Figure")}
    assert list(figures) == ["Accuracy", "Balanced accuracy", "Macro F1", "Rarest third recall"]
    ours, theirs = found["accuracy"], found["against"]["accuracy"]
    assert figures["Accuracy"][:3] == [f"{ours:.3f}", f"{theirs:.3f}", f"{ours - theirs:+.3f}"]
    classes = page.body("Class compared")
    assert {row[0] for row in classes} == set(LABELS)
    best = found["against"]["classes"][0]
    assert classes[0][:4] == [
        best["label"], str(best["support"]), f"{best['recall']:.3f}", f"{best['other_recall']:.3f}"
    ]  # fmt: skip


def test_a_baseline_stands_with_its_paired_test() -> None:
    page = evaluation(uncertain())
    assert page.body("")[0][-1] == ""
    assert page.body("")[1][-1] == "41 to 20, p = 0.010"
    assert "Row by row: This bundle is right on 41 rows where the other is wrong" in page.html


def test_the_curve_of_precision_over_coverage_has_readings_and_the_own_threshold() -> None:
    found = uncertain()
    page = evaluation(found)
    readings = page.body("When this share is answered")
    assert [row[0] for row in readings] == ["50%", "80%", "90%", "100%"]
    assert readings[-1][1] == "77.3%"
    wanted = page.body("To have this share right")
    assert [row[0] for row in wanted] == ["90%", "95%", "98%", "99%"]
    none = [{"precision": 0.9, "coverage": None, "threshold": None}]
    unreached = evaluation(found | {"coverage_at_precision": none})
    assert unreached.body("To have this share right") == [["90%", "never reached", "–"]]
    answered = page.titles[[t.startswith("scores of") for t in page.titles].index(True)]
    assert "answered" in answered
    assert ">the bundle's threshold<" in page.html.replace("&#39;", "'")
    bins = [row for row in found["reliability"] if row["rows"]]
    assert [row[1] for row in page.body("Score")] == [str(row["rows"]) for row in bins]
    everybody = evaluation(found | {"abstention_threshold": 0.0, "coverage": 1.0})
    assert ">no threshold<" in everybody.html
    assert "Accuracy where answered" not in everybody.html


def test_a_matrix_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="not 3 by 3"):
        evaluation(confusion=[[1, 0], [0, 1]])


def test_the_data_report_counts_each_label_and_what_undersampling_leaves() -> None:
    page = data()
    assert page.body("Label") == [
        ["cards", "", "2,000", "1,600", "200", "200", "1,885", "40 (2.5%)"],
        [HOSTILE, "", "50", "40", "0", "10", "49", "40 (100.0%)"],
    ]
    assert page.body("Split") == [
        ["train", "1,640", "80.0%"],
        ["validation", "200", "9.8%"],
        ["test", "210", "10.2%"],
    ]
    sentence = " ".join(page.html.split())
    assert "2 × 40 = 80 of 1,640 rows (4.9%)" in sentence


def test_the_data_report_shows_the_ratio_and_what_was_left_out() -> None:
    page = data()
    tiles = " | ".join(page.tiles)
    assert "40 : 1 Largest to smallest 1,600 training rows against 40" in tiles
    assert "31 Duplicates" in tiles
    assert "4 Conflicts" in tiles
    assert "19 Rejected rows" in tiles
    assert page.body("Reason") == [["no label", "12"], ["empty text", "7"]]
    assert page.body("Path") == [["s3://desk/a.parquet", "2.5 MB"]]
    assert "<dt>split.validation</dt><dd>0.1</dd>" in page.html
    assert "<dt>Seed</dt><dd>17</dd>" in page.html


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"labels": {}},
        {"labels": {"cards": None}},
        {"labels": {"cards": {"train": {"rows": 0}}}},
    ],
)
def test_a_data_report_tolerates_missing_fields(manifest: dict[str, Any]) -> None:
    assert "– Duplicates" in " | ".join(data(manifest).tiles)


def test_a_label_without_training_rows_leaves_nothing_to_undersample() -> None:
    labels = {"cards": {"train": {"rows": 9}}, "rare": {"test": {"rows": 3}}}
    page = data({"labels": labels})
    assert page.body("Label")[1] == ["rare", "", "3", "0", "0", "3", "0 (–)"]


def test_the_report_shows_what_each_strategy_leaves_of_each_class() -> None:
    page = data(profiled(MANIFEST))
    assert page.body("Label") == [
        # undersample, undersample with max_ratio 10, oversample
        ["cards", "", "2,000", "1,600", "200", "200", "1,885", "40", "400", "1,600"],
        [HOSTILE, "", "50", "40", "0", "10", "49", "40", "40", "1,600"],
    ]
    outcomes = {row[0]: row[1:] for row in page.body("balance.strategy")}
    assert outcomes["none"] == ["1,640", "100.0%", "40", "1,600", "all rows"]
    assert outcomes["undersample"] == ["80", "4.9%", "40", "40", "fewer rows"]
    assert outcomes["oversample"] == ["3,200", "195.1%", "1,600", "1,600", "more rows"]
    assert outcomes["class-weights"][-1] == "all rows; the loss is weighted"
    assert "cards: 1,600 → 40" in page.titles


def test_the_report_gives_the_advice_of_the_profile() -> None:
    page = data(profiled(MANIFEST, advice=["Beware of <b>12</b> classes."]))
    assert "Beware of <b>12</b> classes." in page.tiles
    assert "<b>12</b>" not in page.html


def test_the_report_shows_lengths_and_the_share_that_is_cut() -> None:
    page = data(profiled(MANIFEST, lengths=LENGTHS))
    tiles = " | ".join(page.tiles)
    assert "28 Median length in tokens 95% have at most 90" in tiles
    assert "3.1% Cut texts longer than model.max_tokens, 128" in tiles
    assert page.body("model.max_tokens") == [["64", "10.0%"], ["128", "3.1%"]]
    assert page.body("Of the texts")[3] == ["99%", "150 tokens"]
    for told in ("129 to 192 tokens: 30 texts (3.0%)", "193 tokens and more: 1 text (0.1%)"):
        assert told in page.titles
    assert "max_tokens 128: 3.1% cut" in page.html


def test_the_report_shows_near_duplicates_as_a_lower_bound() -> None:
    near = {
        "share": 0.02,
        "asked": {"validation": 150, "test": 50},
        "found": {"validation": 4, "test": 0},
        "known": 20_000,
        "threshold": 0.8,
        "characters": 500,
    }
    page = data(profiled(MANIFEST, near_duplicates=near))
    assert "≥ 2.0% Near-duplicates" in " | ".join(page.tiles)
    assert page.body("Split of the text") == [
        ["validation", "150", "4", "2.7%"],
        ["test", "50", "0", "0.0%"],
    ]


def test_a_report_without_lengths_or_near_duplicates_leaves_them_out() -> None:
    page = data(profiled(MANIFEST))
    assert "Median length" not in page.html
    assert "Near-duplicates" not in page.html
    assert "Labels as diverse as 1.1 of equal size" in " | ".join(page.tiles)


@pytest.mark.parametrize("size", [60, 3000])
def test_a_data_report_of_many_labels_is_whole_light_and_short_at_first(size: int) -> None:
    sides = ("train", "validation", "test")
    labels = {
        f"{k} équipe 支付 🧾": {side: {"rows": 1 + 9000 // (k + 1), "texts": 1} for side in sides}
        for k in range(size)
    }
    page = data(profiled({"labels": labels}))
    assert len(page.body("Label")) == size
    assert page.body("Label")[-1][0] == f"{size - 1} équipe 支付 🧾"
    assert len(page.html.encode()) < 2_000_000
    columns = [
        attributes for _, attributes in page.tags if "équipe" in str(attributes.get("title"))
    ]
    assert len(columns) == 60
    tables = [attributes for tag, attributes in page.tags if tag == "table"]
    assert any(attributes.get("class") == "short" for attributes in tables) == (size > 100)


def test_what_preparing_did_besides_is_told() -> None:
    page = data(
        MANIFEST
        | {
            "bad_files": [{"path": "s3://desk/<b>.parquet", "error": "no Parquet"}],
            "labels_map": {"Fax": "Printing", "Telex": ""},
            "dropped_labels": ["Telex", HOSTILE],
            "given_splits": ["train", "test"],
            "corrections": {
                "objects": 7,
                "read": 1200,
                "texts": 900,
                "changed": 700,
                "added": 150,
                "rejected": 3,
            },
            "rare": {"rule": "keep-in-train", "labels": ["Voice"]},
        }
    )
    assert page.body("Path")[0] == ["s3://desk/<b>.parquet", "no Parquet"]
    assert page.body("Old name") == [["Fax", "Printing"], ["Telex", ""]]
    assert [row[1] for row in page.body("Corrections")] == ["7", "1,200", "900", "700", "150", "3"]
    lists = [table[1:] for table in page.tables if table[0] == ["Label"]]
    assert lists == [[["Voice"]], [["Telex"], [HOSTILE]]]
    assert "split.rare is keep-in-train" in page.html
    assert "<dt>Splits that the source gives</dt><dd>train, test</dd>" in page.html
    assert "alert('x')</script>" not in page.html


def test_what_preparing_did_not_do_is_not_told() -> None:
    nothing = {"bad_files": [], "labels_map": {}, "dropped_labels": [], "given_splits": []}
    page = data(MANIFEST | nothing | {"rare": {"rule": "drop", "labels": []}})
    for word in (
        "could not be read",
        "Corrections",
        "Renamed",
        "Dropped labels",
        "Rare labels",
        "source gives",
    ):
        assert word not in page.html


def test_a_rank_size_curve_falls_from_left_to_right() -> None:
    names = [f"team {k}" for k in range(3000)]
    curve = charts.rank_size(names, [30_000 // (k + 1) for k in range(3000)], [20])
    spots = [(spot["x"], spot["y"]) for spot in curve["spots"]]
    assert spots == sorted(spots)
    assert (spots[0][0], curve["spots"][-1]["rank"]) == (0, 3000)
    assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in spots)
    assert len(spots) <= 160
    assert [text for _, text in curve["across"]] == ["1", "10", "100", "1,000"]


def test_bands_hold_what_is_kept_left_out_and_added_and_nothing_twice() -> None:
    def tops(path: str) -> int:
        return len(re.findall("M", path))

    cut = charts.before_and_after(["a", "b", "c"], [100, 50, 10], [50, 50, 10], 100)
    assert [tops(cut[band]) for band in ("kept", "left_out", "added")] == [3, 1, 0]
    more = charts.before_and_after(["a", "b", "c"], [100, 50, 10], [100, 100, 100], 100)
    assert [tops(more[band]) for band in ("kept", "left_out", "added")] == [3, 0, 2]
    assert [slot["before"][0] for slot in cut["slots"]] == [100, 50, 10]


def test_a_histogram_has_its_limit_at_the_edge_between_whole_and_cut_bars() -> None:
    drawn = charts.histogram([0, 64, 128, 192, 900], [900, 69, 30, 1], 128)
    assert [bar["cut"] for bar in drawn["bars"]] == [False, False, True, True]
    assert drawn["limit"] == drawn["bars"][2]["x"] == 50
    assert [bar["width"] for bar in drawn["bars"]] == [25] * 4
    assert drawn["bars"][-1]["to"] is None
    assert charts.histogram([0, 8, 16], [3, 4], 128)["limit"] is None
