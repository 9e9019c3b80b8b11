"""A search whose driver is killed in the middle of its second trial, and resumed."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.lines import ROOT, Line
from tuning.experiment import Folder, Trial

LIMIT_S = 600
SETTINGS = ("--algorithm=random", "--scheduler=none", "--trials=3")


def killed(place: Path, words: Sequence[str], logs: Path) -> Line:
    """`seconds` from SIGKILL to the end of the next trial; trials `lost` and `repeated`; epochs of
    the cut off trial that were `trained_again` (none has the same clock twice).

    `words`: of tuning.search; the experiment is made in `place`, anew.
    """
    shutil.rmtree(place, ignore_errors=True)
    folder = Folder(str(place))
    command = [sys.executable, "-m", "tuning.search", f"--output={place}", *words, *SETTINGS]
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / "killed.log").open("a") as log:
        with _started(command, log) as process:
            wait_until(lambda: _is_in_its_second(folder), process)
        at = time.monotonic()
        before, written = folder.trials(), _written(folder)
        done = [trial for trial in before if trial.end]
        with _started([*command, "--resume"], log) as process:
            wait_until(lambda: len(_ended(folder)) > len(done), process)
            seconds = time.monotonic() - at
    after = {trial.number: trial for trial in folder.trials()}
    cut = next(trial for trial in before if not trial.end)
    return {
        "seconds": round(seconds, 1),
        "lost": sum(after.get(trial.number) != trial for trial in done),
        "repeated": sum(_written(folder).get(t.number) != written[t.number] for t in done),
        "trained_again": sum(line not in after[cut.number].history for line in cut.history),
    }


@contextmanager
def _started(command: Sequence[str], log: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Killed at the end, if it has not ended then."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _ended(folder: Folder) -> list[Trial]:
    return [trial for trial in folder.trials() if trial.end]


def _is_in_its_second(folder: Folder) -> bool:
    """Whether a trial has ended, and another is past its second epoch."""
    trials = folder.trials()
    return any(t.end for t in trials) and any(not t.end and len(t.history) > 1 for t in trials)


def _written(folder: Folder) -> dict[int, int]:
    """When the figures of each trial were last written: every epoch of a trial does."""
    return {
        number: Path(folder.place(number, "history.json")).stat().st_mtime_ns
        for number in folder.numbers()
        if Path(folder.place(number, "history.json")).exists()
    }


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    """RuntimeError where the process ends before, or nothing comes of it in LIMIT_S."""
    until = time.monotonic() + LIMIT_S
    while not condition():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"in vain: {process.args!r}")
        time.sleep(0.1)
