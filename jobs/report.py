"""HTML reports that stand alone: how a model did, and what a set of prepared data holds.

It knows plain mappings of numbers, and how to show them to a person. It does not know what a
model, a data set or a cluster is: it measures nothing, reads no file but its own templates, and
what it returns loads nothing from a network. Every number shown comes from the arguments.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs import comparison, data_view, evaluation_view, printed
from jobs.profiling import figures


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
    return _render(
        "evaluation.html.j2",
        title=title,
        facts=facts,
        **evaluation_view.view(metrics, confusion, labels),
    )


def data_html(manifest: Mapping[str, Any], *, title: str) -> str:
    """Shows `manifest` (the contract of prepared data) as one HTML document.

    Missing fields are left out or shown as a dash: a manifest without a profile still has its
    labels. Balancing is reckoned from the training split alone, as it never touches the others.
    """
    return _render("data.html.j2", title=title, manifest=manifest, **data_view.view(manifest))


@cache
def environment(*folders: Path) -> Environment:
    """Templates in `folders` and in ours, with the filters that all reports write figures by."""
    # autoescape=True, not select_autoescape: that one goes by the ending, and .j2 would be off
    found = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).with_name("templates")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        name: getattr(figures, name)
        for name in ("percent", "decimal", "whole", "size", "share", "times")
    }
    found.filters |= {"p": comparison.p_text, "words": printed.words}
    found.globals |= {"number": figures.number, "several": figures.several}
    found.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return found


def _render(template: str, **values: Any) -> str:
    return environment().get_template(template).render(**values)
