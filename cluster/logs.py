"""Where the nodes, jobs and replicas of a local cluster write, and the end of one of those files.

Reads files alone, so that it tells of a cluster that has died too, as long as it was not ended by
`down`. Knows nothing of commands.
"""

from collections import deque
from pathlib import Path
from typing import Any

from cluster import members
from cluster.errors import SettingError

JOB_PREFIX = "job-driver-"


def folder(written: dict[str, Any]) -> Path:
    """Ray's own folder of logs, which the nodes of one machine share."""
    return Path(written["temp"]) / "session_latest" / "logs"


def of_nodes(written: dict[str, Any]) -> dict[str, Path]:
    """The log of each node that was ever started, by its number."""
    return {path.stem.removeprefix("node-"): path for path in members.logs(written)}


def of_jobs(written: dict[str, Any]) -> dict[str, Path]:
    """The log of each job that was sent, the oldest first, by its id."""
    found = list(folder(written).glob(f"{JOB_PREFIX}*.log"))
    found.sort(key=lambda path: path.stat().st_mtime)
    return {path.stem.removeprefix(JOB_PREFIX): path for path in found}


def of_endpoints(written: dict[str, Any]) -> dict[str, Path]:
    """The logs of Serve's controller, fronts and replicas, by their names."""
    return {path.stem: path for path in sorted((folder(written) / "serve").glob("*.log"))}


def find(found: dict[str, Path], key: str, value: str) -> Path:
    """The log called `value`, or the only one whose name begins so."""
    if value in found:
        return found[value]
    alike = [name for name in found if name.startswith(value)]
    if len(alike) == 1:
        return found[alike[0]]
    known = ", ".join(found) or "none"
    raise SettingError(
        f"--{key} {value} {'is more than one' if alike else 'has no log'}; there is: {known}."
    )


def tail(path: Path, lines: int) -> str:
    """The last lines of a file, whatever bytes are in it."""
    with path.open(errors="replace") as file:
        return "".join(deque(file, maxlen=lines)).rstrip("\n")
