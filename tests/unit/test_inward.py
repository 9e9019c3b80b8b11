"""The port by which replicas are called from within the cluster."""

from typing import Any

import grpc
import psutil
import pytest
import ray
from ray.serve._private import replica

from serve import inward


@pytest.mark.parametrize(
    ("address", "ip", "bound"),
    [
        ("[::]:0", "127.0.0.1", "127.0.0.1:0"),
        ("0.0.0.0:4000", "10.0.0.7", "10.0.0.7:4000"),
        ("[::]:0", "fd00::7", "[fd00::7]:0"),
        ("10.0.0.7:0", "127.0.0.1", "10.0.0.7:0"),
    ],
)
def test_every_interface_becomes_the_node_s(address: str, ip: str, bound: str) -> None:
    assert inward.on_node(address, ip) == bound


def test_what_ray_binds_listens_on_the_node_s_address_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replica, inward._BINDS, replica.add_port_to_grpc_server)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    inward.bind_to_node()
    server = grpc.server(None)
    port = replica.add_port_to_grpc_server(server, "[::]:0")
    try:
        found = [
            connection.laddr.ip.removeprefix("::ffff:")  # how IPv6 writes an IPv4 address
            for connection in psutil.Process().net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        ]
        assert set(found) == {"127.0.0.1"}
    finally:
        server.stop(None)


def test_a_ray_that_binds_in_another_way_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(replica, inward._BINDS)
    inward.bind_to_node()
    assert "may be open on every interface" in caplog.text


def test_this_ray_binds_the_port_as_we_think() -> None:
    import inspect

    source: Any = inspect.getsource(replica)
    assert source.count(f'{inward._BINDS}(self._server, "[::]:0")') == 1
