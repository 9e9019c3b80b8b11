"""What the tests of a cluster find open: a listener of its own, on loopback or beyond it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.haproxy import MARK
from tests.end_to_end.nodes import beyond_loopback, listening

PROGRAM = """
import socket, sys, time
here = [socket.create_server((host, 0)) for host in ("127.0.0.1", "0.0.0.0")]
here.append(socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
            if socket.has_dualstack_ipv6() else socket.create_server(("0.0.0.0", 0)))
print(*(each.getsockname()[1] for each in here), flush=True)
time.sleep(300)
"""


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[tuple[int, int, int]]:
    """What a process with the cluster's mark listens on: loopback, IPv4's every interface and,
    where there is IPv6, its every interface."""
    environment = os.environ | {MARK: f"{tmp_path}/haproxy/haproxy.cfg"}
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        loopback, every, every_6 = map(int, process.stdout.readline().split())
        yield loopback, every, every_6
        process.kill()


def test_a_listener_on_every_interface_is_found_and_one_on_loopback_is_not_beyond_it(
    tmp_path: Path, ports: tuple[int, int, int]
) -> None:
    loopback, *every = ports
    found, beyond = listening(str(tmp_path)), beyond_loopback(str(tmp_path))
    assert {port for _, port in found} == set(ports)
    assert {port for _, port in beyond} == set(every)
    assert found["127.0.0.1", loopback] == beyond["0.0.0.0", every[0]]
    assert listening(f"{tmp_path}/another") == {}
