"""Runs the groups of tests within the time that continuous integration has, or some of them.

    python -m tests.ci --began 1790000000      all groups, those due by this commit first
    python -m tests.ci --slow                  the slow groups, without a limit of time
    python -m tests.ci "training faults"       this group

The slow groups take turns by the number of commits: a third of them is due at each and comes
first, so that in three commits in a row every one has had its turn. The others follow as long as
all is over after some 45 minutes: none starts after minute 40. What is due starts until minute 60,
and what runs at minute 80 is ended. What is left out is named. Exit 1 if a group failed or was
ended; the others run nevertheless. Exit 1 as well if there was no time for what runs at every
commit.
"""

import argparse
import math
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from tests.groups import QUICK, SLOW, Group

LAST_START_S = 60 * 60.0  # of what is due
LAST_EXTRA_S = 40 * 60.0  # of what is not
END_S = 80 * 60.0
TURNS = 3
# For pytest to end its clusters; then they are ended.
GRACE_S = 60.0
# In the environment of all that a group starts, so that it is found again.
MARK = "GROUP_OF_TESTS"

PASSED, FAILED, ENDED, LEFT_OUT = "passed", "failed", "ended at the limit", "left out"
Run = Callable[[Group, float], str]  # a group, and the seconds that it may take


@dataclass(frozen=True)
class Ran:
    """What became of a group, and the seconds that it took."""

    group: Group
    outcome: str
    seconds: float = 0.0

    @property
    def is_fault(self) -> bool:
        """A slow group may wait for another commit; what is run at each may not."""
        waits = self.outcome == LEFT_OUT and self.group not in QUICK
        return self.outcome != PASSED and not waits


def number_of(commits: str, shallow: str, commit: str) -> int:
    """The number that turns follow, from what git says: of commits, or in a shallow clone, where
    they cannot be counted, the hash itself."""
    return int(commit, 16) if shallow.strip() == "true" else int(commits)


def in_turn(groups: Sequence[Group], number: int) -> list[Group]:
    """The groups due at a number, then those due next: who is left out moves up each time."""
    return [g for later in range(TURNS) for g in groups[(number + later) % TURNS :: TURNS]]


def carry_out(
    groups: Sequence[Group],
    run: Run,
    clock: Callable[[], float],
    *,
    due: int | None = None,
    limited: bool = True,
) -> list[Ran]:
    """Runs groups one after the other while there is time; `clock`: seconds since the start.

    `due`: how many of them are due, from the first on; None: all.
    """
    done = []
    for number, group in enumerate(groups):
        began = clock()
        last_start_s = LAST_START_S if due is None or number < due else LAST_EXTRA_S
        if limited and began >= last_start_s:
            done.append(Ran(group, LEFT_OUT))
            continue
        print(f"\n=== {group.name}: begins at minute {began / 60:.1f}", flush=True)
        outcome = run(group, END_S - began if limited else math.inf)
        done.append(Ran(group, outcome, clock() - began))
    return done


def told(done: Sequence[Ran]) -> str:
    """What every group took, and what was left out, for a person."""
    lines = ["", f"{'group':<42} {'seconds':>8} {'budget':>8}"]
    for ran in done:
        if ran.outcome != LEFT_OUT:
            budget = ran.group.minutes * 60
            over = ", over its budget" if ran.seconds > budget else ""
            lines.append(
                f"{ran.group.name:<42} {ran.seconds:>8.0f} {budget:>8.0f}  {ran.outcome}{over}"
            )
    left = [ran.group.name for ran in done if ran.outcome == LEFT_OUT]
    if left:
        lines.append(f"Left out for want of time: {'; '.join(left)}.")
        lines.append("They come first at one of the next two commits.")
    else:
        lines.append("Nothing was left out.")
    return "\n".join(lines)


def run_group(group: Group, limit_s: float) -> str:
    """Runs the command of a group and ends what it leaves behind, at the latest at the limit."""
    mark = uuid.uuid4().hex
    # A shell's background jobs are born deaf to Ctrl-C, and so would be all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        group.command, env={**os.environ, MARK: mark}, start_new_session=True
    )
    try:
        return PASSED if process.wait(limit_s) == 0 else FAILED
    except subprocess.TimeoutExpired:
        print(f"\n=== {group.name}: ended at the limit of time", flush=True)
        return ENDED
    finally:
        _end(process, mark)


def _end(process: "subprocess.Popen[bytes]", mark: str) -> None:
    """First as Ctrl-C would, so that tests take down what they put up; then whatever is left."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    left = marked(mark)
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, timeout=10)
    if left:
        print(f"=== processes left behind, and ended: {len(left)}", flush=True)


def marked(mark: str) -> list[psutil.Process]:
    """The processes that a group started, also those that left its session and its parents."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # gone meanwhile, or not ours to look at
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def _number() -> int:
    words = ["rev-list --count HEAD", "rev-parse --is-shallow-repository", "rev-parse HEAD"]
    try:
        return number_of(
            *(subprocess.check_output(["git", *each.split()], text=True) for each in words)
        )
    except (OSError, subprocess.CalledProcessError):
        print("warning: git counts no commits here: the first turn is taken.", file=sys.stderr)
        return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the words ask for; the exit code."""
    parser = argparse.ArgumentParser(prog="tests.ci", description=str(__doc__).split("\n\n")[0])
    known = {group.name: group for group in (*QUICK, *SLOW)}
    parser.add_argument("group", nargs="*", help=f"these groups alone: {'; '.join(known)}")
    parser.add_argument("--slow", action="store_true", help="the slow groups, without a limit")
    parser.add_argument("--began", type=float, help="when all this began, in seconds since 1970")
    asked = parser.parse_args(argv)
    if unknown := [name for name in asked.group if name not in known]:
        parser.error(f"no group is called {unknown[0]!r}; there are: {'; '.join(known)}")
    began = time.time() if asked.began is None else asked.began

    def clock() -> float:
        return time.time() - began

    if asked.group or asked.slow:
        chosen = [known[name] for name in asked.group] or SLOW
        done = carry_out(chosen, run_group, clock, limited=False)
    else:
        number = _number()
        due = len(QUICK) + len(SLOW[number % TURNS :: TURNS])
        done = carry_out([*QUICK, *in_turn(SLOW, number)], run_group, clock, due=due)
    print(told(done), flush=True)
    return int(any(ran.is_fault for ran in done))


if __name__ == "__main__":
    sys.exit(main())
