"""What no pod may be, hold or reach, in everything that the overlays give."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.manifests import FILES, OVERLAYS, Object, containers, pods, ray_pods, rendered

# Opened by Ray and HAProxy, and from where they may be reached beside the same Ray cluster.
REACHED = {
    8000: {"clients", "operator"},
    8265: {"operator", "submitters-to-jobs"},
    8080: {"metrics"},
}
INNER = (6379, 8076, 8077, 8078, 8404, 9101, 10001, 10002, 19999, 30000, 31000, 40000, 41000,
         52365, 52366)  # fmt: skip


@pytest.fixture(params=sorted(OVERLAYS), scope="module")
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return rendered(request.param)


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, however deep."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield key, each
            yield from walk(each)
    elif isinstance(value, list):
        for each in value:
            yield from walk(each)


def test_there_are_pods_to_look_at(objects: list[Object]) -> None:
    names = [name for name, _ in pods(objects)]
    assert {"switchyard/head", "switchyard/cpus", "endpoint/head", "endpoint/replicas"} <= set(
        names
    )
    assert {"RayJob/train", "RayJob/search", "CronJob/nightly"} <= set(names)
    # The sidecar of both heads, which KubeRay adds, counts as a container.
    assert len(list(containers(objects))) == len(names) + 2


def test_no_container_can_be_root_write_to_its_image_or_gain_privileges(
    objects: list[Object],
) -> None:
    for name, each in containers(objects):
        context = each["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert "privileged" not in context, name


def test_no_pod_runs_as_root_or_borrows_from_its_machine(objects: list[Object]) -> None:
    for name, template in pods(objects):
        context = template["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert min(context["runAsUser"], context["runAsGroup"]) >= 1000, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        keys = {key for key, _ in walk(template)}
        assert keys.isdisjoint(
            {"hostPath", "hostNetwork", "hostPID", "hostIPC", "hostPort", "hostUsers"}
        ), name


def test_what_ray_haproxy_and_caches_write_to_is_mounted(objects: list[Object]) -> None:
    for name, each in containers(objects):
        places = {mount["mountPath"] for mount in each["volumeMounts"]}
        assert {"/tmp", "/home/ray"} <= places, name
        assert {"name": "HOME", "value": "/home/ray"} in each["env"], name
    for name, _, template in ray_pods(objects):
        (ray,) = template["spec"]["containers"]
        assert "/dev/shm" in {mount["mountPath"] for mount in ray["volumeMounts"]}, name


def test_every_container_asks_for_what_it_needs_and_has_a_limit(objects: list[Object]) -> None:
    for name, each in containers(objects):
        for side in ("requests", "limits"):
            assert {"cpu", "memory", "ephemeral-storage"} <= set(each["resources"][side]), name
    for name, template in pods(objects):
        for volume in template["spec"]["volumes"]:
            assert "secret" in volume or volume["emptyDir"]["sizeLimit"], name


def test_only_heads_hold_a_token_for_the_api_server(objects: list[Object]) -> None:
    heads = {name for name, _, _ in ray_pods(objects) if name.endswith("/head")}
    for name, template in pods(objects):
        spec = template["spec"]
        if name in heads:
            assert spec["serviceAccountName"] == "switchyard-head"
        else:
            assert spec["automountServiceAccountToken"] is False, name
            assert spec["serviceAccountName"] == "switchyard", name


def test_every_node_is_probed(objects: list[Object]) -> None:
    for name, _, template in ray_pods(objects):
        (ray,) = template["spec"]["containers"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert ray[probe]["httpGet"]["path"], (name, probe)
    # A replica's pod is ready when the front on it is: that is what the Service sends to.
    (worker,) = (t for name, _, t in ray_pods(objects) if name == "endpoint/replicas")
    ready = worker["spec"]["containers"][0]["readinessProbe"]["httpGet"]
    assert ready == {"path": "/-/healthz", "port": 8000}


def test_every_image_has_a_version(objects: list[Object]) -> None:
    images = [str(value) for each in objects for key, value in walk(each) if key == "image"]
    assert images
    for image in images:
        assert re.search(r":\d+\.\d+\.\d+$", image), image


def test_no_value_of_a_secret_stands_in_a_manifest(objects: list[Object]) -> None:
    assert [each for each in objects if each["kind"] == "Secret"] == []
    for each in objects:
        for _, value in walk(each):
            if isinstance(value, list):
                for variable in value:
                    named = isinstance(variable, dict) and str(variable.get("name", ""))
                    if named and re.search("TOKEN|SECRET|PASSWORD|ACCESS_KEY", named):
                        assert set(variable) == {"name", "valueFrom"}, named
    for file in FILES:
        text = file.read_text()
        assert not re.search(r"sy_[A-Za-z0-9_-]{16}|AKIA[A-Z0-9]{12}|-----BEGIN", text), file


def test_token_authentication_is_on_and_its_secret_is_the_one_that_submitters_use(
    objects: list[Object],
) -> None:
    options = [value for key, value in walk(objects) if key == "authOptions"]
    assert options == [{"mode": "token", "secretName": "switchyard-token"}] * 2
    (cron,) = (each for each in objects if each["kind"] == "CronJob")
    references = [value for key, value in walk(cron) if key == "secretKeyRef"]
    assert references == [{"name": "switchyard-token", "key": "auth_token"}]


def test_nothing_is_reached_that_no_policy_names(objects: list[Object]) -> None:
    policies = {
        each["metadata"]["name"]: each["spec"]
        for each in objects
        if each["kind"] == "NetworkPolicy"
    }
    nothing = policies.pop("nothing")
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    opened: dict[int, set[str]] = {}
    for name, spec in policies.items():
        for rule in spec.get("ingress", []):
            assert rule["from"], f"{name} lets everybody in"
            for peer in rule["from"]:
                assert "ipBlock" not in peer, name
                assert peer.get("namespaceSelector", {"matchLabels": 1}) != {}, name
            if "ports" not in rule:  # all ports, to the same Ray cluster alone
                assert rule["from"] == [{"podSelector": spec["podSelector"]}], name
                continue
            for port in rule["ports"]:
                assert "endPort" not in port, name
                opened.setdefault(port["port"], set()).add(name)
    assert opened == REACHED
    assert set(opened).isdisjoint(INNER)


def test_the_operator_reaches_the_front_of_heads_and_clients_that_of_replicas(
    objects: list[Object],
) -> None:
    selected = {
        each["metadata"]["name"]: each["spec"]["podSelector"].get("matchLabels")
        for each in objects
        if each["kind"] == "NetworkPolicy"
    }
    assert selected["clients"] == {"switchyard/part": "endpoint", "ray.io/node-type": "worker"}
    assert selected["operator"] == {"ray.io/node-type": "head"}
    assert selected["submitters-to-jobs"]["switchyard/part"] == "jobs"


def test_every_pod_has_the_label_that_policies_and_budgets_select_by(
    objects: list[Object],
) -> None:
    for name, template in pods(objects):
        part = template["metadata"]["labels"]["switchyard/part"]
        owner = {"switchyard": "jobs", "endpoint": "endpoint"}.get(name.split("/")[0], "submitter")
        assert part == owner, name


def test_a_disruption_budget_is_a_number_since_a_ray_cluster_has_no_scale() -> None:
    budgets = [o for o in rendered("gpu") if o["kind"] == "PodDisruptionBudget"]
    assert len(budgets) == 3
    for each in budgets:
        assert set(each["spec"]) == {"minAvailable", "selector"}
        assert isinstance(each["spec"]["minAvailable"], int)
    # One machine could never be drained.
    assert [o for o in rendered("cpu-trial") if o["kind"] == "PodDisruptionBudget"] == []


def test_the_namespace_refuses_what_these_tests_would_have_missed(objects: list[Object]) -> None:
    (namespace,) = (each for each in objects if each["kind"] == "Namespace")
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert namespace["metadata"]["name"] == "switchyard"
    assert {o["metadata"].get("namespace") for o in objects if o is not namespace} == {"switchyard"}


def test_every_port_that_a_node_is_told_stands_in_the_table_of_the_policies(
    objects: list[Object],
) -> None:
    file = next(each for each in FILES if each.name == "network.yaml")
    head = file.read_text().split("\napiVersion")[0]
    spans = [
        (int(first), int(last or first))
        for first, last in re.findall(r"^#   (\d+)(?:(?: to |, )(\d+))? ", head, re.MULTILINE)
    ]
    for name, group, template in ray_pods(objects):
        told = [int(v) for k, v in group["rayStartParams"].items() if k.endswith("port")]
        told += [p["containerPort"] for p in template["spec"]["containers"][0]["ports"]]
        for port in told:
            assert any(first <= port <= last for first, last in spans), (name, port)
