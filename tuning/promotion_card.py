"""What a promotion says for people: its reason, its figures, and what to be careful about.

It knows the figures of tuning.judging, and English.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.profiling import figures
from tuning.gate import Verdict
from tuning.judging import Contender, left_out_in_words

MANY_USES = 10
_COMPARED = ("accuracy", "balanced_accuracy", "macro_f1", "rarest_third_recall")


def reason(champion: str | None, verdict: Verdict) -> str:
    """Why a bundle became champion, in one paragraph."""
    what = "first version" if champion is None else f"passed against version {champion}"
    return f"{what[0].upper()}{what[1:]}. {verdict.in_words()}"


def warnings(candidate: Contender, champion: Contender | None, uses: int) -> tuple[str, ...]:
    """What is no ground to refuse, and has to be known."""
    told = []
    if uses > MANY_USES:
        told.append(
            f"These test rows have been used {uses} times: whoever chooses by them again and again "
            "fits to them, and the figures flatter. Prepare new ones from later tickets."
        )
    ours = candidate.about.text_columns
    if champion is not None and ours != champion.about.text_columns:
        told.append(
            f"The champion was trained on {', '.join(champion.about.text_columns)} and reads "
            f"{', '.join(ours)} here: rows that it was trained on cannot be told, and count."
        )
    return tuple(told)


def used(uses: int) -> str:
    return f"These test rows have been used {figures.several(uses, 'time', 'times')} to judge."


def section(
    name: str,
    at: str,
    champion: str | None,
    verdict: Verdict,
    alone: Mapping[str, Any],
    other: Mapping[str, Any] | None,
    warned: Sequence[str],
    uses: int,
) -> str:
    """The part of the model card about the promotion, as Markdown."""
    what = "first version" if champion is None else f"passed the gate against version {champion}"
    parts = [
        f"## Promotion to {name}",
        f"Made champion of {name} on {at}: {what}.",
        "\n".join(f"- {check.name.replace('_', ' ')}: {check.words}" for check in verdict.checks),
        "\n".join(_table(champion, alone, other)),
    ]
    if other is not None:
        parts.append(left_out_in_words(other))
    parts += [used(uses), *(f"**Be careful.** {warning}" for warning in warned)]
    return "\n\n".join(parts) + "\n"


def _table(
    champion: str | None, alone: Mapping[str, Any], other: Mapping[str, Any] | None
) -> list[str]:
    if other is None:
        lines = [f"| on {alone['rows']:,} test rows | this model |", "|---|---|"]
        return lines + [
            f"| {_words(name)} | {figures.decimal(alone[name], 4)} |"
            for name in (*_COMPARED, "calibration_error")
        ]
    lines = [
        f"| on {other['rows']:,} of {alone['rows']:,} test rows | this model | version {champion} "
        "| difference (95% interval) |",
        "|---|---|---|---|",
    ]
    for name in _COMPARED:
        if name in other["difference"]:
            change = other["difference"][name]
            low, high = change["interval"]
            lines.append(
                f"| {_words(name)} | {other[name] + change['value']:.4f} | {other[name]:.4f} "
                f"| {change['value']:+.4f} ({low:+.4f} to {high:+.4f}) |"
            )
    return lines


def _words(name: str) -> str:
    return name.replace("_", " ").replace(" f1", " F1")
