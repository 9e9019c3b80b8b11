"""A Ray cluster on this machine, of one or several nodes: up, status, logs, down.

    python -m cluster.local up --nodes 3 --cpus-per-node 2
    python -m cluster.local status
    python -m cluster.local logs --job raysubmit_…
    python -m cluster.local down

Token authentication is on and everything listens on loopback. What runs is written down in
`.switchyard/cluster.json` below the current folder, so that two checkouts do not disturb each
other. Knows nothing of the jobs that run.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from cluster import command, logs, members, overview, ports, raylets, secret, state
from cluster.errors import SettingError
from cluster.session import say


class Up(command.Settings):
    """Settings of `up`."""

    nodes: int = Field(1, ge=1, le=16, description="number of nodes (raylets) on this machine")
    cpus_per_node: int | None = Field(
        None, ge=1, description="CPUs that each node offers; none: all of this machine's"
    )
    dashboard_port: int | None = Field(
        None, ge=1, le=65535, description="port of the dashboard; none: 8265, or a free one"
    )


class Logs(command.Settings):
    """Settings of `logs`; without any of the three it is said which there are."""

    node: str | None = Field(None, description="number of a node whose log is shown; 0: the head")
    job: str | None = Field(None, description="id of a job whose log is shown, or how it begins")
    endpoint: str | None = Field(
        None, description="name of a log of Ray Serve that is shown, or how it begins"
    )
    lines: int = Field(50, ge=1, description="how many of its last lines are shown")


class Nothing(command.Settings):
    """Settings of `status` and `down`: none."""


def up(settings: Up) -> dict[str, Any]:
    """Starts the cluster, or what is missing of the one that is up already."""
    written = state.read_state()
    if written is not None and members.is_up(written):
        for key in ("nodes", "cpus_per_node"):
            if written.get(key) != getattr(settings, key):
                raise SettingError(
                    f"A cluster with {key} = {written.get(key)} is up already, and "
                    f"{getattr(settings, key)} was asked for. Stop it first: python -m "
                    "cluster.local down."
                )
        say("The cluster is up already.")
        members.complete(written)
        return _summary(written)
    if written is not None:
        raylets.end(written["temp"])
    written = _new(settings)
    members.begin(written)
    _print_how(written)
    return _summary(written)


def down(_: Nothing) -> dict[str, Any]:
    """Ends every process that `up` started, also of a cluster that has died or is half up."""
    written = state.read_state()
    if written is None:
        say("No cluster was started from this folder.")
        return {"ended": 0}
    ended = raylets.end(written["temp"])
    state.state_file().unlink(missing_ok=True)
    say(f"Ended {ended} processes.")
    return {"ended": ended}


def status(_: Nothing) -> dict[str, Any]:
    """Nodes, jobs and endpoints, as the cluster itself says."""
    written = state.read_state()
    if written is None or not members.is_up(written):
        say("No cluster is up. Start one: python -m cluster.local up")
        return {"up": False}
    found = overview.overview(written)
    print(overview.as_text(found, written["nodes"]))
    _print_how(written)
    return _summary(written) | found


def show_logs(settings: Logs) -> dict[str, Any]:
    """Where nodes, jobs and endpoints write, or the end of one log."""
    written = state.read_state()
    if written is None:
        say("No cluster was started from this folder, and `down` removes the logs of one.")
        return {"logs": None}
    places = {
        "node": logs.of_nodes(written),
        "job": logs.of_jobs(written),
        "endpoint": logs.of_endpoints(written),
    }
    asked = {key: getattr(settings, key) for key in places if getattr(settings, key) is not None}
    if len(asked) > 1:
        raise SettingError(f"Give one of --{' and --'.join(asked)}: one log is shown at a time.")
    for key, value in asked.items():
        path = logs.find(places[key], key, value)
        print(logs.tail(path, settings.lines))
        return {"log": str(path)}
    for key, found in places.items():
        print(f"{key.capitalize()}s" + ("" if found else "   none"))
        for name, path in found.items():
            print(f"  --{key} {name}  {path}")
    print(f"All of them: {logs.folder(written)}")
    return {"logs": {key: {n: str(p) for n, p in found.items()} for key, found in places.items()}}


def _new(settings: Up) -> dict[str, Any]:
    """What is written down of a cluster that is about to start."""
    token = secret.ensure_token()
    identity = hashlib.sha256(f"{Path.cwd()}{time.time()}".encode()).hexdigest()[:8]
    dashboard_port = raylets.dashboard_port(settings.dashboard_port)
    return {
        "address": f"127.0.0.1:{ports.lasting_port()}",
        "dashboard": f"http://127.0.0.1:{dashboard_port}",
        "temp": f"/tmp/sy-{identity}/r",  # short: sockets below it have 107 bytes for their path
        "nodes": settings.nodes,
        "cpus_per_node": settings.cpus_per_node,
        "token": str(token) if token else None,
    }


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
        "status": (Nothing, status),
        "logs": (Logs, show_logs),
        "down": (Nothing, down),
    }
    verb = words[0] if words else "--help"
    if verb in ("-h", "--help"):
        print(__doc__)
        sys.exit(0)
    if verb not in verbs:
        print(f"cluster.local: {verb!r} is not one of {', '.join(verbs)}.", file=sys.stderr)
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
