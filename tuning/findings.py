"""Three sentences on a search: what mattered, what did not, and what to try next.

Each comes with the figures behind it, and says that it is too early where the trials are too few.
What is said of a parameter is said of the space that was searched, and of no other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from jobs import comparison
from jobs.profiling import figures
from tuning.analysis import OBJECTIVE
from tuning.importance import Importance
from tuning.overview import Overview
from tuning.parameters import shown
from tuning.shares import Share

ALPHA = 0.05
SMALL_SHARE = 0.1  # a parameter whose interval ends below this made no difference worth a trial
UNLIKE_CHANCE_P = 0.2  # and whose test gives no hint of one
EDGE = 0.1  # of a range, at either end
TOP = 5


@dataclass(frozen=True)
class Finding:
    """`sentence` is the whole of it; `behind` the figures, one line each; `early`: no judgement
    was made, and the sentence says why."""

    heading: str
    sentence: str
    behind: tuple[str, ...] = ()
    early: bool = False


def findings(found: Overview) -> list[Finding]:
    """The three, always in the same order."""
    if found.assessment.early:
        sentence = f"Too early to say: {found.assessment.early}."
        headings = ("What mattered", "What did not", "What to try next")
        return [Finding(heading, sentence, early=True) for heading in headings]
    return [mattered(found), did_not(found), try_next(found)]


def mattered(found: Overview) -> Finding:
    rows = _significant(found)
    heading = "What mattered"
    if not rows:
        largest = found.assessment.rows[0]
        return Finding(
            heading,
            f"No parameter stands out from chance in {found.assessment.trials} trials.",
            (_behind(largest),),
        )
    names = _listing(rows)
    return Finding(
        heading,
        f"{names} made a difference to macro F1 that chance does not explain.",
        tuple(_behind(row) for row in rows),
    )


def did_not(found: Overview) -> Finding:
    rows = [
        row
        for row in found.assessment.rows
        if row.share is not None and row.share.high < SMALL_SHARE
        if row.p_value is not None and row.p_value > UNLIKE_CHANCE_P
    ]
    few = [row for row in found.assessment.rows if row.share is None]
    untold = tuple(
        f"{row.parameter.key} was in force in {figures.several(row.trials, 'trial', 'trials')}: "
        "too few to say anything of it."
        for row in few
    )
    heading = "What did not"
    if not rows:
        sentence = (
            "No parameter can be ruled out yet: each shows a difference, or its share may still "
            f"be above {SMALL_SHARE:.0%}."
        )
        return Finding(heading, sentence, untold)
    return Finding(
        heading,
        f"{_listing(rows)} made no difference that could be seen: "
        f"{'each accounts' if len(rows) > 1 else 'it accounts'} for less than {SMALL_SHARE:.0%} "
        "of what sets the trials apart.",
        tuple(_share(row) + "." for row in rows) + untold,
    )


def try_next(found: Overview) -> Finding:
    told = [*_at_edges(found), *_still_rising(found), _going_on(found)]
    sentences, behind = zip(*told[:2], strict=True)
    return Finding("What to try next", " ".join(sentences), tuple(behind))


def _significant(found: Overview) -> list[Importance]:
    rows = found.assessment.rows
    return [row for row in rows if row.p_value is not None and row.p_value < ALPHA]


def _at_edges(found: Overview) -> list[tuple[str, str]]:
    """Parameters that matter and whose best values lie at an end of their range."""
    told = []
    for row in _significant(found):
        parameter = row.parameter
        if parameter.is_choice or len(row.groups) < 2:
            continue
        place = max(range(len(row.groups)), key=lambda k: row.groups[k].median)
        trial = found.ranked[parameter.in_force(found.ranked)].head(TOP)
        middle = float(pd.Series(parameter.positions(trial[parameter.key])).median())
        low = place == 0 and middle < EDGE
        high = place == len(row.groups) - 1 and middle > 1 - EDGE
        if low or high:
            end = parameter.at(0.0 if low else 1.0)
            way = "below" if low else "above"
            told.append(
                (
                    f"Search {parameter.key} {way} {shown(end)} too: the best trials lie at that "
                    "end of its range.",
                    f"{parameter.key} of the {len(trial)} best trials: median "
                    f"{shown(parameter.at(middle))}, searched from {shown(parameter.at(0.0))} to "
                    f"{shown(parameter.at(1.0))}.",
                )
            )
    return told


def _still_rising(found: Overview) -> list[tuple[str, str]]:
    """Whether the best finished trials were best at their very end."""
    top = found.ranked.head(TOP)
    last = int((top["best_epoch"] == top["epochs"]).sum())
    if len(top) < TOP or last < TOP - 1:
        return []
    longest = int(top["epochs"].max())
    return [
        (
            f"Give trials more than {longest} epochs: the best ones were still getting better.",
            f"In {last} of the {TOP} best trials the last epoch was the best.",
        )
    ]


def _going_on(found: Overview) -> tuple[str, str]:
    """Whether trials of the same kind still find something better."""
    order = found.ranked.sort_values(["started", "trial"])
    best = order[OBJECTIVE].cummax()
    steps = [k for k in range(1, len(best)) if best.iloc[k] > best.iloc[k - 1]]
    last, total = (steps[-1] if steps else 0) + 1, len(order)
    behind = (
        f"The best so far was last improved by the {_ordinal(last)} of {total} that finished"
        + (f", from {best.iloc[last - 2]:.4f} to {best.iloc[last - 1]:.4f}." if steps else ".")
    )
    if last > total * 2 / 3:
        return (
            "Go on with more trials: the last third of those that finished still found a better "
            "one.",
            behind,
        )
    top = found.ranked[OBJECTIVE].head(TOP)
    apart = f" The {len(top)} best lie within {top.iloc[0] - top.iloc[-1]:.4f}."
    rows = [row for row in _significant(found) if len(row.groups) > 1]
    if rows:
        kept = " and ".join(f"{row.parameter.key} {_best_group(row)}" for row in rows)
        return f"Narrow the space to {kept} before more trials of the same.", behind + apart
    return (
        "Repeat the best trials with another train.seed rather than draw more: nothing better came "
        "for long.",
        behind + apart,
    )


def _behind(row: Importance) -> str:
    """One line of figures on a parameter that matters."""
    ordered = sorted(row.groups, key=lambda group: -group.median)
    if len(ordered) < 2:
        return _share(row) + "."
    best, worst = ordered[0], ordered[-1]
    return (
        f"{_share(row)}; median macro F1 {best.median:.3f} with {best.name} "
        f"({figures.several(best.trials, 'trial', 'trials')}) and {worst.median:.3f} with "
        f"{worst.name} ({figures.several(worst.trials, 'trial', 'trials')})."
    )


def _share(row: Importance) -> str:
    told = f"{row.parameter.key}: {share_text(row.share)} of the differences"
    return told if row.p_value is None else f"{told}, {comparison.p_text(row.p_value)}"


def share_text(share: Share | None) -> str:
    if share is None:
        return figures.MISSING
    return f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})"


def _best_group(row: Importance) -> str:
    name = max(row.groups, key=lambda group: group.median).name
    return f"= {name}" if row.parameter.is_choice else f"from {name}"


def _listing(rows: Sequence[Importance]) -> str:
    return figures.listing([row.parameter.key for row in rows], len(rows))


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 // 10 != 1 else 0, "th")
    return f"{number}{ending}"
