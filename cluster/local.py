"""A Ray cluster on this machine, of one or several nodes: up, status, down.

    python -m cluster.local up --nodes 1
    python -m cluster.local status
    python -m cluster.local down

Token authentication is on and everything listens on loopback. What runs is written down in
`.switchyard/cluster.json` below the current folder, so that two checkouts do not disturb each
other. Knows nothing of the jobs that run.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from cluster import command, haproxy, raylets, secret, state
from cluster.errors import SettingError
from cluster.session import LOOPBACK, say


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


def up(settings: Up) -> dict[str, Any]:
    """Starts the cluster, or reports the one that is up already."""
    written = state.read_state()
    if written is not None and state.answers(written):
        for key in ("nodes", "cpus_per_node"):
            if written.get(key) != getattr(settings, key):
                raise SettingError(
                    f"A cluster with {key} = {written.get(key)} is up already, and "
                    f"{getattr(settings, key)} was asked for. Stop it first: python -m "
                    "cluster.local down."
                )
        say("The cluster is up already.")
        return _summary(written)
    if written is not None:
        raylets.end(written["temp"])
    written = _start(settings)
    _print_how(written)
    return _summary(written)


def down(_: Nothing) -> dict[str, Any]:
    """Ends every process that `up` started."""
    written = state.read_state()
    if written is None:
        say("No cluster was started from this folder.")
        return {"ended": 0}
    ended = raylets.end(written["temp"])
    state.state_file().unlink(missing_ok=True)
    say(f"Ended {ended} processes.")
    return {"ended": ended}


def status(_: Nothing) -> dict[str, Any]:
    """Nodes and resources, as the cluster itself says."""
    written = state.read_state()
    if written is None or not state.answers(written):
        say("No cluster is up. Start one: python -m cluster.local up")
        return {"up": False}
    reply = state.get(written, "/api/cluster_status?format=1")
    if isinstance(reply, dict):
        print(reply.get("data", {}).get("clusterStatus", ""))
    _print_how(written)
    return _summary(written)


def _start(settings: Up) -> dict[str, Any]:
    token = secret.ensure_token()
    identity = hashlib.sha256(f"{Path.cwd()}{time.time()}".encode()).hexdigest()[:8]
    # Short: sockets below it have 107 bytes for their path. Ray opens its own folder to everybody,
    # with logs and control sockets in it; the one around it is for this user alone.
    temp = Path("/tmp") / f"sy-{identity}" / "r"
    temp.parent.mkdir(mode=0o700)
    temp.mkdir()
    dashboard_port = raylets.dashboard_port(settings.dashboard_port)
    written: dict[str, Any] = {
        "address": f"127.0.0.1:{haproxy.free_port()}",
        "dashboard": f"http://127.0.0.1:{dashboard_port}",
        "temp": str(temp),
        "nodes": settings.nodes,
        "cpus_per_node": settings.cpus_per_node,
        "token": str(token) if token else None,
    }
    state.state_file().parent.mkdir(exist_ok=True)
    state.state_file().write_text(json.dumps(written, indent=1) + "\n")
    cpus = [] if settings.cpus_per_node is None else [f"--num-cpus={settings.cpus_per_node}"]
    agents = [haproxy.free_port() for _ in range(settings.nodes)]
    loopback = LOOPBACK if settings.nodes == 1 else {}
    common = ["--node-ip-address=127.0.0.1", "--disable-usage-stats", "--block", *cpus]
    head = ["--head", f"--port={written['address'].split(':')[1]}", f"--temp-dir={temp}"]
    head += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}"]
    try:
        for number, agent in enumerate(agents):
            joins = [f"--address={written['address']}"] if number else head
            own = f"--dashboard-agent-listen-port={agent}"
            raylets.launch(temp, f"node-{number}", [*joins, own, *common], loopback)
            # One after the other: what they look for free ports with knows nothing of the others.
            there = partial(_has_nodes, written, number + 1)
            raylets.wait(there, temp, f"node {number + 1}")
        # Jobs are taken by an agent of their own process, which comes up last.
        raylets.wait(lambda: all(map(state.agent_answers, agents)), temp, "the job agents")
    except BaseException:
        raylets.end(str(temp), keep_logs=True)
        state.state_file().unlink(missing_ok=True)
        raise
    return written


def _has_nodes(written: dict[str, Any], count: int) -> bool:
    return state.answers(written) and state.alive_nodes(written) >= count


def _summary(written: dict[str, Any]) -> dict[str, Any]:
    return {"up": True} | {k: written[k] for k in ("address", "dashboard", "nodes")}


def _print_how(written: dict[str, Any]) -> None:
    print(f"Dashboard  {written['dashboard']}  (token: {written['token'] or 'RAY_AUTH_TOKEN'})")
    print("To use Ray's own commands with it:")
    for name, value in state.client_environment(written).items():
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
