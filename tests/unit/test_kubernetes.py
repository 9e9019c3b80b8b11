"""The Kubernetes manifests: they build, schemas take them, and they say what the code says."""

import copy
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ray.scripts.scripts import start
from ray.serve.schema import ServeDeploySchema

from cluster import command, haproxy, registry, session, storage
from cluster.resources import Capacity
from serve import deploy
from serve.config import as_yaml
from serve.deploy import Deploy, config_of, live_of
from tests.unit import crds
from tests.unit.manifests import (
    FILES,
    KUBERNETES,
    OVERLAYS,
    ROOT,
    Object,
    build,
    builder,
    containers,
    one,
    pods,
    ray_clusters,
    ray_pods,
    rendered,
)

CODE = "local:///opt/switchyard"
SAID = re.compile(r"^ *# python -m serve\.deploy (.*)$", re.MULTILINE)
SERVE_CONFIGS = {
    "base": KUBERNETES / "base" / "endpoint.yaml",
    "cpu-trial": KUBERNETES / "overlays" / "cpu-trial" / "endpoint.yaml",
    "gpu": KUBERNETES / "overlays" / "gpu" / "endpoint.yaml",
}


@pytest.fixture(params=sorted(OVERLAYS), scope="module")
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return rendered(request.param)


@pytest.mark.parametrize("folder", [f for each in OVERLAYS.values() for f in each], ids=str)
def test_kustomize_itself_builds_what_the_other_tests_look_at(folder: Path) -> None:
    real = builder()
    if real is None:
        pytest.skip("neither kustomize nor kubectl is installed")
    done = subprocess.run([*real, str(folder)], capture_output=True, text=True, check=True)

    def key(each: Object) -> tuple[str, str]:
        return each["kind"], each["metadata"]["name"]

    assert sorted(yaml.safe_load_all(done.stdout), key=key) == sorted(build(folder), key=key)


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(KUBERNETES)))
def test_the_first_line_says_what_was_checked_and_that_it_was_never_applied(file: Path) -> None:
    first = file.read_text().splitlines()[0]
    assert re.match(r"# Checked .*by tests/unit/test_kubernetes\.py", first), first
    assert "never applied" in first


def test_kuberay_s_own_schemas_take_every_object_of_theirs(objects: list[Object]) -> None:
    ours = [each for each in objects if each["apiVersion"] == "ray.io/v1"]
    assert sorted(each["kind"] for each in ours) == ["RayCluster", "RayJob", "RayJob", "RayService"]
    assert {each["metadata"]["name"]: crds.errors(each) for each in ours} == {
        each["metadata"]["name"]: [] for each in ours
    }


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spec: spec.update(workerGroups=[]),
        lambda spec: spec["headGroupSpec"]["template"]["spec"].update(host_network=True),
        lambda spec: spec["headGroupSpec"]["template"]["spec"]["containers"][0].update(probe={}),
        lambda spec: spec["workerGroupSpecs"][0].update(minReplicas="none"),
        lambda spec: spec["headGroupSpec"].pop("template"),
        lambda spec: spec["authOptions"].update(mode="Token"),
        lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
    ],
)
def test_what_the_schema_does_not_know_is_an_error(spoil: Callable[[Any], Any]) -> None:
    spoilt = copy.deepcopy(one(rendered("gpu"), "RayCluster"))
    spoil(spoilt["spec"])
    assert crds.errors(spoilt) != []


def test_parts_that_kuberay_s_schemas_describe_too_are_held_to_them(objects: list[Object]) -> None:
    """The nightly pod as a submitter's, the policies as those of a RayCluster."""
    cron, job = one(objects, "CronJob"), copy.deepcopy(one(objects, "RayJob", "train"))
    job["spec"]["submitterPodTemplate"] = cron["spec"]["jobTemplate"]["spec"]["template"]
    assert crds.errors(job) == []
    cluster = copy.deepcopy(one(objects, "RayCluster"))
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    for each in policies:
        rules = {f"{side}Rules": each["spec"].get(side, []) for side in ("ingress", "egress")}
        cluster["spec"]["networkPolicy"] = {"head": rules}
        assert crds.errors(cluster) == [], each["metadata"]["name"]
        assert set(each["spec"]) <= {"podSelector", "policyTypes", "ingress", "egress"}
    spoilt = copy.deepcopy(one(policies, "NetworkPolicy", "clients"))["spec"]["ingress"]
    spoilt[0]["from"][0]["namespaces"] = {}
    cluster["spec"]["networkPolicy"] = {"head": {"ingressRules": spoilt}}
    assert crds.errors(cluster) != []


