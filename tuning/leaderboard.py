"""What `tuning.analyze` prints: the best trials, what became of the others, three sentences."""

import pandas as pd

from jobs.profiling import figures
from tuning import analysis
from tuning.analysis import OBJECTIVE
from tuning.findings import findings
from tuning.overview import Overview, rows
from tuning.parameters import shown
from tuning.view import duration

TOP = 10
_COLUMNS = (OBJECTIVE, "accuracy", "rarest_third_recall", "calibration_error")


def table(found: Overview) -> str:
    """The finished trials from the best, and how the others ended."""
    counts = analysis.counts(found.trials)
    told = ", ".join(f"{count:,} {state}" for state, count in counts.items()) or "none begun"
    lines = [f"Trials: {told}."]
    if found.ranked.empty:
        lines.append("No trial has finished yet: there is no winner, and no best.toml.")
    else:
        lines += _board(found)
    lines += _failures(found.trials)
    for finding in findings(found):
        lines += ["", f"{finding.heading}: {finding.sentence}"]
        lines += [f"  {line}" for line in finding.behind]
    return "\n".join(lines)


def _board(found: Overview) -> list[str]:
    lines = [
        f"{'rank':>4} {'trial':>6} {'macro F1':>9} {'accuracy':>9} {'rarest third':>12} "
        f"{'calibration':>11} {'epoch':>8} {'cost':>8}"
    ]
    for rank, row in enumerate(rows(found.ranked.head(TOP)), 1):
        cells = [figures.decimal(figures.number(row, name), 4) for name in _COLUMNS]
        lines.append(
            f"{rank:>4} {row['name']:>6} {cells[0]:>9} {cells[1]:>9} {cells[2]:>12} "
            f"{cells[3]:>11} {row['best_epoch']:>3} of {row['epochs']:<2}"
            f"{duration(row['cost_seconds']):>8}"
        )
    best = rows(found.ranked)[0]
    values = ", ".join(f"{p.key} = {shown(best[p.key])}" for p in found.in_force()[best["name"]])
    lines.append(f"Trial {best['name']}: {values or 'nothing was varied'}")
    return lines


def _failures(trials: pd.DataFrame) -> list[str]:
    failed = trials[trials["state"] == "failed"]
    return [
        f"Trial {row['name']} failed: {row['reason'][:200] or 'no reason is known'}"
        for row in rows(failed.head(TOP))
    ]
