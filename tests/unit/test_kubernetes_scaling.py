"""How the clusters on Kubernetes grow and shrink, as Ray's own autoscaler reads it."""

from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr as read_by_ray,
)

from cluster import node_limits
from cluster.resources import TASK_CPUS, Capacity, plan_workers
from tests.unit.manifests import OVERLAYS, Object, one, ray_clusters, ray_pods, rendered

MOST = {"cpu-trial": {"cpus": (1, 2, 0)}, "gpu": {"cpus": (4, 8, 0), "gpus": (4, 8, 1)}}


@pytest.fixture(params=sorted(OVERLAYS), scope="module")
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def objects(overlay: str) -> list[Object]:
    return rendered(overlay)


def node_types(name: str, spec: Object) -> dict[str, Any]:
    """What the autoscaler makes of a RayCluster; Ray's own check of it included."""
    object_ = {"metadata": {"name": name, "namespace": "switchyard"}, "spec": spec}
    found: dict[str, Any] = read_by_ray(object_)["available_node_types"]
    return found


def test_workers_for_jobs_come_from_zero_as_many_as_the_overlay_says(
    objects: list[Object], overlay: str
) -> None:
    spec = one(objects, "RayCluster")["spec"]
    types = node_types("switchyard", spec)
    head = types.pop("headgroup")
    assert head["resources"]["CPU"] == 0, "a head computes nothing"
    assert [each["min_workers"] for each in types.values()] == [0] * len(types)
    found = {
        name: (each["max_workers"], each["resources"]["CPU"], each["resources"].get("GPU", 0))
        for name, each in types.items()
    }
    assert found == MOST[overlay]
    assert [group["replicas"] for group in spec["workerGroupSpecs"]] == [0] * len(types)


def test_jobs_are_told_what_the_groups_of_workers_can_grow_to(objects: list[Object]) -> None:
    cluster = one(objects, "RayCluster")
    nodes = [
        (float(each["resources"]["CPU"]), float(each["resources"].get("GPU", 0)))
        for each in node_types("switchyard", cluster["spec"]).values()
        for _ in range(each["max_workers"])
    ]
    for name, _, template in ray_pods([cluster]):
        has = {each["name"]: each["value"] for each in template["spec"]["containers"][0]["env"]}
        assert sorted(node_limits.nodes_at_most(has)) == sorted(nodes), name
    have = Capacity(
        sum(c for c, _ in nodes), sum(g for _, g in nodes), len(nodes), True, tuple(nodes)
    )
    plan = plan_workers(have, workers=None, gpu="auto")
    assert plan.gpu == (have.gpus > 0)
    assert plan.cpus_per_worker >= TASK_CPUS


def test_idle_workers_go_within_minutes(objects: list[Object]) -> None:
    for name, spec in ray_clusters(objects):
        assert spec["enableInTreeAutoscaling"] is True, name
        assert 60 <= spec["autoscalerOptions"]["idleTimeoutSeconds"] <= 600, name


def test_the_endpoint_has_a_pod_for_every_replica_that_serve_may_ask_for(
    objects: list[Object],
) -> None:
    service = one(objects, "RayService")["spec"]
    (group,) = service["rayClusterConfig"]["workerGroupSpecs"]
    types = node_types("endpoint", service["rayClusterConfig"])
    assert types["replicas"]["resources"]["CPU"] == 1, "a replica claims all that Ray has there"
    (application,) = yaml.safe_load(service["serveConfigV2"])["applications"]
    (replica,) = application["deployments"]
    scaling, limits = replica["autoscaling_config"], group["template"]["spec"]["containers"][0]
    limits = limits["resources"]["limits"]
    assert group["minReplicas"] == scaling["min_replicas"]
    assert group["maxReplicas"] == scaling["max_replicas"]
    assert group["rayStartParams"]["num-cpus"] == "1"
    gpus = replica["ray_actor_options"].get("num_gpus", 0)
    assert int(limits.get("nvidia.com/gpu", 0)) == gpus
    assert application["args"]["threads"] == int(limits["cpu"])
    spread = group["template"]["spec"]["topologySpreadConstraints"]
    assert "kubernetes.io/hostname" in [each["topologyKey"] for each in spread]
    for each in spread:
        assert each["labelSelector"]["matchLabels"].items() <= {
            **group["template"]["metadata"]["labels"], "ray.io/node-type": "worker"
        }.items()  # fmt: skip