def test_kubernetes_own_schemas_take_the_others(objects: list[Object]) -> None:
    others = [each for each in objects if each["apiVersion"] != "ray.io/v1"]
    for each in others:
        kubernetes_validate.validate(each, "1.32", strict=True)
    spoilt = copy.deepcopy(one(others, "CronJob"))
    spoilt["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["envs"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoilt, "1.32", strict=True)


@pytest.mark.parametrize("place", sorted(SERVE_CONFIGS))
def test_the_serve_config_is_the_one_that_serve_deploy_gives_for_what_stands_above_it(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SERVE_CONFIGS[place].read_text()
    (said,) = SAID.findall(text)
    words = [word for word in shlex.split(said) if word != "--print"]
    document = yaml.safe_load(text)
    written = document["spec"]["serveConfigV2"] if place == "base" else document[0]["value"]
    settings = command.parse(Deploy, words, "serve.deploy", "")
    monkeypatch.setattr(storage, "read_bytes", lambda uri: b"sy_one-key\n")
    live, made = live_of(settings, None)
    # `--print` asks no cluster, and so knows of no GPU.
    four = Capacity(cpus=16, gpus=4, nodes=4) if place == "gpu" else None
    config = config_of(settings, live, four, CODE)
    assert made is None, "a key in a manifest would be everybody's"
    assert written == as_yaml(config)
    ServeDeploySchema.model_validate(yaml.safe_load(written))


def test_printed_by_the_command_it_differs_only_in_the_places_that_a_user_names(
    registry: registry.Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SERVE_CONFIGS["base"].read_text()
    (said,) = SAID.findall(text)
    (tmp_path / "keys.txt").write_text("sy_one-key\n")
    here = {
        "s3://BUCKET/models": str(tmp_path / "registry"),
        "/etc/switchyard/keys/keys.txt": f"{tmp_path}/keys.txt",
        "s3://BUCKET/corrections": f"{tmp_path}/corrections",
        "--name router": "--name tickets",
    }
    for theirs, mine in here.items():
        said = said.replace(theirs, mine)
    with pytest.raises(SystemExit) as ended:
        deploy.main(shlex.split(said))
    assert ended.value.code in (0, None)
    printed = capsys.readouterr().out
    printed = printed.replace("file:///CODE.zip", CODE).replace("name: tickets", "name: router")
    for theirs, mine in here.items():
        printed = printed.replace(mine, theirs)
    assert printed.startswith(yaml.safe_load(text)["spec"]["serveConfigV2"])


def test_every_node_has_the_environment_that_the_code_counts_on(objects: list[Object]) -> None:
    # On a pod of its own HAProxy keeps its ports and paths; the script before it is the image's.
    wanted = session.COMMON_ENVIRONMENT | session.SERVE_ENVIRONMENT | haproxy.RETRIES
    wanted |= {"RAY_SERVE_HAPROXY_BINARY_PATH": "/opt/switchyard/haproxy/haproxy-on-loopback"}
    for name, _, template in ray_pods(objects):
        has = {each["name"]: each["value"] for each in template["spec"]["containers"][0]["env"]}
        assert {key: has.get(key) for key in wanted} == wanted, name


def test_the_versions_are_those_of_this_repository(objects: list[Object]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, each in containers(objects):
        if not name.endswith("/autoscaler"):
            assert each["image"] == f"REGISTRY/switchyard:{project['version']}", name
    locked = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert locked is not None
    for name, spec in ray_clusters(objects):
        assert spec["rayVersion"] == locked.group(1), name


def test_ray_knows_every_flag_that_a_node_is_started_with(objects: list[Object]) -> None:
    flags = {flag for each in start.params for flag in each.opts}
    for name, group, _ in ray_pods(objects):
        unknown = [each for each in group["rayStartParams"] if f"--{each}" not in flags]
        assert unknown == [], name


def test_shared_memory_holds_the_object_store_that_ray_makes_in_it(objects: list[Object]) -> None:
    for name, _, template in ray_pods(objects):
        (ray,) = template["spec"]["containers"]
        (shared,) = (v for v in template["spec"]["volumes"] if v["name"] == "shared-mem")
        memory, size = (
            int(word.removesuffix("Gi"))
            for word in (ray["resources"]["limits"]["memory"], shared["emptyDir"]["sizeLimit"])
        )
        assert 0.3 * memory <= size < memory, name


def test_what_pods_mount_and_name_is_there(objects: list[Object]) -> None:
    accounts = {o["metadata"]["name"] for o in objects if o["kind"] == "ServiceAccount"}
    for name, template in pods(objects):
        spec = template["spec"]
        volumes = {each["name"] for each in spec["volumes"]}
        for each in spec["containers"]:
            assert {mount["name"] for mount in each["volumeMounts"]} == volumes, name
        assert spec["serviceAccountName"] in accounts, name
    names = [name for name, _ in ray_clusters(objects)]
    for each in objects:
        if each["kind"] == "RayJob":
            assert each["spec"]["clusterSelector"]["ray.io/cluster"] in names
        if each["kind"] == "CronJob":
            text = yaml.safe_dump(each)
            assert f"http://{names[0]}-head-svc:8265" in text
