"""The only place that calls `ray.init`.

Joins the cluster that `RAY_ADDRESS` names, which a submitted job always has, and else starts a
Ray of its own on this machine that ends with the program. Knows nothing of what runs on it.
"""

import atexit
import contextlib
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from cluster import haproxy, secret
from cluster.errors import DataError, ResourceError, SettingError, StorageError
from cluster.storage import is_local

# Read by Ray before it starts anything. HAProxy in front of the replicas and Serve's throughput
# flags take an empty route from about 500 to 4,000 requests a second on two cores. A front that
# died is replaced once it has failed three checks in a row: 10 s apart, which is Serve's own, they
# cost 22 s without an answer, and 2 s apart 8. A front that reloads fails checks too, and has some
# 4 s for it: in rolling updates and growth under load on two cores it never took that long.
SERVE_ENVIRONMENT = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
}
# Ray replaces 127.0.0.1 by the machine's own address, unless it believes to be where clusters of
# several machines are not supported; then all that it starts listens on loopback alone.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
SETTLE_S = 30.0  # for Ray to agree with itself on which nodes there are
COMMON_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # Loading pickled tensor metadata out of a Parquet file runs code from it (CVE-2026-41486).
    "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA": "0",
    # Ray's own notice of a coming change, not something a user of ours can act on.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def connect(*, cpus: int | None = None, serving: bool = False) -> None:
    """Joins the running cluster or starts a local one; does nothing if already connected.

    `cpus` bounds a Ray started here (default: all of this machine's) and is ignored otherwise.
    `serving`: what is started here must serve HTTP too.
    """
    address = os.environ.get("RAY_ADDRESS") or None
    # Before Ray is imported: much of this it reads once.
    os.environ.update(COMMON_ENVIRONMENT | (SERVE_ENVIRONMENT if serving else {}))
    if address is None:
        os.environ.update(LOOPBACK | (_own_haproxy() if serving else {}))
        if os.environ.get("RAY_AUTH_MODE", "token") == "token":
            # Before Ray makes one that everybody on this machine can read. Of a home that cannot be
            # written to it says so itself.
            with contextlib.suppress(StorageError):
                secret.ensure_token()
    import ray

    if ray.is_initialized():
        return
    _be_quiet()
    if address is None:
        ray.init(
            address="local", num_cpus=cpus, include_dashboard=False, logging_level=logging.WARNING
        )
        return
    if address.startswith(("http://", "https://")):
        raise SettingError(
            f"RAY_ADDRESS is {address}, the address for submitting jobs. Send the command as a job "
            "(python -m cluster.submit -- python -m …), or unset RAY_ADDRESS to run it here."
        )
    # A cluster whose token is on disk wants the mode said aloud; it may have been started by hand.
    if secret.has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        ray.init(address=address, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise SettingError(
            f"No Ray cluster answers at RAY_ADDRESS={address} ({error}). Start one with "
            "python -m cluster.local up, or unset RAY_ADDRESS."
        ) from None


def _own_haproxy() -> dict[str, str]:
    folder = tempfile.mkdtemp(prefix="sy-", dir="/tmp")  # sockets' paths have 107 bytes
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return haproxy.environment(Path(folder))


def _be_quiet() -> None:
    """Turns down what Ray says about itself; warnings about the work stay."""
    for name in ("ray.data", "ray.tune", "ray.serve", "ray.train"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in (
        "ray._private.authentication.authentication_token_setup",  # that authentication is on
        "ray.data._internal.progress",  # that its progress bars are off
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\..*")


def streaming_context(*, preserve_order: bool = False) -> None:
    """Sets Ray Data's defaults of this process: no progress bars, order kept where asked."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = preserve_order
    for name in ("ray.data", "ray.data._internal.execution.streaming_executor"):
        logging.getLogger(name).setLevel(logging.WARNING)


def nodes() -> list[dict[str, Any]]:
    """Ray's own records of the nodes that are up."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def addresses() -> set[str]:
    """Of the nodes that are up: one a machine, wherever nodes are not all on one."""
    return {str(node["NodeManagerAddress"]) for node in nodes()}


def share_an_address() -> bool:
    """Whether two nodes are on one machine, where a port is free for one of them alone."""
    return len(addresses()) < len(nodes())


def require_everywhere(uri: str, key: str, *, holding: str = "") -> None:
    """DataError unless a local path exists on every node, since any of them may read it.

    `holding`: a file in it that was just written here, which shows that it is the same folder.
    """
    if not is_local(uri):
        return
    alive, path = nodes(), os.path.join(uri, holding)
    if len(alive) < 2:
        return
    asked = [_ask_whether(path, node["NodeID"]) for node in alive]
    until = time.monotonic() + SETTLE_S
    missing = [
        node["NodeManagerAddress"]
        for node, answer in zip(alive, asked, strict=True)
        if not _is_there(path, node, answer, until)
    ]
    if missing:
        raise DataError(
            f"--{key} {uri} is not on {', '.join(missing)}: with {len(alive)} nodes give a path "
            "that all of them share, or an s3:// or gs:// URI."
        )


def _ask_whether(path: str, node: str) -> Any:
    """Whether a path exists on a node, as a future."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=there)(os.path.exists).remote(path)


def _is_there(path: str, node: dict[str, Any], answer: Any, until: float) -> bool:
    """What a node answered; also True of one that is gone, since it reads nothing.

    One that an autoscaler has just added may not take a task yet, and one that it takes back takes
    none: Ray says the same of both, and only a while later that the second is gone. ResourceError
    where it has not said so at `until`.
    """
    import ray
    from ray.exceptions import NodeDiedError, TaskUnschedulableError, WorkerCrashedError

    while True:
        try:
            return bool(ray.get(answer))
        except (NodeDiedError, TaskUnschedulableError, WorkerCrashedError):
            if node["NodeID"] not in {each["NodeID"] for each in nodes()}:
                return True
            if time.monotonic() > until:
                raise ResourceError(
                    f"The node {node['NodeManagerAddress']} is up and takes no task, not even to "
                    f"look for {path}, for {SETTLE_S:.0f} s now. Try again, or take it out of the "
                    "cluster."
                ) from None
        time.sleep(0.5)
        answer = _ask_whether(path, node["NodeID"])


def say(message: str) -> None:
    """One line of progress, on standard error, so that standard output stays the result's."""
    print(message, file=sys.stderr, flush=True)
