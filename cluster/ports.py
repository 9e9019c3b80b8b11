"""Ports of this machine for what is about to be started. Knows nothing of what that is."""

import contextlib
import random
import socket

_given: set[int] = set()


def lasting_port() -> int:
    """A port of loopback that is free now, that no connection is given by chance later on, and that
    this process was not given before: whoever it is for binds it seconds later, HAProxy only when
    something is deployed. Ray's own ranges begin at 10,002, 30,000 and 40,000, and the kernel draws
    from 32,768 on."""
    for port in random.SystemRandom().sample(range(20_000, 30_000), 1_000):
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
