"""HTML reports that stand alone: how a model did, and what a set of prepared data holds.

It knows plain mappings of numbers, and how to show them to a person. It does not know what a
model, a data set or a cluster is: it measures nothing, reads no file but its own templates, and
what it returns loads nothing from a network. Every number shown comes from the arguments.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TOP_CONFUSIONS = 15
SPLITS = ("train", "validation", "test")
MISSING = "–"


@dataclass(frozen=True, slots=True)
class ClassRow:
    """What one class got; `baseline_f1` is that of the baseline it is held against."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    baseline_f1: float | None


@dataclass(frozen=True, slots=True)
class Confusion:
    """`count` rows of class `true` were called `predicted`: `share` of all rows of `true`."""

    true: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class LabelRow:
    """How often one label occurs: rows per split, and over all splits rows and distinct texts."""

    label: str
    rows: dict[str, int]
    total: int
    texts: int | None


def evaluation_html(
    metrics: Mapping[str, Any],
    confusion: Sequence[Sequence[int]],
    labels: Sequence[str],
    *,
    title: str,
    facts: Mapping[str, str],
) -> str:
    """Shows `metrics` (the contract of metrics.json) as one HTML document.

    `confusion[i][j]` counts the rows of class `labels[i]` that were called `labels[j]`.
    Metrics that are missing or not finite are shown as a dash; a baseline may be None.
    Raises ValueError when `confusion` is not a square over `labels`.
    """
    if len(confusion) != len(labels) or any(len(row) != len(labels) for row in confusion):
        raise ValueError(f"The confusion matrix is not {len(labels)} by {len(labels)} labels.")
    baselines = _baselines(metrics)
    judge = next((name for name, found in baselines if found.get("per_class")), None)
    classes = _class_rows(metrics, confusion, labels, judge)
    place = {label: position for position, label in enumerate(labels)}
    order = [place[row.label] for row in classes]
    return _render(
        "evaluation.html.j2",
        title=title,
        facts=facts,
        metrics=metrics,
        baselines=baselines,
        classes=classes,
        judge=judge,
        largest=max(row.support for row in classes),
        thirds=_thirds(classes),
        confusions=_top_confusions(confusion, labels),
        matrix=_matrix(confusion, labels, order),
    )


def data_html(manifest: Mapping[str, Any], *, title: str) -> str:
    """Shows `manifest` (the contract of prepared data) as one HTML document.

    Missing fields are left out or shown as a dash. Undersampling is reckoned from the rows of
    the training split alone, as balancing never touches the other two.
    """
    labels: Mapping[str, Any] = manifest.get("labels") or {}
    splits = _split_names(labels)
    rows = _label_rows(labels, splits)
    counted = [row.total for row in rows if row.total]
    return _render(
        "data.html.j2",
        title=title,
        manifest=manifest,
        rows=rows,
        splits=splits,
        totals={split: sum(row.rows[split] for row in rows) for split in splits},
        total=sum(counted),
        largest=max(counted, default=0),
        smallest=min(counted, default=0),
        ratio=max(counted) / min(counted) if counted else None,
        has_texts=any(row.texts is not None for row in rows),
        rarest=min(rows, key=lambda row: (row.rows["train"], row.label), default=None),
        rejected=sorted((manifest.get("rejected") or {}).items(), key=lambda item: -item[1]),
        settings=_flat(manifest.get("settings") or {}),
    )


