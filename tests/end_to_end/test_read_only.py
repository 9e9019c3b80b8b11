"""A pod of the endpoint as near as one machine comes to it: Ray, HAProxy and a replica without
root, without capabilities, on a file system that is read-only but for what a pod mounts.

Needs to be root and Linux's namespaces, and is skipped where there are none.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.registry import CHAMPION, Registry
from serve.package import PACKAGES
from tests.conftest import last_json
from tests.end_to_end.conftest import ROOT
from tests.end_to_end.endpoints import KEY
from tests.unit.manifests import one, ray_pods, rendered

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BIN = Path(sys.prefix).resolve() / "bin"
# The interpreter may lie in a home that only root may enter: it is mounted again in an open one.
INSIDE = """
set -euo pipefail
ip link set lo up
home=/$(realpath "$PREFIX" | cut -d/ -f2)
if [ "$home" = /root ]; then
  mount --bind "$PREFIX" /mnt
  mount -t tmpfs -o mode=0755 tmpfs /root
  mkdir -p "$PREFIX"
  mount --bind /mnt "$PREFIX"
fi
mount -o remount,bind,ro /
for place in /tmp /dev/shm "$FOLDER/home"; do
  mount -t tmpfs -o mode=0770,uid=1000,gid=1000 tmpfs "$place"
done
cd "$FOLDER/code"
exec setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all --bounding-set=-all \\
  --no-new-privs env --ignore-environment "$@"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Outside of /tmp, which the pod has one of its own instead of."""
    made = Path(tempfile.mkdtemp(prefix="switchyard-pod-", dir="/var/tmp"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


def require_namespaces() -> None:
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can make what a pod is here")
    if BIN.is_relative_to("/tmp"):
        pytest.skip(f"the interpreter lies in {BIN}, and a pod has a /tmp of its own")
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "mount", "-o", "remount,bind,ro", "/"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tried.returncode != 0:
        pytest.skip(f"no namespaces here: {tried.stderr.strip()}")


def fill(folder: Path, make_bundle: Callable[..., Path]) -> None:
    """The image's code, and what the bucket and the Secret hold."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / "code" / name)
    shutil.copy(ROOT / "tests" / "end_to_end" / "pod_inside.py", folder / "code")
    (folder / "home").mkdir()
    # As the image makes it, by the interpreter that the pod finds.
    (make,) = re.findall(r'python -c "(.*haproxy.*)"', (ROOT / "cluster/Dockerfile").read_text())
    words = [str(BIN / "python"), "-c", make.replace("/opt/switchyard", str(folder))]
    subprocess.run(words, cwd=ROOT, check=True)
    registry = Registry(str(folder / "models"))
    version = registry.publish("router", make_bundle(folder / "bundle"), "bundle.json")
    registry.point("router", CHAMPION, version, expected=None, reason="")
    (folder / "keys.txt").write_text(f"{KEY}\n")
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)


def given(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """(what the pod is to do, its environment), both from the manifests."""
    objects = rendered("cpu-trial")
    pods = {name: (group, template) for name, group, template in ray_pods(objects)}
    group, template = pods["endpoint/head"]
    (ray,) = template["spec"]["containers"]
    config = one(objects, "RayService")["spec"]["serveConfigV2"]
    theirs = {
        "/opt/switchyard/haproxy": f"{folder}/haproxy",
        "/opt/switchyard": f"{folder}/code",
        "s3://BUCKET/corrections": f"{folder}/home/corrections",
        "s3://BUCKET": str(folder),
        "/etc/switchyard/keys": str(folder),
    }
    for their, mine in theirs.items():
        config = config.replace(their, mine)
    written = yaml.safe_load(config)
    (folder / "serve.yaml").write_text(yaml.safe_dump(written))
    flags = group["rayStartParams"] | {"num-cpus": "1", "node-ip-address": "127.0.0.1"}
    words = [f"--{name}={value}" for name, value in flags.items()]
    workers = pods["endpoint/replicas"][1]["spec"]["containers"][0]
    probes = {
        kind: f"http://127.0.0.1:{each['httpGet']['port']}{each['httpGet']['path']}"
        for side, container in (("head", ray), ("worker", workers))
        for kind, each in (
            (f"{side}/{name}", container[name])
            for name in ("startupProbe", "livenessProbe", "readinessProbe")
        )
    }
    front = probes.pop("worker/readinessProbe")
    todo = {
        "start": f"ulimit -n 65536; exec ray start --head --port=6379 --block {shlex.join(words)}",
        "deploy": ["serve", "deploy", "--address", "http://127.0.0.1:8265", f"{folder}/serve.yaml"],
        "probes": {"node": sorted(set(probes.values())), "front": [front]},
        "ready": "http://127.0.0.1:8000/ready",
        "url": "http://127.0.0.1:8000/v1/classify",
        "key": KEY,
        "places": ["/tmp", "/dev/shm", f"{folder}/home", f"{folder}/code", "/var/tmp", "/etc"],
    }
    environment = {each["name"]: each["value"] for each in ray["env"]} | {
        "HOME": f"{folder}/home",
        "RAY_SERVE_HAPROXY_BINARY_PATH": f"{folder}/haproxy/haproxy-on-loopback",
        "PATH": f"{BIN}:/usr/bin:/bin",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
        "RAY_worker_niceness": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return todo, environment


def test_the_endpoint_runs_without_root_on_a_read_only_file_system(
    folder: Path, make_bundle: Callable[..., Path]
) -> None:
    require_namespaces()
    fill(folder, make_bundle)
    todo, environment = given(folder)
    (folder / "given.json").write_text(json.dumps(todo))
    done = subprocess.run(
        [
            "unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child",
            "bash", "-c", INSIDE, "pod",
            *(f"{name}={value}" for name, value in environment.items()),
            str(BIN / "python"), "pod_inside.py", str(folder),
        ],
        env={**os.environ, "FOLDER": str(folder), "PREFIX": os.path.realpath(sys.base_prefix)},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    said: dict[str, Any] = dict(last_json(done.stdout))
    assert said["user"] == [1000, 1000]
    assert said["answers"] == [401, 200]
    assert said["jobs_without_a_token"] in (401, 403)
    mounted = ["/tmp", "/dev/shm", f"{folder}/home"]
    assert [place for place, free in said["writable"].items() if free] == mounted
    listening = {int(port): set(hosts) for port, hosts in said["listening"].items()}
    assert listening[8000] == {"0.0.0.0"}
    # What nobody may reach is bound to loopback, and not only closed by a policy.
    assert listening[9101] == listening[8404] == {"127.0.0.1"}
