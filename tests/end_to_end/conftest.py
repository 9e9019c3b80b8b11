"""A real cluster for the tests of this folder: token authentication, jobs, HTTP."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.ports import lasting_port
from tests.end_to_end import chromium

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cluster:
    """A running local cluster, started from `home`."""

    home: Path
    address: str

    def submit(
        self, *command: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`cluster.submit -- command`, with the repository as the folder that is sent.

        `environment` reaches the job through `env`, as a user of a cluster would write it.
        """
        words = [f"{name}={value}" for name, value in (environment or {}).items()]
        prefix = ["env", *words] if words else []
        return run_module(
            "cluster.submit", "--address", self.address, "--working-dir", str(ROOT), "--",
            *prefix, *command, cwd=self.home,
        )  # fmt: skip

    def stop_serving(self) -> None:
        """Ends Serve, whose port could else not be another one for the tests that follow."""
        end = "import ray; from ray import serve; ray.init(); serve.shutdown()"
        done = self.submit("python", "-c", end)
        assert done.returncode == 0, done.stdout


def run_module(
    module: str, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments` in a process of its own, from another folder."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node of two CPUs, ended with all that it started before other tests begin."""
    from tests.conftest import last_json

    home = tmp_path_factory.mktemp("cluster")
    up = run_module("cluster.local", "up", "--cpus-per-node", "2", cwd=home)
    assert up.returncode == 0, up.stderr
    try:
        yield Cluster(home, str(last_json(up.stdout)["dashboard"]))
    finally:
        down = run_module("cluster.local", "down", cwd=home)
        assert down.returncode == 0, down.stderr


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Ports that stay free until something is deployed, which may be a whole cluster later."""
    return lasting_port


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; without one, or without playwright, its tests are skipped."""
    if reason := chromium.missing():
        pytest.skip(reason)
    with chromium.launched() as found:
        yield found
