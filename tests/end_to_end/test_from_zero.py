"""A cluster that has nothing until something is asked of it.

Ray's own autoscaler adds nodes on this machine, as it adds pods or virtual machines elsewhere.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cluster import node_limits, ports, raylets, secret, state
from tests.conftest import job_json
from tests.end_to_end.conftest import ROOT, run_module

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

# Ray's provider of nodes that are processes of this machine, which its own tests use.
HEAD = "f" * 51 + "0" * 5
NODES = {
    "head": {"resources": {}, "node_config": {}, "max_workers": 0},
    "cpus": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
}


@pytest.fixture
def growing(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address for jobs of a cluster without a CPU that may grow to two nodes of one each."""
    token = secret.ensure_token()
    temp = Path("/tmp") / f"sy-grow-{ports.lasting_port()}"
    temp.mkdir(mode=0o700)
    address = f"127.0.0.1:{ports.lasting_port()}"
    dashboard, agent = ports.lasting_port(), ports.lasting_port()
    config = {
        "cluster_name": "from-zero",
        "max_workers": 2,
        "provider": {
            "type": "fake_multinode", "gcs_address": address, "head_node_id": HEAD,
            "launch_multiple": True,
        },
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "head_node_type": "head",
        "available_node_types": NODES,
    }  # fmt: skip
    (temp / "autoscaler.json").write_text(json.dumps(config))
    ours = {node_limits.NAME: "2x1", "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    ours |= {"RAY_CLOUD_INSTANCE_ID": HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD}
    written = {
        "address": address,
        "dashboard": f"http://127.0.0.1:{dashboard}",
        "temp": str(temp),
        "token": str(token) if token else None,
    }
    arguments = [
        "--head", f"--port={address.split(':')[1]}", f"--temp-dir={temp}", "--num-cpus=0",
        "--node-ip-address=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--autoscaling-config={temp}/autoscaler.json", "--disable-usage-stats", "--block",
        f"--dashboard-agent-listen-port={agent}",
    ]  # fmt: skip
    try:
        for name, value in ours.items():
            monkeypatch.setenv(name, value)
        head = raylets.launch(temp, "node-0", arguments)
        raylets.wait(partial(state.answers, written), head)
        raylets.wait(partial(state.agent_answers, agent), head)
        yield written["dashboard"]
    finally:
        raylets.end(str(temp))


def test_jobs_get_the_nodes_that_the_cluster_may_have_and_not_only_those_that_it_has(
    growing: str, tiny_model: Path, tickets: list[dict[str, object]], tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "tickets").mkdir()
    pq.write_table(pa.Table.from_pylist(tickets), tmp_path / "tickets" / "a.parquet")
    steps = [
        ["jobs.prepare", "--source", f"{tmp_path}/tickets", "--output", f"{tmp_path}/prepared"],
        ["jobs.train", "--data", f"{tmp_path}/prepared", "--output", f"{tmp_path}/run",
         "--model.name", str(tiny_model), "--model.max_tokens", "16", "--train.epochs", "1"],
    ]  # fmt: skip
    # In place: nodes that are processes of one machine share where Ray would unpack it.
    environment = json.dumps({"working_dir": f"local://{ROOT}"})
    for words in steps:
        done = run_module(
            "ray.scripts.scripts", "job", "submit", "--address", growing,
            "--runtime-env-json", environment, "--", "python", "-m", *words,
            cwd=tmp_path, environment={"RAY_AUTH_MODE": "token"},
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    said = job_json(done.stdout)
    assert said["bundle"] == f"{tmp_path}/run/bundle"
    assert said["workers"] == 2, "one for each node that there may be"
