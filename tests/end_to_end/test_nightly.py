"""The nightly loop in jobs beside an endpoint: what callers correct is what it answers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import last_json
from tests.end_to_end.conftest import Cluster
from tests.end_to_end.endpoints import KEY, Endpoint, note, running, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAME = "router"
OTHERS = ["down", "error", "slow", "reset", "order", "denied"]
KINDS = {"mail": ("mail", 60), "network": ("vpn", 48), "printing": ("printer", 48)}
INVOICES = [f"invoice {OTHERS[k % 6]} {k}" for k in range(40)]
ASKED = [f"invoice {other} please" for other in OTHERS]
# A tiny network that learns its few words, and whose scores are of no interest.
TRAINING = (
    *("--model.max_tokens", "16", "--model.dropout", "0", "--train.epochs", "10"),
    *("--train.batch_tokens", "64", "--train.precision", "fp32"),
    *("--optim.lr", "5e-3", "--optim.head_lr", "5e-3"),
)
NOTHING = ("--train.epochs", "1", "--optim.lr", "1e-9", "--optim.head_lr", "1e-9")
UNCALIBRATED = ("--max-calibration-error", "0.9")


@dataclass(frozen=True)
class Desk:
    """An endpoint that serves the champion, and the cluster that retrains it."""

    endpoint: Endpoint
    cluster: Cluster
    home: Path

    def job(self, module: str, *words: str, code: int = 0) -> dict[str, Any]:
        """A submitted job; its last line."""
        done = self.cluster.submit("python", "-m", module, *words)
        assert done.returncode == code, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
        return dict(last_json(done.stdout))

    def retrain(self, night: str, *words: str, code: int = 0) -> dict[str, Any]:
        return self.job(
            "tuning.retrain", "--source", f"{self.home}/tickets", "--name", NAME,
            "--feedback", f"{self.home}/corrections", "--registry", f"{self.home}/models",
            "--output", f"{self.home}/{night}", *UNCALIBRATED, *words, code=code,
        )  # fmt: skip

    def post(self, route: str, body: Any) -> Any:
        headers = {"Authorization": f"Bearer {KEY}"}
        reply = httpx.post(f"{self.endpoint.url}{route}", json=body, headers=headers, timeout=60)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def answers(self) -> tuple[str, set[str]]:
        """The version that answers, and the labels that it gives the invoices."""
        found = self.post("/v1/classify", {"texts": ASKED})
        return found["model"]["version"], {p["label"] for p in found["predictions"]}


@pytest.fixture(scope="module")
def desk(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Desk]:
    """The first champion, trained and promoted by hand, and an endpoint of it. Whoever filed the
    invoices took them for mail."""
    home = tmp_path_factory.mktemp("desk")
    rows = [{"text": text, "label": "mail"} for text in INVOICES]
    for label, (word, count) in KINDS.items():
        rows += [{"text": f"{word} {OTHERS[k % 6]} {k}", "label": label} for k in range(count)]
    (home / "tickets").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), home / "tickets" / "part-0.parquet")
    with running(tmp_path_factory.mktemp("endpoint"), free_port(), cpus=4) as endpoint:
        found = Desk(endpoint, Cluster(endpoint.home, endpoint.written["dashboard"]), home)
        found.job(
            "jobs.prepare", "--source", f"{home}/tickets", "--output", f"{home}/data",
            "--split.test", "0.25",
        )  # fmt: skip
        found.job(
            "jobs.train", "--data", f"{home}/data", "--output", f"{home}/run",
            "--model.name", str(tiny_model), *TRAINING,
        )  # fmt: skip
        found.job(
            "tuning.promote", "--bundle", f"{home}/run/bundle", "--registry", f"{home}/models",
            "--name", NAME, *UNCALIBRATED,
        )  # fmt: skip
        endpoint.deploy(
            "--registry", f"{home}/models", "--registry.poll_s", "0.5", "--name", NAME,
            "--keys", f"{endpoint.home}/keys.txt", "--threads", "1",
            "--feedback.uri", f"{home}/corrections", "--autoscaling.max_replicas", "1",
        )  # fmt: skip
        yield found


def files(folder: Path) -> dict[str, tuple[int, float]]:
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_callers_correct_is_what_the_endpoint_answers_after_a_night(desk: Desk) -> None:
    replicas = [process.pid for process in desk.endpoint.replicas()]
    assert desk.answers() == ("0001", {"mail"})
    for text in INVOICES:
        desk.post("/v1/feedback", {"text": text, "label": "printing"})

    said = desk.retrain("monday")
    assert (said["champion"], said["version"]) == ("0001", "0002")
    assert said["grown"]["corrections"][1]["changed"] == len(INVOICES)
    seconds = until(lambda: desk.answers()[0] == "0002", "the promotion at the endpoint")
    assert desk.answers() == ("0002", {"printing"})
    note("retraining", {"seconds_to_the_endpoint": round(seconds, 2)})
    assert [process.pid for process in desk.endpoint.replicas()] == replicas, "none was restarted"

    before = files(desk.home)
    again = desk.retrain("monday")
    assert again == said | {"stages": dict.fromkeys(said["stages"], "kept")}
    assert files(desk.home) == before

    # A night that learns nothing: data and champion of the night before are found by themselves.
    refused = desk.retrain("tuesday", *NOTHING, code=3)
    assert (refused["error_type"], refused["champion"]) == ("GateRefused", "0002")
    assert "version 0002 stays the champion of router" in refused["error"]
    assert Path(refused["report"]).is_file()
    assert desk.answers() == ("0002", {"printing"})
    assert [process.pid for process in desk.endpoint.replicas()] == replicas
