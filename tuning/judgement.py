"""A judgement: what was found of a candidate beside the champion, and what the gate says of it.

It can be written down and read back, so that whoever is cut off need not look at the test rows
again. Knows nothing of how it came about.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.session import say
from jobs.prepared import Prepared, open_prepared
from tuning import gate, judging, promotion_card
from tuning.checks import Check
from tuning.judging import Contender


@dataclass(frozen=True)
class Judgement:
    """A candidate, what was found, and what the gate says of it.

    `champion`: the version it was compared with, None for none. `alone`: its figures on all test
    rows. `other`: the comparison with the champion, None without one. `uses`: how often these test
    rows have been used, this time included.
    """

    candidate: Contender
    prepared: Prepared
    champion: str | None
    alone: Mapping[str, Any]
    other: Mapping[str, Any] | None
    verdict: gate.Verdict
    uses: int
    warnings: tuple[str, ...]


def facts(judged: Judgement) -> dict[str, Any]:
    """What the last line of a promotion says of its judgement."""
    kept = ("rows", "accuracy", "macro_f1", "rarest_third_recall", "calibration_error")
    compared = {} if judged.other is None else judged.other
    return {
        "bundle": judged.candidate.uri,
        "passed": judged.verdict.passed,
        "champion": judged.champion,
        "checks": judged.verdict.plain(),
        "test": {key: judged.alone[key] for key in kept},
        "rows_compared": compared.get("rows"),
        "rows_left_out": compared.get("left_out"),
        "test_uses": judged.uses,
        "warnings": list(judged.warnings),
    }


def told(judged: Judgement) -> str:
    """The same for a person who reads a terminal."""
    against = "there is no champion yet"
    if judged.champion is not None:
        against = f"against the champion, version {judged.champion}"
    lines = [f"{judged.candidate.uri}: {against}"]
    lines += [
        f"  {'passed' if check.passed else 'FAILED'}  {check.name:<13} {check.words}"
        for check in judged.verdict.checks
    ]
    if judged.other is not None:
        lines.append(judging.left_out_in_words(judged.other))
    return "\n".join([*lines, promotion_card.used(judged.uses)])


def say_all(judged: Judgement) -> None:
    """Prints that, and its warnings."""
    print(told(judged))
    for warning in judged.warnings:
        say(f"warning: {warning}")


def plain(judged: Judgement) -> dict[str, Any]:
    """All of it as JSON has it, for `read_back`."""
    return {
        "bundle": judged.candidate.uri,
        "data": judged.prepared.uri,
        "champion": judged.champion,
        "alone": dict(judged.alone),
        "other": None if judged.other is None else dict(judged.other),
        "checks": judged.verdict.plain(),
        "uses": judged.uses,
        "warnings": list(judged.warnings),
    }


def read_back(found: Mapping[str, Any]) -> Judgement:
    """The judgement that `plain` wrote; BundleError or DataError where what it is about is gone."""
    return Judgement(
        candidate=judging.open_contender(found["bundle"]),
        prepared=open_prepared(found["data"]),
        champion=found["champion"],
        alone=found["alone"],
        other=found["other"],
        verdict=gate.Verdict(tuple(Check(**check) for check in found["checks"])),
        uses=found["uses"],
        warnings=tuple(found["warnings"]),
    )
