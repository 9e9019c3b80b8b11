"""The Kubernetes manifests as objects: kustomize's work done here, as far as they use it, and the
pods that stand in them."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "cluster" / "kubernetes"
FILES = sorted(KUBERNETES.rglob("*.yaml"))
OVERLAYS = {
    name: (KUBERNETES / "overlays" / name, KUBERNETES / "overlays" / name / "runs")
    for name in ("cpu-trial", "gpu")
}
CLUSTER_WIDE = ("Namespace",)
# The commands that build a folder, of which a machine may have one.
BUILDERS = {"kustomize": ("kustomize", "build"), "kubectl": ("kubectl", "kustomize")}

# The quick one, where libyaml is there.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Object = dict[str, Any]


def builder() -> tuple[str, ...] | None:
    """The real kustomize, where there is one."""
    return next((words for name, words in BUILDERS.items() if shutil.which(name)), None)


def build(folder: Path) -> list[Object]:
    """What `kustomize build` gives, for resources, namespaces and patches alone."""
    (plan,) = _read(folder / "kustomization.yaml")
    assert set(plan) <= {"apiVersion", "kind", "namespace", "resources", "patches"}, folder
    objects: list[Object] = []
    for name in plan["resources"]:
        place = folder / name
        objects += build(place) if place.is_dir() else _read(place)
    for patch in plan.get("patches", []):
        objects = _patched(objects, patch, folder)
    for each in objects:
        if "namespace" in plan and each["kind"] not in CLUSTER_WIDE:
            each["metadata"]["namespace"] = plan["namespace"]
    return objects


def rendered(overlay: str) -> list[Object]:
    """All that an overlay gives: what stands, and the runs that somebody starts."""
    return [each for folder in OVERLAYS[overlay] for each in build(folder)]


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(found) == 1, (kind, name, [o["metadata"]["name"] for o in found])
    return found[0]


def ray_clusters(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """(name, RayClusterSpec) of every cluster."""
    for each in objects:
        if each["kind"] == "RayCluster":
            yield each["metadata"]["name"], each["spec"]
        if each["kind"] == "RayService":
            yield each["metadata"]["name"], each["spec"]["rayClusterConfig"]


def ray_pods(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """(name, group, pod template) of every head and worker; `group` has the rayStartParams."""
    for name, spec in ray_clusters(objects):
        yield f"{name}/head", spec["headGroupSpec"], spec["headGroupSpec"]["template"]
        for group in spec["workerGroupSpecs"]:
            yield f"{name}/{group['groupName']}", group, group["template"]


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """(name, pod template) of every pod that comes of the objects."""
    for name, _, template in ray_pods(objects):
        yield name, template
    for each in objects:
        name = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] == "RayJob":
            yield name, each["spec"]["submitterPodTemplate"]
        if each["kind"] == "CronJob":
            yield name, each["spec"]["jobTemplate"]["spec"]["template"]


def containers(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """(name, container) of them all, with the sidecar that KubeRay adds to a head."""
    for name, template in pods(objects):
        for each in template["spec"]["containers"] + template["spec"].get("initContainers", []):
            yield f"{name}/{each['name']}", each
    for name, spec in ray_clusters(objects):
        yield f"{name}/autoscaler", spec["autoscalerOptions"]


def _read(path: Path) -> list[Object]:
    return [each for each in yaml.load_all(path.read_text(), LOADER) if each is not None]


def _patched(objects: list[Object], patch: Object, folder: Path) -> list[Object]:
    text = patch["patch"] if "patch" in patch else (folder / patch["path"]).read_text()
    steps, target = yaml.load(text, LOADER), patch["target"]
    hit = [
        each
        for each in objects
        if each["kind"] == target["kind"] and target.get("name") in (None, each["metadata"]["name"])
    ]
    assert hit, f"{folder}: nothing is a {target}"
    if isinstance(steps, dict):
        assert steps["$patch"] == "delete", steps
        return [each for each in objects if each not in hit]
    for each in hit:
        for step in steps:
            _apply(each, copy.deepcopy(step))
    return objects


def _apply(document: Any, step: Object) -> None:
    """One operation of a JSON patch (RFC 6902): add to or replace in an object, remove."""
    *way, last = [word.replace("~1", "/") for word in step["path"].strip("/").split("/")]
    for word in way:
        document = document[int(word) if isinstance(document, list) else word]
    key: Any = int(last) if isinstance(document, list) else last
    there = key < len(document) if isinstance(document, list) else key in document
    assert there or step["op"] == "add", step["path"]
    if step["op"] == "remove":
        del document[key]
    else:
        assert step["op"] == "replace" or isinstance(document, dict), step
        document[key] = step["value"]
