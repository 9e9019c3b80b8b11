"""The nodes of a local cluster: those that are not there yet are started, one after the other.

Knows nothing of commands, nor of what runs on the nodes.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from cluster import haproxy, raylets, state
from cluster.session import say


def begin(written: dict[str, Any]) -> None:
    """Starts every node of a new cluster, or leaves nothing but its logs."""
    temp = written["temp"]
    # Ray opens its own folder to everybody, with logs and control sockets in it; the one around it
    # is for this user alone.
    Path(temp).parent.mkdir(mode=0o700)
    Path(temp).mkdir()
    # Written down first: whatever is started after it can be ended by it.
    state.state_file().parent.mkdir(exist_ok=True)
    state.state_file().write_text(json.dumps(written, indent=1) + "\n")
    try:
        _start(written, range(written["nodes"]))
    except BaseException:
        raylets.end(temp, keep_logs=True)
        state.state_file().unlink(missing_ok=True)
        raise


def complete(written: dict[str, Any]) -> None:
    """Starts others in the place of nodes that are gone."""
    alive = state.alive_nodes(written)
    if alive >= written["nodes"]:
        return
    say(f"{alive} of {written['nodes']} nodes are up; the others are started …")
    first = len(logs(written))  # names are given once: a lost node keeps its log
    _start(written, range(first, first + written["nodes"] - alive), alive)


def logs(written: dict[str, Any]) -> list[Path]:
    """What each node that was ever started has said, in the order of their starts."""
    found = Path(written["temp"]).glob("node-*.log")
    return sorted(found, key=lambda path: int(path.stem.removeprefix("node-")))


def _start(written: dict[str, Any], numbers: range, alive: int = 0) -> None:
    temp, agents = Path(written["temp"]), []
    for count, number in enumerate(numbers, start=alive + 1):
        agents.append(haproxy.free_port())
        words = [*_words(written, head=number == 0), f"--dashboard-agent-listen-port={agents[-1]}"]
        raylets.launch(temp, f"node-{number}", words)
        # One after the other: what they look for free ports with knows nothing of the others.
        raylets.wait(partial(_has_nodes, written, count), temp, f"node {number}")
    # Jobs are taken by an agent of their own process, which comes up last.
    raylets.wait(lambda: all(map(state.agent_answers, agents)), temp, "the job agents")


def _words(written: dict[str, Any], *, head: bool) -> list[str]:
    """Flags of `ray start`."""
    words = ["--node-ip-address=127.0.0.1", "--disable-usage-stats", "--block"]
    if written["cpus_per_node"] is not None:
        words.append(f"--num-cpus={written['cpus_per_node']}")
    if not head:
        return [f"--address={written['address']}", *words]
    words += ["--head", f"--port={written['address'].split(':')[1]}"]
    words += [f"--temp-dir={written['temp']}", "--dashboard-host=127.0.0.1"]
    return [*words, f"--dashboard-port={written['dashboard'].rsplit(':', 1)[1]}"]


def _has_nodes(written: dict[str, Any], count: int) -> bool:
    return state.answers(written) and state.alive_nodes(written) >= count
