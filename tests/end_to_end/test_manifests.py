"""Every command that stands in a Kubernetes manifest, taken out of it and run on a local cluster.

Only what a user names is another: places, the port, and the model, which is tiny here.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from cluster.registry import CHAMPION, Registry
from tests.conftest import job_json, last_json
from tests.end_to_end.conftest import ROOT
from tests.end_to_end.endpoints import KEY, Endpoint, running, until
from tests.unit.manifests import OVERLAYS, Object, one, rendered

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SMALL = {
    "SWITCHYARD_MODEL__MAX_TOKENS": "16",
    "SWITCHYARD_TRAIN__EPOCHS": "1",
    "SWITCHYARD_SCALING__GPU": "no",  # over the `yes` of jobs/configs/gpu.toml
}


@dataclass(frozen=True)
class Place:
    """A cluster, and a folder that stands for the bucket."""

    endpoint: Endpoint
    bucket: Path

    @property
    def dashboard(self) -> str:
        return str(self.endpoint.written["dashboard"])

    def named(self, text: str) -> str:
        """A text of a manifest with the places of this machine."""
        theirs = {
            "s3://BUCKET": str(self.bucket),
            "/opt/switchyard": str(ROOT),
            "http://switchyard-head-svc:8265": self.dashboard,
            "/etc/switchyard/keys": str(self.endpoint.home),
        }
        for their, mine in theirs.items():
            text = text.replace(their, mine)
        return text

    def run(self, command: str, codes: tuple[int, ...] = (0,)) -> str:
        """What a shell prints for it, with this interpreter first on the path."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT, env={**os.environ, "PATH": path, "RAY_AUTH_MODE": "token"},
            capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode in codes, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    def submit(self, job: Object, name: str, more: Mapping[str, str]) -> dict[str, Any]:
        """A RayJob as KubeRay's submitter sends it, whose shell reads the entrypoint as it stands;
        the JSON object that it printed last."""
        environment = yaml.safe_load(self.named(job["spec"]["runtimeEnvYAML"]))
        environment["env_vars"] = dict(more)
        words = (
            f"--address {self.dashboard} --runtime-env-json {shlex.quote(json.dumps(environment))}"
        )
        said = self.run(
            f"ray job submit {words} --no-wait --submission-id {name} "
            f"-- {self.named(job['spec']['entrypoint'])} ; "
            f"ray job logs --address {self.dashboard} --follow {name}"
        )
        return dict(job_json(said))


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Place]:
    """A cluster of two CPUs with prepared data in the place of the bucket."""
    home = tmp_path_factory.mktemp("manifests")
    with running(home, free_port(), cpus=2) as endpoint:
        found = Place(endpoint, home / "bucket")
        submit = f"python -m cluster.submit --address {found.dashboard} --working-dir {ROOT} --"
        found.run(f"{submit} python -m jobs.synthesize --rows 400 --classes 4 --skew 0.8 "
                  f"--output {found.bucket}/tickets")  # fmt: skip
        found.run(f"{submit} python -m jobs.prepare --source {found.bucket}/tickets --columns.text "
                  f"title --columns.text body --output {found.bucket}/prepared")  # fmt: skip
        yield found


def run(place: Place, model: Path, name: str, overlay: str) -> dict[str, Any]:
    """The RayJob of an overlay, on a tiny model and one epoch."""
    job = one(rendered(overlay), "RayJob", name)
    # Both overlays write to one place, which is not used twice.
    job["spec"]["entrypoint"] = job["spec"]["entrypoint"].replace("/first", f"/{overlay}")
    more = SMALL | {"SWITCHYARD_MODEL__NAME": str(model)}
    more |= {"SWITCHYARD_TRIALS": "1"} if name == "search" else {}
    return place.submit(job, f"{name}-{overlay}", more)


@pytest.fixture(scope="module")
def bundle(place: Place, tiny_model: Path) -> Path:
    """What the RayJob of the trial trained."""
    return Path(run(place, tiny_model, "train", "cpu-trial")["bundle"])


@pytest.fixture(scope="module")
def champion(place: Place, bundle: Path) -> str:
    """That, made the champion; its version."""
    registry = Registry(str(place.bucket / "models"))
    version = registry.publish("router", bundle, "bundle.json")
    registry.point("router", CHAMPION, version, expected=None, reason="")
    return version


def test_the_trial_trains(place: Place, bundle: Path) -> None:
    assert bundle == place.bucket / "runs" / "cpu-trial" / "bundle"
    assert (bundle / "bundle.json").exists()


def test_the_gpus_entrypoint_trains_but_for_the_gpus(place: Place, tiny_model: Path) -> None:
    said = run(place, tiny_model, "train", "gpu")
    written = json.loads(Path(said["bundle"], "bundle.json").read_text())
    assert written["configuration"]["optim.layer_decay"] == 0.95, "of jobs/configs/gpu.toml"


@pytest.mark.parametrize("overlay", sorted(OVERLAYS))
def test_a_search_runs_as_it_stands(place: Place, tiny_model: Path, overlay: str) -> None:
    said = run(place, tiny_model, "search", overlay)
    assert "error" not in said
    assert (place.bucket / "searches" / overlay).is_dir()


def test_the_endpoint_of_the_rayservice_answers_for_the_champion(
    place: Place, champion: str
) -> None:
    (place.bucket / "corrections").mkdir(exist_ok=True)
    service = one(rendered("cpu-trial"), "RayService")
    config = yaml.safe_load(place.named(service["spec"]["serveConfigV2"]))
    config["http_options"] = {"host": "127.0.0.1", "port": place.endpoint.port}
    written = place.endpoint.home / "serve.yaml"
    written.write_text(yaml.safe_dump(config))
    place.run(f"serve deploy --address {place.dashboard} {written}")
    headers = {"Authorization": f"Bearer {KEY}"}

    def answers() -> bool:
        try:
            return httpx.get(f"{place.endpoint.url}/ready").status_code == 200
        except httpx.TransportError:
            return False

    until(answers, "the endpoint", 120)
    body = {"texts": ["my printer is down"]}
    url = f"{place.endpoint.url}/v1/classify"
    assert httpx.post(url, json=body).status_code == 401
    reply = httpx.post(url, json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    assert reply.json()["model"] == {"name": "router", "version": champion}


def test_the_nightly_loop_s_command_runs_as_it_stands(place: Place, champion: str) -> None:
    cron = one(rendered("cpu-trial"), "CronJob")
    (container,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    said = place.run(shlex.join(place.named(word) for word in container["command"]), codes=(0, 3))
    # The gate may well refuse what one more epoch of a tiny model gives.
    assert last_json(said).get("error_type") in (None, "GateRefused"), said[-2000:]
    assert len(list((place.bucket / "nightly").iterdir())) == 1
