"""What the tests of the HTML reports share: figures with a hostile label, the pages made of them,
and a reader that sees a page as a browser would: parsed, not matched as one long string."""

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import comparison
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
