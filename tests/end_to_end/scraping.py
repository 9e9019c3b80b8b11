"""A Prometheus of Debian's that watches a local cluster, configured as its users would do it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cluster.monitoring import dashboard
from tests.end_to_end.endpoints import until

PROMETHEUS = shutil.which("prometheus")
MONITORING = Path(dashboard.__file__).parent


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that runs."""

    url: str

    def get(self, route: str, **parameters: str) -> Any:
        reply = httpx.get(f"{self.url}/api/v1/{route}", params=parameters)
        said = reply.json()
        assert said["status"] == "success", said
        return said["data"]

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of every series that a query gives now."""
        found = self.get("query", query=query)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def value(self, query: str) -> float | None:
        """The one value that a query gives; None if there is none."""
        values = [value for _, value in self.ask(query)]
        assert len(values) <= 1, query
        return values[0] if values else None


@contextmanager
def scraping(home: Path, port: int) -> Iterator[Prometheus]:
    """Prometheus on this port, over the cluster that was started from `home`."""
    place = home / "prometheus"
    place.mkdir()
    shutil.copy(MONITORING / "alerts.yaml", place)
    # Every two seconds, or the test would wait for it.
    (place / "prometheus.yml").write_text(configuration(home).replace(": 15s", ": 2s"))
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(PROMETHEUS), "--config.file=prometheus.yml", "--storage.tsdb.path=data",
             f"--web.listen-address=127.0.0.1:{port}"],
            cwd=place, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        found = Prometheus(f"http://127.0.0.1:{port}")
        until(lambda: process.poll() is not None or _is_ready(found), "Prometheus")
        assert process.poll() is None, (place / "log").read_text()[-2000:]
        yield found
    finally:
        process.terminate()
        process.wait(30)


def configuration(home: Path) -> str:
    """prometheus.yml for a local cluster: what the commands in its first lines make of it."""
    written = (MONITORING / "prometheus.yml").read_text()
    recipe = re.findall(r"^#     ((?:temp|port|sed).*)$", written, flags=re.M)
    assert len(recipe) == 3
    script = "\n".join(recipe).replace("cluster/monitoring", str(MONITORING))
    script = script.replace("$(python ", f"$({sys.executable} ")
    made = subprocess.run(
        ["bash", "-euc", script], cwd=home, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return made.stdout


def _is_ready(prometheus: Prometheus) -> bool:
    try:
        return httpx.get(f"{prometheus.url}/-/ready").status_code == 200
    except httpx.TransportError:
        return False
