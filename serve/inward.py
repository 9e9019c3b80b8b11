"""The port by which replicas are called from within the cluster: on its node's address alone.

Ray Serve 2.60 opens one in every replica, on every interface, and unpickles what arrives there:
the cluster's token guards it, and where there is none, nothing. Whoever calls is told the node's
address, so binding to that loses nobody; on a cluster on loopback it is loopback. Ray has no
setting for it, so the function that binds is wrapped, in the replica's own process.
"""

import logging
from collections.abc import Callable
from typing import Any

_BINDS = "add_port_to_grpc_server"
_EVERYWHERE = ("[::]:", "0.0.0.0:")


def bind_to_node() -> None:
    """To be called before Ray opens the port, which is once the replica was made."""
    import ray
    from ray.serve._private import replica

    bind: Callable[[Any, str], int] | None = getattr(replica, _BINDS, None)
    if bind is None:  # another Ray than those that this was tried with
        logging.getLogger("ray.serve").warning(
            "Ray's port for calls between replicas may be open on every interface: close it with a "
            "firewall. This Ray has no %s.",
            _BINDS,
        )
        return
    setattr(replica, _BINDS, _bound_to(ray.util.get_node_ip_address(), bind))


def _bound_to(ip: str, bind: Callable[[Any, str], int]) -> Callable[[Any, str], int]:
    def bind_there(server: Any, address: str) -> int:
        return bind(server, on_node(address, ip))

    return bind_there


def on_node(address: str, ip: str) -> str:
    """An address of gRPC's, with every interface replaced by one."""
    for everywhere in _EVERYWHERE:
        if address.startswith(everywhere):
            host = f"[{ip}]" if ":" in ip else ip
            return f"{host}:{address.removeprefix(everywhere)}"
    return address
