"""Where workers meet: on one address, and nowhere else."""

import json
import os
import time
from datetime import timedelta
from pathlib import Path

import psutil
import torch
import torch.distributed as dist

from jobs import rendezvous

HOST = "127.0.0.1"


def worker(rank: int, place: Path) -> None:
    """One of two: what the two add up to, and where this one listens."""
    given = place / "port"
    if rank == 0:
        given.with_suffix(".part").write_text(str(rendezvous.listen(HOST)[1]))
        given.with_suffix(".part").rename(given)
    while not given.exists():
        time.sleep(0.01)
    port = int(given.read_text())
    rendezvous.join(rank, 2, (HOST, port), backend="gloo", timeout=timedelta(seconds=30), own=HOST)
    summed = torch.tensor([rank + 1.0])
    dist.all_reduce(summed)
    listens = [
        [each.laddr.ip, each.laddr.port]
        for each in psutil.Process().net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    ]
    found = {"sum": summed.item(), "listens": listens, "port": port}
    (place / f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # torch's threads for gloo now and then abort as the interpreter ends


def test_two_workers_meet_and_listen_on_the_given_address_alone(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(worker, (tmp_path,), nprocs=2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [one["sum"] for one in found] == [3.0, 3.0]
    assert [HOST, found[0]["port"]] in found[0]["listens"], "the store"
    for one in found:
        assert {ip for ip, _ in one["listens"]} <= {HOST}


def test_the_interface_of_an_address_is_found_and_of_a_foreign_one_is_not() -> None:
    assert HOST in {each.address for each in psutil.net_if_addrs()[rendezvous.interface_of(HOST)]}
    assert rendezvous.interface_of("192.0.2.1") is None
