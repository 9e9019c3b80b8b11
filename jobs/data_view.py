"""From a manifest of prepared data to what its page shows: rows of tables, figures, charts.

It knows the contract of manifest.json and of `jobs.profiling.profile`; how things look is the
template's. Whatever is missing in an older manifest is None or empty here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from jobs import charts
from jobs.profiling.figures import number

SPLITS = ("train", "validation", "test")
MOST_COLUMNS = 60
CORRECTED = (
    ("objects", "objects in the folder"),
    ("read", "corrections read"),
    ("texts", "texts corrected"),
    ("changed", "texts of the source whose label changed"),
    ("added", "texts added that the source did not have"),
    ("rejected", "corrections rejected"),
)


@dataclass(frozen=True, slots=True)
class LabelRow:
    """How often one label occurs: rows per split, and over all splits rows and distinct texts.

    `after` has the training rows that each strategy leaves which leaves another number.
    """

    label: str
    rows: dict[str, int]
    total: int
    texts: int | None
    after: list[int]


@dataclass(frozen=True, slots=True)
class Extra:
    """A table of its own, with what it says."""

    heading: str
    told: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def view(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The values of data.html.j2."""
    labels: Mapping[str, Any] = manifest.get("labels") or {}
    profile: Mapping[str, Any] = manifest.get("profile") or {}
    splits = _split_names(labels)
    changes = [found for found in profile.get("balance") or () if found["per_class"] is not None]
    rows = _label_rows(labels, splits, changes)
    trained = sorted((r for r in rows if r.rows["train"]), key=lambda row: -row.rows["train"])
    totals = {split: sum(row.rows[split] for row in rows) for split in splits}
    lengths = profile.get("lengths")
    return {
        "profile": profile,
        "rows": rows,
        "splits": splits,
        "totals": totals,
        "total": sum(totals.values()),
        "largest": trained[0] if trained else None,
        "smallest": trained[-1] if trained else None,
        "has_texts": any(row.texts is not None for row in rows),
        "rarest": min(rows, key=lambda row: (row.rows["train"], row.label), default=None),
        "columns": rows[:MOST_COLUMNS],
        "curve": _curve(trained, (profile.get("few") or {}).get("below", 0)),
        "lengths": lengths,
        "histogram": lengths and _histogram(lengths),
        "balance": profile.get("balance") or [],
        "changes": [name["name"] for name in changes],
        "leaves": _leaves(trained, changes),
        "rejected": sorted((manifest.get("rejected") or {}).items(), key=lambda item: -item[1]),
        "settings": _flat(manifest.get("settings") or {}),
        "extras": _extras(manifest),
    }


def _extras(manifest: Mapping[str, Any]) -> list[Extra]:
    """What preparing did besides, as far as it did."""
    rare: Mapping[str, Any] = manifest.get("rare") or {}
    rule = f"They have fewer distinct texts than split.min_rows; split.rare is {rare.get('rule')}."
    corrections: Mapping[str, Any] = manifest.get("corrections") or {}
    found = [
        Extra(
            "Corrections",
            "The newest correction of a text takes the place of its labels.",
            ("Corrections", "How many"),
            [(told, f"{corrections.get(key, 0):,}") for key, told in CORRECTED if corrections],
        ),
        Extra(
            "Files that could not be read",
            "They were passed over.",
            ("Path", "Error"),
            [(file["path"], file["error"]) for file in manifest.get("bad_files") or ()],
        ),
        Extra(
            "Renamed labels",
            "Rows whose new name is empty were dropped.",
            ("Old name", "New name"),
            [(old, new or "") for old, new in (manifest.get("labels_map") or {}).items()],
        ),
        Extra("Rare labels", rule, ("Label",), [(label,) for label in rare.get("labels") or ()]),
        Extra(
            "Dropped labels",
            "No row of theirs is in any split.",
            ("Label",),
            [(label,) for label in manifest.get("dropped_labels") or ()],
        ),
    ]
    return [extra for extra in found if extra.rows]


def _split_names(labels: Mapping[str, Any]) -> list[str]:
    found = {split for splits in labels.values() for split in splits or ()}
    return [*SPLITS, *sorted(found - set(SPLITS))]


def _label_rows(
    labels: Mapping[str, Any], splits: Sequence[str], changes: Sequence[Mapping[str, Any]]
) -> list[LabelRow]:
    """One row a label, the most frequent first."""
    place = {label: c for c, label in enumerate(sorted(labels))}
    rows = []
    for label, found in labels.items():
        counts = {split: _count(found or {}, split, "rows") for split in splits}
        after = [change["per_class"][place[label]] for change in changes]
        rows.append(LabelRow(label, counts, sum(counts.values()), _texts(found or {}), after))
    return sorted(rows, key=lambda row: (-row.total, row.label))


def _count(found: Mapping[str, Any], split: str, name: str) -> int:
    return int(number(found.get(split) or {}, name) or 0)


def _texts(found: Mapping[str, Any]) -> int | None:
    given = [split for split, counts in found.items() if "texts" in (counts or {})]
    return sum(_count(found, split, "texts") for split in given) if given else None


def _curve(trained: Sequence[LabelRow], few: int) -> dict[str, Any] | None:
    """The rank-size curve of the training rows, with a mark at `few`; two points are no curve."""
    if len(trained) < 3:
        return None
    sizes = [row.rows["train"] for row in trained]
    marks = [few] if 0 < few <= sizes[0] else []
    curve = charts.rank_size([row.label for row in trained], sizes, marks)
    total = sum(sizes)
    half = 1 + sum(2 * held < total for held in accumulate(sizes))
    return curve | {
        "below": few,
        "few": sum(size < few for size in sizes),
        "half": half,
        "classes": len(sizes),
    }


def _histogram(lengths: Mapping[str, Any]) -> dict[str, Any]:
    found = lengths["histogram"]
    return charts.histogram(found["edges"], found["counts"], lengths["max_tokens"])


def _leaves(
    trained: Sequence[LabelRow], changes: Sequence[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], dict[str, Any]]]:
    """A chart for each strategy that changes the rows of a class, all on one scale."""
    before = [row.rows["train"] for row in trained]
    names = [row.label for row in trained]
    afters = [[row.after[k] for row in trained] for k in range(len(changes))]
    largest = max((count for rows in (before, *afters) for count in rows), default=1)
    return [
        (change, charts.before_and_after(names, before, after, largest))
        for change, after in zip(changes, afters, strict=True)
        if trained
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings under their dotted keys, which is how the user wrote them."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            text = json.dumps(value, default=str, ensure_ascii=False)
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else text
    return flat
