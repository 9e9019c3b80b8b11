"""Ports for what is about to be started."""

import socket

import pytest

from cluster import ports


def test_a_port_is_free_given_once_and_none_that_connections_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, free = ports.lasting_port(), ports.lasting_port()
    assert {given // 10_000, free // 10_000} == {2}
    monkeypatch.setattr(ports, "_given", {given})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        drawn = [given, taken.getsockname()[1], free]
        monkeypatch.setattr(ports.random.SystemRandom, "sample", lambda *_: drawn)
        assert ports.lasting_port() == free
