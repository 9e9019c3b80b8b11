"""The Serve config of an endpoint, from its settings and what the cluster has room for.

What may change without a restart is in `user_config`, all else in `args`: Serve replaces every
replica if `args` differ, and only tells them if `user_config` does. Knows nothing of how a config
is applied.
"""

from typing import Any

import yaml

from cluster import resources
from cluster.errors import ResourceError
from serve.settings import Autoscaling, Endpoint, Live

APPLICATION = "switchyard"
DEPLOYMENT = "Replica"
# Far above what our own door lets in: Serve's plain-text refusals must never be met.
ONGOING_MARGIN = 64
SURGE_PERCENT = 20  # rounded up to whole replicas


def make_config(
    endpoint: Endpoint,
    live: Live,
    scaling: Autoscaling,
    *,
    listen: tuple[str, int],
    have: resources.Capacity | None,
    code: str,
    one_front: bool = False,
) -> dict[str, Any]:
    """The Serve config, as `serve deploy` takes it; `have` is None where no cluster was asked.

    `one_front`: several nodes have one address, where one front alone can listen.
    """
    gpu = have is not None and have.gpus >= 1
    most = replicas(scaling, have)
    threads = endpoint.threads
    if threads is None and have is not None and not gpu:
        # All the cores that a replica can have when every replica is up.
        threads = max(1, int(min(have.cpus / have.nodes, have.cpus / most)))
    endpoint = endpoint.model_copy(update={"threads": threads})
    hot = set(Live.model_fields)
    deployment = {
        "name": DEPLOYMENT,
        "max_ongoing_requests": endpoint.limits.waiting_requests + ONGOING_MARGIN,
        "max_queued_requests": -1,
        # A replica that goes waits 30 s for the front to learn of it, and then for its requests.
        "graceful_shutdown_timeout_s": 30 + endpoint.limits.body_s + endpoint.limits.answer_s,
        "health_check_period_s": 10,
        # Left out, Serve claims a CPU as well, and there may be fewer of these than GPUs.
        "ray_actor_options": {"num_gpus": 1, "num_cpus": 0}
        if gpu
        else {"num_cpus": resources.REPLICA_CPUS},
        "autoscaling_config": {
            "min_replicas": scaling.min_replicas,
            # No initial_replicas: Serve would go back to them at every change of the config.
            "max_replicas": most,
            "target_ongoing_requests": scaling.target_ongoing_requests,
            "upscale_delay_s": scaling.upscale_delay_s,
            "downscale_delay_s": scaling.downscale_delay_s,
        },
        "max_surge_percent": _surge(most, have),
        "user_config": live.model_dump(mode="json", include=hot),
    }
    host, port = listen
    return {
        # The others would try for ever, and one would take the port when that of the head ends.
        **({"proxy_location": "HeadOnly"} if one_front else {}),
        "http_options": {"host": host, "port": port},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": "serve.replica:build",
                "runtime_env": {"working_dir": code},
                "args": endpoint.model_dump(mode="json", exclude=hot),
                "deployments": [deployment],
            }
        ],
    }


def replicas(scaling: Autoscaling, have: resources.Capacity | None) -> int:
    """The most replicas; ResourceError where the fewest asked for have no room."""
    if have is None:
        return scaling.max_replicas or max(1, scaling.min_replicas)
    # One CPU of the cluster stays free for jobs; replicas share the rest.
    room = int(have.gpus) if have.gpus >= 1 else max(1, int(have.cpus) - 1)
    if scaling.min_replicas > room:
        raise ResourceError(
            f"autoscaling.min_replicas is {scaling.min_replicas}, and {have}: room for {room}."
        )
    return min(scaling.max_replicas or room, room)


def _surge(most: int, have: resources.Capacity | None) -> int:
    """Of a rolling update, in percent of the replicas: new ones start before old ones end, so that
    the update of a lone replica costs no request. Without room for one more, now and where all
    replicas are up, the update would wait for as long as there is none, and a gap is better than
    that."""
    if have is None:
        return SURGE_PERCENT
    kind, claim = (1, 1) if have.gpus >= 1 else (0, resources.REPLICA_CPUS)
    later = int((have.cpus, have.gpus)[kind]) > most
    now = not have.free or any(node[kind] >= claim for node in have.free)
    return SURGE_PERCENT if later and now else 0


def left_for_jobs(most: int, have: resources.Capacity) -> str:
    """What `most` replicas on CPUs leave of a cluster, in words; nothing to say of GPUs."""
    if have.gpus >= 1:
        return ""
    left = max(0.0, have.cpus - most * resources.REPLICA_CPUS)
    return f", at most {most * resources.REPLICA_CPUS:g} of {have.cpus:g} CPUs: {left:g} for jobs"


def user_config(config: dict[str, Any]) -> dict[str, Any]:
    """The hot part of a config."""
    found: dict[str, Any] = config["applications"][0]["deployments"][0]["user_config"]
    return found


def as_yaml(config: dict[str, Any]) -> str:
    return str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
