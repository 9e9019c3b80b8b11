"""The processes of a local cluster: starting them, finding them again, ending them.

Every process carries the path of the cluster's temporary folder in its environment; by it `end`
finds exactly what `launch` started, also after a crash. Knows nothing of commands.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from cluster import haproxy
from cluster.errors import ResourceError, SwitchyardError
from cluster.haproxy import MARK, free_port
from cluster.session import COMMON_ENVIRONMENT, SERVE_ENVIRONMENT

START_LIMIT_S = 120
STOP_LIMIT_S = 8
SETTLE_S = 5


def launch(
    temp: Path, name: str, arguments: Sequence[str], more: Mapping[str, str] | None = None
) -> None:
    """Starts `ray start --block` on its own, with this interpreter first on the path: a job's
    `python` is whatever comes first there."""
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, **COMMON_ENVIRONMENT, **SERVE_ENVIRONMENT, **(more or {})}
    environment |= {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}",
        "RAY_AUTH_MODE": "token",
    }
    environment |= haproxy.environment(temp / "haproxy")
    for foreign in ("RAY_ADDRESS", "PYTHONPATH"):  # jobs import what they ship, not what is here
        environment.pop(foreign, None)
    with (temp / f"{name}.log").open("wb") as log:
        subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait(ready: Callable[[], bool], temp: Path, what: str) -> None:
    began = time.monotonic()
    while not ready():
        waited = time.monotonic() - began
        # A process that has just been started does not show its environment at once.
        died = waited > SETTLE_S and not processes(str(temp))
        if died or waited > START_LIMIT_S:
            tail = "".join(p.read_text(errors="replace")[-1500:] for p in temp.glob("*.log"))
            raise SwitchyardError(
                f"{what} did not start within {START_LIMIT_S} s. Ray said:\n{tail}"
            )
        time.sleep(0.2)


def end(temp: str, *, keep_logs: bool = False) -> int:
    """Ends all processes of the cluster at `temp`, politely and then not; how many there were."""
    found = processes(temp)
    heads = [p for p in found if "ray.scripts.scripts" in " ".join(_command_line(p))]
    for process in heads:
        _quietly(process.terminate)
    psutil.wait_procs(heads, timeout=STOP_LIMIT_S)
    for stop in ("terminate", "kill"):
        left = processes(temp)
        for process in left:
            _quietly(getattr(process, stop))
        psutil.wait_procs(left, timeout=5)
    if not keep_logs:
        shutil.rmtree(temp, ignore_errors=True)
        with contextlib.suppress(OSError):  # the folder around it, if there is nothing else in it
            Path(temp).parent.rmdir()
    return len(found)


def processes(temp: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(f"{temp}/"):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or not ours to look at
    return [p for p in found if p.pid != os.getpid()]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return


def dashboard_port(asked: int | None) -> int:
    port = 8265 if asked is None else asked
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return port
        except OSError:
            if asked is None:
                return free_port()
    raise ResourceError(f"--dashboard-port {port} is in use; give another, or leave it out.")
