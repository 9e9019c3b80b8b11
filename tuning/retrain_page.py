"""The report of a round of retraining as one HTML document that stands alone.

It looks as the other reports do: their templates are the shell, the marks and the comparison of
this one.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from jobs import evaluation_view, intervals, report
from tuning import growth, promotion_card
from tuning.inherited import Champion
from tuning.judgement import Judgement
from tuning.judging import left_out_in_words


def retrain_html(
    outcome: Mapping[str, Any],
    grown: Mapping[str, Any],
    judged: Judgement | None,
    *,
    about: Champion,
) -> str:
    """Shows a round to a person. `grown`: of tuning.growth; `judged`: None where the model is the
    champion itself, and nothing was compared; `about`: the champion that it was begun with."""
    return (
        _environment()
        .get_template("retrain.html.j2")
        .render(
            title=f"Retraining of {outcome['name']}",
            facts=_facts(outcome, about),
            outcome=outcome,
            grown=grown,
            told=growth.in_words(grown),
            rows=_rows(grown),
            **_compared(judged, about),
        )
    )


def _facts(outcome: Mapping[str, Any], about: Champion) -> dict[str, str]:
    settings = about.about.configuration
    other = ", ".join(f"{key} = {value}" for key, value in outcome["other_settings"].items())
    return {
        "Source": outcome["source"],
        "Corrections": outcome["feedback"] or "none",
        "Registry": outcome["registry"],
        "Begun with the champion": f"version {about.version}, trained {about.about.created}",
        "Its data": about.data.uri,
        "New data": outcome["data"],
        "New model": outcome["bundle"],
        "Base model": str(outcome["other_settings"].get("model.name", settings.get("model.name"))),
        "Trained as the champion": f"but for {other}" if other else "yes",
        "Ended": outcome["at"],
    }


def _rows(grown: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a label, what changed most first."""
    known = {**dict.fromkeys(grown["new"], "new"), **dict.fromkeys(grown["gone"], "gone")}
    rows = [
        {"label": label, "before": old, "after": now, "change": now - old, "kind": known.get(label)}
        for label, (old, now) in grown["per_label"].items()
    ]
    return sorted(rows, key=lambda row: (-abs(row["change"]), -row["after"], row["label"]))


def _compared(judged: Judgement | None, about: Champion) -> dict[str, Any]:
    """The values of the comparison: those that the page of an evaluation has of it."""
    if judged is None or judged.other is None:
        return {"against": None, "metrics": {}, "bootstrap": {}, "uses": "", "left_out": ""}
    other = judged.other
    ours = {
        name: other[name] + change["value"]
        for name, change in other["difference"].items()
        if name in other
    }
    named = {"bundle": f"The champion, version {judged.champion}", "created": ""}
    return {
        "against": evaluation_view.against({**other, **named}),
        "metrics": ours,
        "bootstrap": {"level": intervals.LEVEL},
        "uses": promotion_card.used(judged.uses),
        "left_out": left_out_in_words(other),
        "rows_judged": judged.alone["rows"],
    }


@cache
def _environment() -> Environment:
    return report.environment(Path(__file__).with_name("templates"))
