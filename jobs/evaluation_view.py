"""From metrics.json to what its page shows: rows of tables, figures, charts, sentences.

It knows the contract of metrics.json; how things look is the template's. Whatever is missing in
older metrics is None or empty here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs import comparison, printed, score_charts
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


def view(
    metrics: Mapping[str, Any], confusion: Sequence[Sequence[int]], labels: Sequence[str]
) -> dict[str, Any]:
    """The values of evaluation.html.j2; see `jobs.report.evaluation_html` for the arguments."""
    baselines = _baselines(metrics)
    judge = next((name for name, found in baselines if found.get("per_class")), None)
    classes = _class_rows(metrics, confusion, labels, judge)
    place = {label: position for position, label in enumerate(labels)}
    order = [place[row.label] for row in classes]
    return {
        "metrics": metrics,
        "intervals": metrics.get("intervals") or {},
        "bootstrap": metrics.get("bootstrap") or {},
        "too_sure": printed.too_sure(metrics),
        "baselines": baselines,
        "best_test": _best_test(baselines),
        "against": against(metrics.get("against")),
        "scores": _scores(metrics),
        "classes": classes,
        "judge": judge,
        "largest": max(row.support for row in classes),
        "thirds": _thirds(classes),
        "confusions": _top_confusions(confusion, labels),
        "matrix": _matrix(confusion, labels, order),
    }


def _best_test(baselines: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The paired test against the best baseline as a sentence, or nothing."""
    test = baselines[0][1].get("mcnemar") if baselines else None
    return comparison.sentence(test) if test else ""


def against(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The comparison with its sentences, or None."""
    if not found:
        return None
    return {
        **found,
        "sentence": comparison.sentence(found["mcnemar"]),
        "reservations": printed.reservations(found),
        "multiple": printed.multiple(found),
        "gained": len(comparison.gained(found)),
        "lost": len(comparison.lost(found)),
        "alpha": comparison.ALPHA,
    }


def _scores(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The charts of scores, or None where no curve was measured."""
    points = metrics.get("coverage_curve")
    if not points:
        return None
    own = None
    coverage = figures.number(metrics, "coverage")
    precision = figures.number(metrics, "answered_accuracy")
    if coverage is not None and precision is not None:
        own = (coverage, precision)
    bins = metrics["reliability"]
    return {
        "curve": score_charts.coverage(points, own),
        "reliability": score_charts.reliability(bins),
        "bins": [found for found in bins if found["rows"]],
        "threshold": figures.number(metrics, "abstention_threshold"),
        "by_precision": metrics["coverage_at_precision"],
        "by_coverage": metrics["precision_at_coverage"],
    }


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
