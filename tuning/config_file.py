"""best.toml: the settings of a trial, as `python -m jobs.train --config` takes them."""

import json
import textwrap
from collections.abc import Mapping
from typing import Any

from tuning.analysis import OBJECTIVE, Experiment, number
from tuning.experiment import Trial

_SHOWN = (OBJECTIVE, "accuracy", "rarest_third_recall", "calibration_error")


def best_toml(experiment: Experiment, trial: Trial, figures: Mapping[str, Any]) -> str:
    """All training settings of `trial` and its data, under a comment that says what it reached.

    None is written as the word `none`, which the settings read back. Workers that the search left
    open are those that the trial had: with others the sums of a step are rounded differently.
    """
    settings = experiment.settings(trial)
    plan = experiment.record.get("plan") or {}
    if settings.get("scaling.workers", 0) is None:
        settings["scaling.workers"] = plan.get("workers")
    if settings.get("scaling.gpu") == "auto" and "gpu" in plan:
        settings["scaling.gpu"] = "yes" if plan["gpu"] else "no"
    settings["data.uri"] = experiment.record["data"]["uri"]
    lines = _heading(experiment, trial, figures)
    for group in dict.fromkeys(key.rpartition(".")[0] for key in settings):
        lines += ["", f"[{group}]"]
        mine = {k: v for k, v in settings.items() if k.rpartition(".")[0] == group}
        lines += [f"{key.rpartition('.')[2]} = {toml(value)}" for key, value in mine.items()]
    return "\n".join(lines) + "\n"


def _heading(experiment: Experiment, trial: Trial, figures: Mapping[str, Any]) -> list[str]:
    told = ", ".join(
        f"{name} {found:.4f}"
        for name in _SHOWN
        if (found := number(figures, name)) == found  # a NaN is not itself
    )
    changed = ", ".join(f"{key} = {toml(value)}" for key, value in trial.parameters.items())
    lines = [
        f"Trial {trial.number} of {experiment.uri}",
        f"On the validation rows, in epoch {figures['best_epoch']} of {figures['epochs']}: {told}.",
        f"Searched: {changed}.",
        "python -m jobs.train --config best.toml --output URI",
    ]
    wrap = textwrap.TextWrapper(98, break_long_words=False, break_on_hyphens=False).wrap
    return [f"# {part}" for line in lines for part in wrap(line)]


def toml(value: Any) -> str:
    """A plain value as TOML writes it."""
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(each) for each in value)}]"
    # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")
