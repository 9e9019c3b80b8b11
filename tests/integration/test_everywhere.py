"""A path that every node must see, and nodes that come and go while it is looked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import session
from cluster.errors import DataError

GONE = "a" * 56  # the id of no node


@pytest.fixture
def node() -> dict[str, Any]:
    (found,) = session.nodes()
    return found


def looks(monkeypatch: pytest.MonkeyPatch, *lists: list[dict[str, Any]]) -> None:
    """What one look after the other finds; the last one from then on."""

    def each() -> Iterator[list[dict[str, Any]]]:
        yield from lists
        while True:
            yield lists[-1]

    found = each()
    monkeypatch.setattr(session, "nodes", lambda: next(found))


def test_a_node_that_goes_while_it_is_asked_is_not_waited_for(
    node: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks(monkeypatch, [node, {**node, "NodeID": GONE}], [node])
    session.require_everywhere(str(tmp_path), "data")


def test_a_node_that_stays_and_takes_no_task_is_an_error(
    node: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.exceptions import TaskUnschedulableError

    monkeypatch.setattr(session, "SETTLE_S", 1.0)
    looks(monkeypatch, [node, {**node, "NodeID": GONE}])
    with pytest.raises(TaskUnschedulableError):
        session.require_everywhere(str(tmp_path), "data")


def test_a_path_that_a_node_does_not_see_is_named_with_the_node(
    node: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks(monkeypatch, [node, node])
    with pytest.raises(DataError, match=r"--data .*absent is not on .*: with 2 nodes give a path"):
        session.require_everywhere(str(tmp_path / "absent"), "data")
