"""A path that every node must see, and nodes that come and go while it is looked for."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cluster import session
from cluster.errors import DataError, ResourceError

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
    monkeypatch.setattr(session, "SETTLE_S", 1.0)
    looks(monkeypatch, [node, {**node, "NodeID": GONE}])
    with pytest.raises(ResourceError, match=f"The node .* is up and takes no task.*{tmp_path}"):
        session.require_everywhere(str(tmp_path), "data")


@pytest.mark.parametrize("there", [True, False])
def test_a_node_that_takes_tasks_a_little_later_is_asked_again(
    there: bool, node: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, asked = session._ask_whether, list[str]()

    def at_first_in_vain(path: str, identity: str) -> Any:
        asked.append(identity)
        return ask(path, GONE if len(asked) == 1 else identity)

    monkeypatch.setattr(session, "_ask_whether", at_first_in_vain)
    looks(monkeypatch, [node, node])
    place = tmp_path if there else tmp_path / "absent"
    with nullcontext() if there else pytest.raises(DataError, match="is not on"):
        session.require_everywhere(str(place), "data")
    assert len(asked) == 3


def test_a_path_that_a_node_does_not_see_is_named_with_the_node(
    node: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks(monkeypatch, [node, node])
    with pytest.raises(DataError, match=r"--data .*absent is not on .*: with 2 nodes give a path"):
        session.require_everywhere(str(tmp_path / "absent"), "data")
