"""An endpoint and two jobs at once on a cluster of two CPUs: each finds room, none waits for ever.

What a job says of its plan is on standard error there, which `cluster.submit` copies.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster import state
from tests.conftest import last_json
from tests.end_to_end.conftest import ROOT, run_module
from tests.end_to_end.endpoints import KEY, Endpoint, note, running, until
from tests.end_to_end.traffic import Traffic, summary, traffic
from tests.integration.conftest import write_tickets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

NAMES = ("first", "second")
CLAIMS = re.compile(
    r"Claims ([\d.]+) of 2 CPUs, of which others hold ([\d.]+), and leaves ([\d.]+) to other jobs"
)


@pytest.fixture(scope="module")
def endpoint(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Endpoint]:
    """One replica, which holds one of the two CPUs."""
    with running(tmp_path_factory.mktemp("beside"), free_port(), cpus=2) as found:
        keys = str(found.home / "keys.txt")
        said = found.deploy("--bundle", str(tiny_bundle), "--keys", keys, "--threads", "1")
        assert said["max_replicas"] == 1
        yield found


@pytest.fixture
def load(endpoint: Endpoint) -> Iterator[Traffic]:
    """A client that asks until the test ends; not one of its requests may fail."""
    with traffic(endpoint.url, KEY, clients=1) as seen:
        yield seen
        mark = seen.mark()
        until(lambda: len(seen.since(mark)) >= 20, "answers at the end")
    assert summary(seen.calls)["failed"] == {}


def words(*command: str) -> tuple[str, ...]:
    return ("--working-dir", str(ROOT), "--", "python", "-m", *command)


def submit(endpoint: Endpoint, *command: str) -> tuple[dict[str, Any], str]:
    """What a job said on its last line, and all of its log."""
    done = run_module("cluster.submit", *words(*command), cwd=endpoint.home)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    return dict(last_json(done.stdout)), done.stdout


def lifetime(endpoint: Endpoint, name: str) -> tuple[int, int]:
    """When the job that wrote there began and ended, in ms, as Ray says."""
    sent = state.get(endpoint.written, "/api/jobs/")
    (job,) = (job for job in sent if f"--output {endpoint.home}/{name} " in job["entrypoint"])
    return int(job["start_time"]), int(job["end_time"])


def training(endpoint: Endpoint, model: Path, name: str, epochs: int) -> list[str]:
    home = endpoint.home
    return ["jobs.train", "--data", f"{home}/prepared", "--output", f"{home}/{name}",
            "--model.name", str(model), "--model.max_tokens", "16", "--train.batch_tokens", "256",
            "--train.epochs", str(epochs)]  # fmt: skip


def preparation(endpoint: Endpoint, name: str) -> list[str]:
    home = endpoint.home
    return ["jobs.prepare", "--source", f"{home}/source", "--output", f"{home}/{name}",
            "--columns.id", "id"]  # fmt: skip


@pytest.fixture(scope="module")
def prepared(endpoint: Endpoint) -> Path:
    kinds = {"mail": "mail", "network": "vpn", "printing": "printer"}
    rows = [
        {"id": f"{team}{k}", "text": f"my {word} is down again {k}", "label": team}
        for team, word in kinds.items()
        for k in range(60)
    ]
    write_tickets(endpoint.home / "source", rows, files=3)
    _, log = submit(endpoint, *preparation(endpoint, "prepared"))
    assert "1 task at once, each with 0.5 of 2 CPUs, of which others hold 1: leaves 0.5" in log
    return endpoint.home / "prepared"


def test_two_trainings_at_once_and_an_endpoint_all_get_on(
    endpoint: Endpoint, prepared: Path, tiny_model: Path, load: Traffic
) -> None:
    with ThreadPoolExecutor(2) as both:
        found = list(
            both.map(
                lambda name: submit(endpoint, *training(endpoint, tiny_model, name, 3)),
                NAMES,
            )
        )
    assert [said["epochs"] for said, _ in found] == [3, 3]
    (began, ended), (began_too, ended_too) = (lifetime(endpoint, name) for name in NAMES)
    assert max(began, began_too) < min(ended, ended_too), "at once"
    plans = [CLAIMS.findall(log) for _, log in found]
    assert all(plans), "every job says what it claims and leaves"
    for claimed, held, left in (one for own in plans for one in own):
        assert claimed == "0.5"
        # Whoever comes second sees a replica and the other job, or the replica alone.
        assert (held, left) in {("1", "0.5"), ("1.5", "0"), ("2", "0")}
    note("two trainings beside an endpoint", summary(load.calls) | {"plans": plans})


def test_a_preparation_and_a_training_end_while_another_goes_on_beside_an_endpoint(
    endpoint: Endpoint, prepared: Path, tiny_model: Path, load: Traffic
) -> None:
    log = (endpoint.home / "long.log").open("wb")
    # Far longer than all else here.
    command = words(*training(endpoint, tiny_model, "long", 20_000))
    long = subprocess.Popen(
        [sys.executable, "-m", "cluster.submit", *command],
        cwd=endpoint.home, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        checkpoints = endpoint.home / "long" / "checkpoints"
        until(lambda: any(checkpoints.glob("epoch-*")), "the first epoch", 120)
        mark, newest = load.mark(), max(each.name for each in checkpoints.glob("epoch-*"))
        said, told = submit(endpoint, *preparation(endpoint, "again"))
        trained, plan = submit(endpoint, *training(endpoint, tiny_model, "short", 3))
        assert max(each.name for each in checkpoints.glob("epoch-*")) > newest, (
            "the training goes on"
        )
        assert long.poll() is None
        assert said["train"] + said["validation"] + said["test"] == 180
        assert "others hold 1.5: leaves 0 to other jobs" in told
        assert trained["epochs"] == 3
        assert min(float(held) for _, held, _ in CLAIMS.findall(plan)) >= 1.5
        note("jobs beside a training and an endpoint", summary(load.since(mark)))
    finally:  # the job itself ends with its cluster
        long.terminate()
        long.wait(60)
