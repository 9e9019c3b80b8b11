"""A Ray cluster on this machine, of one or several nodes: up, status, down.

    python -m cluster.local up --nodes 1
    python -m cluster.local status
    python -m cluster.local down

Token authentication is on and everything listens on loopback. What runs is written down in
`.switchyard/cluster.json` below the current folder, so that two checkouts do not disturb each
other. Every process carries the path of the cluster's temporary folder in its environment: by it
`down` finds exactly what `up` started, also after a crash. Knows nothing of the jobs that run.
"""

import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
from pydantic import Field

from cluster import command
from cluster.errors import ResourceError, SettingError, StorageError, SwitchyardError
from cluster.session import COMMON_ENVIRONMENT, SERVE_ENVIRONMENT, say

START_LIMIT_S = 120
STOP_LIMIT_S = 8
MARK = "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"  # in every process of the cluster, and only there


class Up(command.Settings):
    """Settings of `up`."""

    nodes: int = Field(1, ge=1, le=16, description="number of nodes (raylets) on this machine")
    cpus_per_node: int | None = Field(
        None, ge=1, description="CPUs that each node offers; none: all of this machine's"
    )
    dashboard_port: int | None = Field(
        None, ge=1, le=65535, description="port of the dashboard; none: 8265, or a free one"
    )


class Nothing(command.Settings):
    """Settings of `status` and `down`: none."""


def state_file() -> Path:
    return Path(".switchyard") / "cluster.json"


