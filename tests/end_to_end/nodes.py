"""The nodes of a local cluster as processes: what runs on which, one that dies with it all, and
where they listen."""

from dataclasses import dataclass

import psutil

from cluster import raylets

LOOPBACK = ("127.0.0.1", "::1")


@dataclass(frozen=True)
class Node:
    """One node, known by the process that started it and is the ancestor of all others there."""

    starter: psutil.Process

    @property
    def is_head(self) -> bool:
        return "--head" in self.starter.cmdline()

    def kill(self) -> int:
        """SIGKILL for everything on it, as when a machine loses its power; how many processes."""
        everything = [self.starter, *self.starter.children(recursive=True)]
        for process in everything:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(everything, timeout=10)
        return len(everything)


def nodes(temp: str) -> list[Node]:
    """Those of the cluster whose temporary folder this is, the head first."""
    return [Node(p) for p in sorted(raylets.starters(temp), key=lambda p: p.create_time())]


def node_of(process: psutil.Process, temp: str) -> Node | None:
    """The node that a process runs on; None where it has ended."""
    try:
        above = {parent.pid for parent in process.parents()}
    except psutil.NoSuchProcess:
        return None
    return next((node for node in nodes(temp) if node.starter.pid in above), None)


def listening(temp: str) -> dict[tuple[str, int], str]:
    """(address, port) → process, of all that a cluster has open."""
    found: dict[tuple[str, int], str] = {}
    for process in raylets.processes(temp):
        try:
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    ip = connection.laddr.ip.removeprefix("::ffff:")  # IPv4, as IPv6 writes it
                    found[ip, connection.laddr.port] = process.name()
        except psutil.NoSuchProcess:  # and nothing else: what cannot be looked at is not closed
            continue
    return found


def beyond_loopback(temp: str) -> dict[tuple[str, int], str]:
    """Of that what other machines reach."""
    return {at: name for at, name in listening(temp).items() if at[0] not in LOOPBACK}
