"""The report of prepared data: its labels, what a strategy leaves of them, lengths, near-duplicates
and what preparing did besides; and the points of the charts that stand there."""

import re
from typing import Any

import pytest

from jobs import charts
from tests.unit.reporting import HOSTILE, MANIFEST, data, profiled

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


# The charts.


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
