"""The nodes of a local cluster: those that are not there yet are started, one after the other.

Knows nothing of commands, nor of what runs on the nodes.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

from cluster import ports, raylets, state
from cluster.errors import ResourceError, SwitchyardError
from cluster.session import say

# For a head that runs and is too busy to answer; a dashboard takes some 10 s to start.
PATIENCE_S = 60.0


def is_up(written: dict[str, Any]) -> bool:
    """Whether the cluster answers. As long as its head runs it is asked again: one look that took
    too long must not end a cluster with all that it does. SwitchyardError if it stays silent."""
    limit, told = time.monotonic() + PATIENCE_S, False
    while not state.answers(written):
        if not raylets.head_runs(written["temp"]):
            return False
        if not told:
            say(f"The cluster's head runs, but {written['dashboard']} does not answer yet …")
        told = True
        if time.monotonic() > limit:
            raise SwitchyardError(
                f"The cluster's head runs, but {written['dashboard']} has not answered for "
                f"{PATIENCE_S:.0f} s. Wait for it, or end it: python -m cluster.local down."
            )
        time.sleep(0.2)
    return True


def begin(written: dict[str, Any]) -> None:
    """Starts every node of a new cluster, or leaves nothing but its logs."""
    temp = written["temp"]
    # Written down first: whatever is started after it can be ended by it.
    state.write_state(written)
    # Ray opens its own folder to everybody, with logs and control sockets in it; the one around it
    # is for this user alone.
    Path(temp).parent.mkdir(mode=0o700)
    Path(temp).mkdir()
    try:
        _start(written, range(written["nodes"]))
    except BaseException:
        raylets.end(temp, keep_logs=True)
        state.state_file().unlink(missing_ok=True)
        raise


def complete(written: dict[str, Any]) -> None:
    """Starts others in the place of nodes that are gone; SwitchyardError if it is not known how
    many there are."""
    limit = time.monotonic() + PATIENCE_S
    while (alive := state.alive_nodes(written)) is None:
        if time.monotonic() > limit:
            raise SwitchyardError(
                f"{written['dashboard']} does not say which nodes are alive. Run this again, or "
                "end the cluster first: python -m cluster.local down."
            )
        time.sleep(0.2)
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
    temp = Path(written["temp"])
    for count, number in enumerate(numbers, start=alive + 1):
        agent = ports.lasting_port()
        words = [*_words(written, head=number == 0), f"--dashboard-agent-listen-port={agent}"]
        node = raylets.launch(temp, f"node-{number}", words)
        # One after the other: what they look for free ports with knows nothing of the others.
        raylets.wait(partial(_has_nodes, written, count), node)
        # Jobs are taken by an agent of their own process, which comes up last.
        raylets.wait(partial(state.agent_answers, agent), node)


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
    found = state.session(written)  # asked once: it may begin to answer between two looks
    if found is None:
        return False
    if found != state.session_of(written):
        raise ResourceError(
            f"Another cluster took {written['dashboard']} at the same moment. Run this again, or "
            "give --dashboard-port another one."
        )
    return (state.alive_nodes(written) or 0) >= count