def read_state() -> dict[str, Any] | None:
    """What `up` wrote down, or None; also of a cluster that has died since."""
    try:
        return dict(json.loads(state_file().read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(f"{state_file()} cannot be read: {error}.") from None


def up(settings: Up) -> dict[str, Any]:
    """Starts the cluster, or reports the one that is up already."""
    state = read_state()
    if state is not None and answers(state):
        if state["nodes"] != settings.nodes:
            raise SettingError(
                f"A cluster of {state['nodes']} node(s) is up already, and --nodes is "
                f"{settings.nodes}. Stop it first: python -m cluster.local down."
            )
        say("The cluster is up already.")
        return _summary(state)
    if state is not None:
        _end(state["temp"])
    state = _start(settings)
    _print_how(state)
    return _summary(state)


def down(_: Nothing) -> dict[str, Any]:
    """Ends every process that `up` started."""
    state = read_state()
    if state is None:
        say("No cluster was started from this folder.")
        return {"ended": 0}
    ended = _end(state["temp"])
    state_file().unlink(missing_ok=True)
    say(f"Ended {ended} processes.")
    return {"ended": ended}


def status(_: Nothing) -> dict[str, Any]:
    """Nodes and resources, as the cluster itself says."""
    state = read_state()
    if state is None or not answers(state):
        say("No cluster is up. Start one: python -m cluster.local up")
        return {"up": False}
    reply = _get(state, "/api/cluster_status?format=1")
    if isinstance(reply, dict):
        print(reply.get("data", {}).get("clusterStatus", ""))
    _print_how(state)
    return _summary(state)


def client_environment(state: dict[str, Any]) -> dict[str, str]:
    """What a client of this cluster needs in its environment."""
    return {"RAY_AUTH_MODE": "token", "RAY_API_SERVER_ADDRESS": state["dashboard"]}


def answers(state: dict[str, Any]) -> bool:
    """Whether the dashboard and its job API answer."""
    return _get(state, "/api/jobs/") is not None


def _start(settings: Up) -> dict[str, Any]:
    token = _ensure_token()
    identity = hashlib.sha256(f"{Path.cwd()}{time.time()}".encode()).hexdigest()[:8]
    temp = Path("/tmp") / f"sy-{identity}"  # short: sockets below it have 107 bytes for their path
    temp.mkdir(mode=0o700)
    dashboard_port = _dashboard_port(settings.dashboard_port)
    state: dict[str, Any] = {
        "address": f"127.0.0.1:{_free_port()}",
        "dashboard": f"http://127.0.0.1:{dashboard_port}",
        "temp": str(temp),
        "nodes": settings.nodes,
        "token": str(token) if token else None,
    }
    state_file().parent.mkdir(exist_ok=True)
    state_file().write_text(json.dumps(state, indent=1) + "\n")
    cpus = [] if settings.cpus_per_node is None else [f"--num-cpus={settings.cpus_per_node}"]
    common = ["--node-ip-address=127.0.0.1", "--disable-usage-stats", "--block", *cpus]
    head = ["--head", f"--port={state['address'].split(':')[1]}", f"--temp-dir={temp}"]
    head += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}"]
    try:
        _launch(temp, "head", [*head, *common])
        _wait(lambda: answers(state), temp, "the head node")
        for number in range(1, settings.nodes):
            _launch(temp, f"node-{number}", [f"--address={state['address']}", *common])
        _wait(lambda: _alive_nodes(state) >= settings.nodes, temp, "all nodes")
    except BaseException:
        _end(str(temp), keep_logs=True)
        state_file().unlink(missing_ok=True)
        raise
    return state


def _launch(temp: Path, name: str, arguments: Sequence[str]) -> None:
    """Starts `ray start --block` on its own, with this interpreter first on the path: a job's
    `python` is whatever comes first there."""
    bin_folder = str(Path(sys.executable).parent)
    environment = os.environ | COMMON_ENVIRONMENT | SERVE_ENVIRONMENT
    environment |= {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}",
        "RAY_AUTH_MODE": "token",
        MARK: str(temp / "haproxy" / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(temp / "haproxy" / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(temp / "haproxy" / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(temp / "haproxy"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(temp / "haproxy" / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(_free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(_free_port()),
    }
    for foreign in ("RAY_ADDRESS", "PYTHONPATH"):  # jobs import what they ship, not what is here
        environment.pop(foreign, None)
    (temp / "haproxy").mkdir(exist_ok=True)
    with (temp / f"{name}.log").open("wb") as log:
        subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait(ready: Callable[[], bool], temp: Path, what: str) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while not ready():
        if not _processes(str(temp)) or time.monotonic() > limit:
            tail = "".join(p.read_text(errors="replace")[-1500:] for p in temp.glob("*.log"))
            raise SwitchyardError(
                f"{what} did not start within {START_LIMIT_S} s. Ray said:\n{tail}"
            )
        time.sleep(0.2)


def _end(temp: str, *, keep_logs: bool = False) -> int:
    """Ends all processes of the cluster at `temp`, politely and then not; how many there were."""
    found = _processes(temp)
    heads = [p for p in found if "ray.scripts.scripts" in " ".join(_command_line(p))]
    for process in heads:
        _quietly(process.terminate)
    psutil.wait_procs(heads, timeout=STOP_LIMIT_S)
    for stop in ("terminate", "kill"):
        left = _processes(temp)
        for process in left:
            _quietly(getattr(process, stop))
        psutil.wait_procs(left, timeout=5)
    if not keep_logs:
        shutil.rmtree(temp, ignore_errors=True)
    return len(found)


def _processes(temp: str) -> list[psutil.Process]:
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


def _ensure_token() -> Path | None:
    """Ray's own token file, made if there is none; None if the token is in the environment."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return None
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    return path


def _get(state: dict[str, Any], route: str) -> Any:
    """The JSON that the dashboard gives for a route, or None if it does not answer."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    try:
        if not token and state.get("token"):
            token = Path(state["token"]).read_text().strip()
        request = urllib.request.Request(
            state["dashboard"] + route, headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=5) as reply:
            return json.load(reply)
    except (urllib.error.URLError, OSError, ValueError):
        return None


def _alive_nodes(state: dict[str, Any]) -> int:
    reply = _get(state, "/nodes?view=summary") or {}
    nodes = reply.get("data", {}).get("summary", [])
    return sum(1 for node in nodes if node.get("raylet", {}).get("state") == "ALIVE")


def _dashboard_port(asked: int | None) -> int:
    port = 8265 if asked is None else asked
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return port
        except OSError:
            if asked is None:
                return _free_port()
    raise ResourceError(f"--dashboard-port {port} is in use; give another, or leave it out.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _summary(state: dict[str, Any]) -> dict[str, Any]:
    return {"up": True} | {k: state[k] for k in ("address", "dashboard", "nodes")}


def _print_how(state: dict[str, Any]) -> None:
    print(f"Dashboard  {state['dashboard']}  (token: {state['token'] or 'RAY_AUTH_TOKEN'})")
    print("To use Ray's own commands with it:")
    for name, value in client_environment(state).items():
        print(f"  export {name}={value}")


def main(argv: Sequence[str] | None = None) -> None:
    words = list(sys.argv[1:] if argv is None else argv)
    verbs: dict[str, tuple[type[command.Settings], Callable[[Any], dict[str, Any]]]] = {
        "up": (Up, up),
        "down": (Nothing, down),
        "status": (Nothing, status),
    }
    verb = words[0] if words else "--help"
    if verb in ("-h", "--help"):
        print(__doc__)
        sys.exit(0)
    if verb not in verbs:
        print(f"cluster.local: {verb!r} is not one of up, status, down.", file=sys.stderr)
        sys.exit(2)
    settings, action = verbs[verb]
    command.run(
        settings,
        action,
        program=f"cluster.local {verb}",
        summary=str(action.__doc__),
        argv=words[1:],
    )


if __name__ == "__main__":
    main()