def _baselines(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """From the best macro F1 to the worst; one that was not measured comes last, empty."""
    named = [(name, found or {}) for name, found in (metrics.get("baselines") or {}).items()]
    return sorted(named, key=lambda item: -(_number(item[1], "macro_f1") or 0.0))


def _class_rows(
    metrics: Mapping[str, Any],
    confusion: Sequence[Sequence[int]],
    labels: Sequence[str],
    judge: str | None,
) -> list[ClassRow]:
    """One row a class, the largest support first; `judge` names the baseline to hold it against."""
    per_class: Mapping[str, Any] = metrics.get("per_class") or {}
    rival: Mapping[str, Any] = metrics["baselines"][judge]["per_class"] if judge is not None else {}
    rows = []
    for label, counts in zip(labels, confusion, strict=True):
        found = per_class.get(label) or {}
        support = _number(found, "support")
        rows.append(
            ClassRow(
                label=label,
                precision=_number(found, "precision"),
                recall=_number(found, "recall"),
                f1=_number(found, "f1"),
                support=int(sum(counts) if support is None else support),
                baseline_f1=_number(rival.get(label) or {}, "f1"),
            )
        )
    return sorted(rows, key=lambda row: (-row.support, row.label))


def _thirds(classes: Sequence[ClassRow]) -> list[dict[str, Any]]:
    """The mean F1 of the largest, middle and smallest third of the classes that have rows.

    An average over all classes can hide that the small teams are badly served; this cannot.
    """
    scored = [(row.support, row.f1) for row in classes if row.support and row.f1 is not None]
    if len(scored) < 3:
        return []
    cuts = [round(len(scored) * part / 3) for part in range(4)]
    named = zip(("largest", "middle", "smallest"), cuts, cuts[1:], strict=False)
    return [
        {
            "name": name,
            "classes": end - start,
            "rows": sum(support for support, _ in scored[start:end]),
            "f1": sum(f1 for _, f1 in scored[start:end]) / (end - start),
        }
        for name, start, end in named
    ]


def _top_confusions(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> list[Confusion]:
    """The most frequent mistakes first; where counts are equal, in the order of the labels."""
    found = [
        Confusion(labels[i], labels[j], int(count), count / total)
        for i, (row, total) in enumerate(zip(confusion, map(sum, confusion), strict=True))
        for j, count in enumerate(row)
        if count and i != j
    ]
    return sorted(found, key=lambda mistake: -mistake.count)[:TOP_CONFUSIONS]


def _matrix(
    confusion: Sequence[Sequence[int]], labels: Sequence[str], order: Sequence[int]
) -> dict[str, Any]:
    """For the heatmap: only the cells that hold rows, as flat pairs (column, count) per row.

    A good model leaves most cells empty, so that 77 classes take a few tens of kilobytes.
    """
    cells = [
        [number for j, i in enumerate(order) if row[i] for number in (j, int(row[i]))]
        for row in (confusion[position] for position in order)
    ]
    return {"labels": [labels[position] for position in order], "cells": cells}


def _split_names(labels: Mapping[str, Any]) -> list[str]:
    found = {split for splits in labels.values() for split in splits or ()}
    return [*SPLITS, *sorted(found - set(SPLITS))]


def _label_rows(labels: Mapping[str, Any], splits: Sequence[str]) -> list[LabelRow]:
    """One row a label, the most frequent first."""
    rows = []
    for label, found in labels.items():
        counts = {split: _count(found or {}, split, "rows") for split in splits}
        rows.append(LabelRow(label, counts, sum(counts.values()), _texts(found or {})))
    return sorted(rows, key=lambda row: (-row.total, row.label))


def _count(found: Mapping[str, Any], split: str, name: str) -> int:
    return int(_number(found.get(split) or {}, name) or 0)


def _texts(found: Mapping[str, Any]) -> int | None:
    given = [split for split, counts in found.items() if "texts" in (counts or {})]
    return sum(_count(found, split, "texts") for split in given) if given else None


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


def _number(found: Mapping[str, Any], name: str) -> float | None:
    """The finite number under `name`, numpy's kinds included, or None."""
    value = found.get(name)
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _percent(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{value * 100:.{digits}f}%"


def _decimal(value: float | None, digits: int = 3) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def _whole(value: float | None) -> str:
    return MISSING if value is None else f"{int(value):,}"


def _size(count: float | None) -> str:
    if count is None:
        return MISSING
    power = min((len(str(int(count))) - 1) // 3, 4)
    return f"{count / 1000**power:.{1 if power else 0}f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


@cache
def _environment() -> Environment:
    # autoescape=True, not select_autoescape: that one goes by the ending, and .j2 would be off
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "decimal": _decimal,
        "whole": _whole,
        "size": _size,
    }
    environment.globals |= {"number": _number}
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)
