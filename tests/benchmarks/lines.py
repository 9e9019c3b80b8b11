"""Results as JSON lines: each is written down when it is there, and what is there is not run again.

What a benchmark times runs in a process of its own, which prints its line last.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

Line = dict[str, Any]


def read(place: Path) -> list[Line]:
    """All lines of a file that may not be there; one that was cut off by a kill is left out."""
    found = []
    for line in place.read_text().splitlines() if place.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def append(place: Path, line: Line) -> None:
    """Writes a line down, and says it."""
    text = json.dumps(line)
    print(text, file=sys.stderr, flush=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a") as file:
        file.write(text + "\n")


def of_process(module: str, words: Sequence[str], *, log: Path, timeout: float) -> Line:
    """The last line that `python -m module words` prints; `failed` where it prints none.

    What else it says is added to `log`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        try:
            done = subprocess.run(
                [sys.executable, "-m", module, *words],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {timeout:.0f} s"}
        file.write(done.stdout)
    if done.returncode in (-signal.SIGINT, -signal.SIGTERM):
        sys.exit("Interrupted; the same command goes on.")  # no failure of what is measured
    said = done.stdout.strip().splitlines()
    if done.returncode or not said:
        return {"failed": f"ended with {done.returncode}; see {log}"}
    line: Line = json.loads(said[-1])
    return line
