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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster import haproxy
from cluster.errors import ResourceError, SwitchyardError
from cluster.haproxy import MARK
from cluster.ports import lasting_port
from cluster.session import COMMON_ENVIRONMENT, LOOPBACK, SERVE_ENVIRONMENT

START_LIMIT_S = 120
STOP_LIMIT_S = 8
TERMINATE_LIMIT_S = 5
# `ray start` refuses to join a second node to a cluster that keeps to loopback, and else takes the
# machine's own address in place of 127.0.0.1. Here only the refusal is taken away: what this
# process starts has the environment of the others, and listens where they do.
_JOIN = """
from ray._private import ray_constants, services
services.get_node_ip_address = lambda address=None: "127.0.0.1"
ray_constants.ENABLE_RAY_CLUSTER = True
from ray.scripts.scripts import main
main()
"""
STARTER = "ray.scripts.scripts"  # in the command line of whatever starts a node


@dataclass(frozen=True)
class Node:
    """A node that was started: its process, which lasts as long as it, and what that says."""

    process: "subprocess.Popen[bytes]"
    log: Path


def launch(temp: Path, name: str, arguments: Sequence[str]) -> Node:
    """Starts `ray start --block` on its own, with this interpreter first on the path: a job's
    `python` is whatever comes first there."""
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, **COMMON_ENVIRONMENT, **SERVE_ENVIRONMENT, **LOOPBACK}
    environment |= {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}",
        "RAY_AUTH_MODE": "token",
        # Workers that train together would else meet at the machine's own address.
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    }
    environment |= haproxy.environment(temp / "haproxy")
    for foreign in ("RAY_ADDRESS", "PYTHONPATH"):  # jobs import what they ship, not what is here
        environment.pop(foreign, None)
    starter = ["-m", STARTER] if "--head" in arguments else ["-c", _JOIN]
    path = temp / f"{name}.log"
    with path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", *starter, "start", *arguments],  # its log is read while it runs
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Node(process, path)


def wait(ready: Callable[[], bool], node: Node) -> None:
    """Waits for what a node brings; SwitchyardError with its last words where it ends before."""
    began = time.monotonic()
    while not ready():
        code, waited = node.process.poll(), time.monotonic() - began
        if code is not None or waited > START_LIMIT_S:
            how = f"ended with code {code}" if code is not None else f"took over {START_LIMIT_S} s"
            said = node.log.read_text(errors="replace")[-1500:]
            raise SwitchyardError(f"{node.log.stem} {how}, and is not up. It said:\n{said}")
        time.sleep(0.2)


def end(temp: str, *, keep_logs: bool = False) -> int:
    """Ends all processes of the cluster at `temp`, politely and then not; how many there were."""
    found = {process.pid for process in processes(temp)}
    first = starters(temp)
    for process in first:
        _quietly(process.terminate)
    psutil.wait_procs(first, timeout=STOP_LIMIT_S)
    # Killed more than once: what is killed may just have started another.
    for stop in ("terminate", "kill", "kill", "kill"):
        left = processes(temp)
        found |= {process.pid for process in left}
        for process in left:
            _quietly(getattr(process, stop))
        psutil.wait_procs(left, timeout=TERMINATE_LIMIT_S)
    if not keep_logs:
        shutil.rmtree(temp, ignore_errors=True)
        with contextlib.suppress(OSError):  # the folder around it, if there is nothing else in it
            Path(temp).parent.rmdir()
    return len(found)


def processes(temp: str) -> list[psutil.Process]:
    """What carries the path of `temp` in its environment, and all that descends from it: a job may
    have given its own processes another environment."""
    marked = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(f"{temp}/"):
                marked.append(process)
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or not ours to look at
    found = dict.fromkeys(marked)
    for process in marked:
        try:
            found |= dict.fromkeys(process.children(recursive=True))
        except psutil.Error:
            continue
    return [p for p in found if p.pid != os.getpid()]


def starters(temp: str) -> list[psutil.Process]:
    """Those of them that each started a node, are the ancestors of all others there, and last as
    long as it."""
    return [p for p in processes(temp) if STARTER in " ".join(command_line(p))]


def head_runs(temp: str) -> bool:
    """Whether what started the head is there, and so the head itself."""
    return any("--head" in command_line(process) for process in starters(temp))


def command_line(process: psutil.Process) -> list[str]:
    """Of a process that may have ended meanwhile: then nothing."""
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
                return lasting_port()
    raise ResourceError(f"--dashboard-port {port} is in use; give another, or leave it out.")
