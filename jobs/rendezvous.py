"""Where the workers of a run meet: torch's store, on the address of the first worker's node alone.

Ray Train lets torch open the store, which then listens on every interface, and whoever reaches it
can change what the workers agree on. Here it gets a socket that is bound already, and gloo the
interface of the node's address, if one has it. A single worker meets nobody, and listens nowhere.
"""

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import ray
import torch.distributed as dist
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend

GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"  # which a cluster's owner may have set
_listeners: list[socket.socket] = []  # of this process, until its store takes it over


@dataclass
class Rendezvous(TorchConfig):  # type: ignore[misc]  # Ray has no types
    """For TorchTrainer, as its `torch_config`; `init_method` has no meaning here."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Backend


class _Backend(_TorchBackend):  # type: ignore[misc]  # Ray has no types
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        workers = len(worker_group)
        worker_group.execute(_set_torch_distributed_env_vars)
        if workers == 1:
            return
        gpu = worker_group.get_resources_per_worker().get("GPU", 0) > 0
        host, port = worker_group.execute_single(0, listen)
        joining = [
            worker_group.execute_single_async(
                rank,
                join,
                rank,  # by its place: Ray's own argument has the name
                workers,
                (host, port),
                backend=backend_config.backend or ("nccl" if gpu else "gloo"),
                timeout=timedelta(seconds=backend_config.timeout_s),
            )
            for rank in range(workers)
        ]
        ray.get(joining)


def listen(host: str | None = None) -> tuple[str, int]:
    """Opens the socket of this process's store, at `host` (None: the node's address); gives the
    address and the port, one that was free."""
    host = host or ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    _listeners[:] = [socket.create_server((host, 0), family=family)]
    return host, int(_listeners[0].getsockname()[1])


def join(
    rank: int,
    workers: int,
    store_at: tuple[str, int],
    *,
    backend: str,
    timeout: timedelta,
    own: str | None = None,
) -> None:
    """Enters the process group of a run; on rank 0 after `listen`, in the same process. `own`: an
    address of this machine (None: the node's)."""
    interface = interface_of(own or ray.util.get_node_ip_address())
    if interface is not None:
        os.environ.setdefault(GLOO_INTERFACE, interface)
    opened = _listeners.pop().detach() if rank == 0 else None
    store = dist.TCPStore(  # type: ignore[attr-defined]  # it is there: torch's own documentation
        *store_at, workers, rank == 0, timeout, master_listen_fd=opened
    )
    dist.init_process_group(backend, store=store, rank=rank, world_size=workers, timeout=timeout)


def interface_of(host: str) -> str | None:
    """The name of this machine's interface that has an address; None where none has."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address.partition("%")[0] == host for address in addresses):
            return name
    return None
