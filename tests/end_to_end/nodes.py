"""The nodes of a local cluster as processes: what runs on which, and one that dies with it all."""

from dataclasses import dataclass

import psutil

from cluster import raylets

STARTER = "ray.scripts.scripts"


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
    found = [p for p in raylets.processes(temp) if STARTER in " ".join(command_line(p))]
    return [Node(p) for p in sorted(found, key=lambda p: p.create_time())]


def node_of(process: psutil.Process, temp: str) -> Node | None:
    """The node that a process runs on; None where it has ended."""
    try:
        above = {parent.pid for parent in process.parents()}
    except psutil.NoSuchProcess:
        return None
    return next((node for node in nodes(temp) if node.starter.pid in above), None)


def beyond_loopback(temp: str) -> set[str]:
    """What of a cluster listens where other machines reach it: address, port and process."""
    found = set()
    for process in raylets.processes(temp):
        try:
            for connection in process.net_connections("tcp"):
                address = connection.laddr.ip.removeprefix("::ffff:")
                if connection.status == "LISTEN" and address not in ("127.0.0.1", "::1"):
                    found.add(f"{address} {connection.laddr.port} {process.name()}")
        except psutil.Error:
            continue
    return found


def command_line(process: psutil.Process) -> list[str]:
    """Of a process that may have ended meanwhile: then nothing."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
