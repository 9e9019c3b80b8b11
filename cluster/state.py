"""The local cluster as it was written down, and what its dashboard says. Starts nothing."""

import json
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from cluster.errors import StorageError


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


def write_state(state: dict[str, Any]) -> None:
    """Writes down what `up` begins; StorageError where the current folder takes no file."""
    try:
        state_file().parent.mkdir(exist_ok=True)
        state_file().write_text(json.dumps(state, indent=1) + "\n")
    except OSError as error:
        raise StorageError(
            f"{state_file()} cannot be written: {error}. Start the cluster in a folder of yours."
        ) from None


def client_environment(state: dict[str, Any]) -> dict[str, str]:
    """What a client of this cluster needs in its environment."""
    return {"RAY_AUTH_MODE": "token", "RAY_API_SERVER_ADDRESS": state["dashboard"]}


def answers(state: dict[str, Any]) -> bool:
    """Whether the dashboard and its job API answer, and are those of this cluster: another one of
    this user, with the same token, may have taken the port."""
    return session(state) == session_of(state)


def session_of(state: dict[str, Any]) -> str:
    """Ray's name of this cluster's own session."""
    return Path(state["temp"], "session_latest").resolve().name


def session(state: dict[str, Any]) -> str | None:
    """Ray's name of the session that answers where the dashboard should be; None for none."""
    reply = get(state, "/api/version")
    return None if reply is None else str(reply.get("session_name"))


def get(state: dict[str, Any], route: str) -> Any:
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


def agent_answers(port: int) -> bool:
    """Whether the agent of a node on this machine answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def alive_nodes(state: dict[str, Any]) -> int | None:
    """How many nodes are alive; None if the dashboard does not answer."""
    reply = get(state, "/nodes?view=summary")
    if reply is None:
        return None
    nodes = reply.get("data", {}).get("summary", [])
    return sum(1 for node in nodes if node.get("raylet", {}).get("state") == "ALIVE")
