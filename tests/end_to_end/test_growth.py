"""Autoscaling of a real endpoint: grows under load, shrinks in calm, and no request fails."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.endpoints import KEY, Endpoint, note, running, until
from tests.end_to_end.traffic import summary, traffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUICKLY = ("--autoscaling.upscale_delay_s", "0", "--autoscaling.downscale_delay_s", "2",
           "--autoscaling.target_ongoing_requests", "2", "--threads", "1")  # fmt: skip
MOST = 3


@pytest.fixture(scope="module")
def endpoint(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Endpoint]:
    with running(tmp_path_factory.mktemp("growth"), free_port(), cpus=4) as found:
        yield found


def deploy(endpoint: Endpoint, bundle: Path, fewest: int) -> dict[str, object]:
    keys = str(endpoint.home / "keys.txt")
    few = ("--autoscaling.min_replicas", str(fewest))
    return endpoint.deploy("--bundle", str(bundle), "--keys", keys, *few, *QUICKLY)


def test_replicas_follow_a_load_that_rises_and_falls(endpoint: Endpoint, tiny_bundle: Path) -> None:
    said = deploy(endpoint, tiny_bundle, 1)
    assert said["max_replicas"] == MOST, "one of the four CPUs stays free"
    assert len(endpoint.replicas()) == 1
    # So that it is the replica which is slow, and not the clients.
    with traffic(endpoint.url, KEY, clients=24, text="vpn is down again " * 8, texts=32) as heavy:
        grown = until(lambda: endpoint.serves(MOST), "growth", 180)
    with traffic(endpoint.url, KEY, clients=1) as light:
        shrunk = until(lambda: endpoint.serves(1), "shrinking under load", 180)
        mark = light.mark()
        until(lambda: len(light.since(mark)) >= 20, "answers of the one that is left")
    note(
        "autoscaling",
        {
            "seconds to 3": round(grown, 1),
            "seconds to 1": round(shrunk, 1),
            "rising": summary(heavy.calls),
            "falling": summary(light.calls),
        },
    )
    assert summary(heavy.calls)["failed"] == {}
    assert summary(light.calls)["failed"] == {}


def test_an_endpoint_may_rest_at_no_replica_and_wakes_for_a_request(
    endpoint: Endpoint, tiny_bundle: Path
) -> None:
    deploy(endpoint, tiny_bundle, 0)
    until(lambda: not endpoint.replicas(), "rest", 180)
    reply = httpx.post(
        f"{endpoint.url}/v1/classify",
        json={"texts": ["vpn is down"]},
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=120,
    )
    assert reply.status_code == 200
    assert len(endpoint.replicas()) >= 1
    note("from rest", {"seconds": round(reply.elapsed.total_seconds(), 2)})
