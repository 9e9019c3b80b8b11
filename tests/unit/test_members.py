"""Which nodes are started, and with what; nothing is."""

from pathlib import Path
from typing import Any

import pytest

from cluster import members, raylets
from cluster import state as state_module
from cluster.errors import ResourceError, SwitchyardError


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is written down of a cluster of three nodes; the current folder is empty."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    return {
        "address": "127.0.0.1:7001",
        "dashboard": "http://127.0.0.1:7002",
        "temp": str(tmp_path / "temp" / "r"),
        "nodes": 3,
        "cpus_per_node": 2,
    }


@pytest.fixture
def launched(written: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The flags of each node that was started, by its name; each of them is up at once."""
    found: dict[str, list[str]] = {}

    def launch(temp: Path, name: str, words: list[str]) -> None:
        (temp / f"{name}.log").touch()
        found[name] = words

    monkeypatch.setattr(raylets, "launch", launch)
    monkeypatch.setattr(raylets, "wait", lambda *_: None)
    return found


def test_a_new_cluster_is_written_down_and_its_nodes_join_the_first(
    written: dict[str, Any], launched: dict[str, list[str]]
) -> None:
    members.begin(written)
    assert state_module.read_state() == written
    assert list(launched) == ["node-0", "node-1", "node-2"]
    assert "--head" in launched["node-0"]
    assert "--dashboard-port=7002" in launched["node-0"]
    agents = set()
    for name, words in launched.items():
        assert "--node-ip-address=127.0.0.1" in words
        assert "--num-cpus=2" in words
        assert ("--address=127.0.0.1:7001" in words) == (name != "node-0")
        agents |= {word for word in words if word.startswith("--dashboard-agent-listen-port=")}
    assert len(agents) == 3, "each agent listens on a port of its own"


def test_only_what_is_missing_is_started_and_a_lost_node_keeps_its_log(
    written: dict[str, Any], launched: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    members.begin(written)
    launched.clear()
    for alive, started in ((3, []), (2, ["node-3"]), (1, ["node-4", "node-5"])):
        looks = iter([None, alive])  # no answer is no sign that nothing is alive
        monkeypatch.setattr(state_module, "alive_nodes", lambda _, looks=looks: next(looks))
        members.complete(written)
        assert list(launched) == started
        launched.clear()


def test_nothing_is_started_where_nobody_says_what_is_alive(
    written: dict[str, Any], launched: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "PATIENCE_S", 0.3)
    with pytest.raises(SwitchyardError, match="7002 does not say which nodes are alive"):
        members.complete(written)
    assert launched == {}


def test_a_start_that_fails_is_forgotten_and_its_logs_are_kept(
    written: dict[str, Any], launched: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(raylets, "wait", never)
    with pytest.raises(KeyboardInterrupt):
        members.begin(written)
    assert state_module.read_state() is None
    assert [path.name for path in members.logs(written)] == ["node-0.log"]


def test_a_dashboard_of_another_cluster_in_its_place_is_said(
    written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that are started at the same moment may find the same port free."""
    monkeypatch.setattr(state_module, "get", lambda *_: {"session_name": "session_of_another"})
    assert not state_module.answers(written)
    with pytest.raises(ResourceError, match=r"Another cluster took http://127\.0\.0\.1:7002"):
        members._has_nodes(written, 1)


def test_a_dashboard_that_begins_to_answer_is_this_clusters_own(
    written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks: the first is not to be held against it."""
    own = {"session_name": state_module.session_of(written)}
    nodes = {"data": {"summary": [{"raylet": {"state": "ALIVE"}}]}}
    replies = iter([None, own, None, own, nodes])
    monkeypatch.setattr(state_module, "get", lambda *_: next(replies))
    assert not members._has_nodes(written, 1)
    assert not members._has_nodes(written, 1), "what does not answer counts no nodes"
    assert members._has_nodes(written, 1)


def test_a_cluster_that_is_too_busy_to_answer_is_up_as_long_as_its_head_runs(
    written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_up(replies: list[bool], runs: bool) -> bool:
        looks = iter(replies)
        monkeypatch.setattr(state_module, "answers", lambda _: next(looks))
        monkeypatch.setattr(raylets, "head_runs", lambda _: runs)
        return members.is_up(written)

    assert is_up([False, False, True], runs=True)
    assert not is_up([False], runs=False)
    monkeypatch.setattr(members, "PATIENCE_S", 0.0)
    with pytest.raises(SwitchyardError, match="7002 has not answered for 0 s"):
        is_up([False, False], runs=True)
