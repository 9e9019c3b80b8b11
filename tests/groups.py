"""The groups of tests: what each of them runs, and the minutes that it may be expected to take.

A test that is marked slow belongs to the one group that names its file. `python -m tests.ci` runs
them; a budget is some twice what was measured on two cores.
"""

import sys
from dataclasses import dataclass

SETUP_MIN = 8.0  # the installation in a fresh clone, before any group


@dataclass(frozen=True)
class Group:
    """A name, a budget in minutes, and a command that succeeds if all is well."""

    name: str
    minutes: float
    command: tuple[str, ...]
    files: tuple[str, ...] = ()


def slow(name: str, minutes: float, *files: str) -> Group:
    """The slow tests of some files."""
    return Group(name, minutes, (sys.executable, "-m", "pytest", "-m", "slow", *files), files)


# Run first, always.
QUICK = (
    Group("check", 5, ("make", "check")),
    Group("quick tests", 12, ("make", "test")),
)
# Dealt out to three turns in this order, so that neighbours are in different ones.
SLOW = (
    slow("training faults", 9, "tests/integration/test_faults.py"),
    slow("search faults", 9, "tests/integration/test_search_faults.py"),
    slow("changes of an endpoint", 8, "tests/end_to_end/test_changes.py"),
    slow("crowds at an endpoint", 5, "tests/end_to_end/test_crowds.py"),
    slow(
        "lost workers",
        5,
        "tests/integration/test_attempts.py",
        "tests/integration/test_lost_room.py",
        "tests/integration/test_race.py",
    ),
    slow("growth of an endpoint", 8, "tests/end_to_end/test_growth.py"),
    slow("benchmark of searches", 6, "tests/integration/test_tuning_benchmark.py"),
    slow(
        "killed preparation, search of two workers",
        6,
        "tests/integration/test_killed.py",
        "tests/integration/test_search.py",
    ),
    slow("jobs beside an endpoint", 6, "tests/end_to_end/test_side_by_side.py"),
    slow("the commands of the README", 4, "tests/end_to_end/test_readme.py"),
    slow(
        "a cluster of several nodes",
        10,
        "tests/end_to_end/test_nodes.py",
        "tests/end_to_end/test_down.py",
        "tests/end_to_end/test_from_zero.py",
    ),
    slow(
        "the nightly loop",
        8,
        "tests/end_to_end/test_nightly.py",
        "tests/integration/test_retrain.py",
    ),
    slow(
        "what the manifests promise",
        10,
        "tests/end_to_end/test_manifests.py",
        "tests/end_to_end/test_read_only.py",
    ),
    slow(
        "watched and kept safe",
        8,
        "tests/end_to_end/test_watched.py",
        "tests/end_to_end/test_safe.py",
        "tests/integration/test_pulse.py",
    ),
)
