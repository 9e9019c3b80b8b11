"""HTML reports that stand alone: how a model did, and what a set of prepared data holds.

It knows plain mappings of numbers, and how to show them to a person. It does not know what a
model, a data set or a cluster is: it measures nothing, reads no file but its own templates, and
what it returns loads nothing from a network. Every number shown comes from the arguments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs import data_view
from jobs.profiling import figures

TOP_CONFUSIONS = 15


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

    Missing fields are left out or shown as a dash: a manifest without a profile still has its
    labels. Balancing is reckoned from the training split alone, as it never touches the others.
    """
    return _render("data.html.j2", title=title, manifest=manifest, **data_view.view(manifest))


def _baselines(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """From the best macro F1 to the worst; one that was not measured comes last, empty."""
    named = [(name, found or {}) for name, found in (metrics.get("baselines") or {}).items()]
    return sorted(named, key=lambda item: -(figures.number(item[1], "macro_f1") or 0.0))


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
        support = figures.number(found, "support")
        rows.append(
            ClassRow(
                label=label,
                precision=figures.number(found, "precision"),
                recall=figures.number(found, "recall"),
                f1=figures.number(found, "f1"),
                support=int(sum(counts) if support is None else support),
                baseline_f1=figures.number(rival.get(label) or {}, "f1"),
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
        name: getattr(figures, name)
        for name in ("percent", "decimal", "whole", "size", "share", "times")
    }
    environment.globals |= {"number": figures.number, "several": figures.several}
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)
