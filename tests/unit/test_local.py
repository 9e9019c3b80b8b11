"""The parts of `cluster.local` that start nothing."""

import json
import os
import socket
import stat
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from cluster import local, raylets, secret
from cluster import state as state_module
from cluster.errors import ResourceError, SettingError, StorageError
from tests.conftest import last_json

STATE = {
    "address": "127.0.0.1:6379",
    "dashboard": "http://127.0.0.1:1",  # nothing listens there
    "temp": "/tmp/sy-there-is-no-such-cluster",
    "nodes": 1,
    "token": None,
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no token from outside."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return folder


def remember(**values: Any) -> dict[str, Any]:
    state = STATE | values
    state_module.state_file().parent.mkdir(exist_ok=True)
    state_module.state_file().write_text(json.dumps(state))
    return state


@pytest.fixture
def dashboard() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """(address, (route, authorization) of every request) of a dashboard without a cluster."""
    seen: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers["Authorization"]))
            nodes = [{"raylet": {"state": state}} for state in ("ALIVE", "DEAD", "ALIVE")]
            answers = {
                "/api/version": {"session_name": "session_latest"},  # there is no link of that name
                "/nodes?view=summary": {"data": {"summary": [*nodes, {}]}},
            }
            found = answers.get(self.path)
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(b"<html>" if found is None else json.dumps(found).encode())

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ends(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as left:
        local.main(list(argv))
    said = capsys.readouterr()
    return left.value.code, said.out, said.err


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",)])
def test_without_a_verb_the_verbs_are_shown(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = ends(capsys, *argv)
    assert code == 0
    for verb in ("up --nodes", "status", "logs --job", "down"):
        assert f"cluster.local {verb}" in out


def test_an_unknown_verb_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = ends(capsys, "start")
    assert code == 2
    assert errors == "cluster.local: 'start' is not one of up, status, logs, down.\n"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("up", "--nodes", "0"), "nodes = '0' is not allowed"),
        (("up", "--nodes", "17"), "nodes = '17' is not allowed"),
        (("up", "--cpus-per-node", "0"), "cpus_per_node = '0' is not allowed"),
        (("up", "--dashboard-port", "65536"), "dashboard_port = '65536' is not allowed"),
        (("up", "--node", "2"), "Did you mean --nodes"),
        (("down", "--nodes", "2"), "--nodes is not a setting of python -m cluster.local down"),
    ],
)
def test_a_wrong_flag_starts_nothing(
    argv: tuple[str, ...], says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = ends(capsys, *argv)
    assert code == 2
    assert says in str(last_json(out)["error"])
    assert list(here.iterdir()) == []


def test_where_nothing_was_started_status_and_down_say_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, errors = ends(capsys, "status")
    assert (code, last_json(out)) == (0, {"up": False})
    assert "python -m cluster.local up" in errors
    code, out, errors = ends(capsys, "down")
    assert (code, last_json(out)) == (0, {"ended": 0})
    assert "No cluster was started from this folder" in errors


def test_what_was_written_down_is_read_again() -> None:
    assert state_module.read_state() is None
    state = remember(nodes=3)
    assert state_module.read_state() == state


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "null"])
def test_a_state_file_that_holds_no_state_is_refused_by_name(text: str) -> None:
    remember()
    state_module.state_file().write_text(text)
    with pytest.raises(StorageError, match=r"cluster\.json cannot be read"):
        state_module.read_state()


def test_down_forgets_a_cluster_that_has_died(capsys: pytest.CaptureFixture[str]) -> None:
    remember()
    code, out, _ = ends(capsys, "down")
    assert (code, last_json(out)) == (0, {"ended": 0})
    assert state_module.read_state() is None


def test_a_dead_dashboard_does_not_answer() -> None:
    assert state_module.answers(remember()) is False


def test_a_dashboard_is_asked_with_the_token_of_the_state_or_of_the_environment(
    dashboard: tuple[str, list[tuple[str, str | None]]],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, seen = dashboard
    (here / "token").write_text("from-the-file\n")
    state = remember(dashboard=address, token=str(here / "token"))
    assert state_module.answers(state) is True
    assert state_module.alive_nodes(state) == 2
    monkeypatch.setenv("RAY_AUTH_TOKEN", "from-outside")
    assert state_module.answers(state) is True
    assert seen == [
        ("/api/version", "Bearer from-the-file"),
        ("/nodes?view=summary", "Bearer from-the-file"),
        ("/api/version", "Bearer from-outside"),
    ]
    assert state_module.get(state, "/nowhere") is None


def test_a_cluster_whose_token_is_gone_does_not_answer(
    dashboard: tuple[str, list[tuple[str, str | None]]], here: Path
) -> None:
    state = remember(dashboard=dashboard[0], token=str(here / "away"))
    assert state_module.answers(state) is False


def test_status_and_up_report_the_cluster_that_is_up(
    dashboard: tuple[str, list[tuple[str, str | None]]], capsys: pytest.CaptureFixture[str]
) -> None:
    state = remember(dashboard=dashboard[0])
    expected = {"up": True, "address": state["address"], "dashboard": dashboard[0], "nodes": 1}
    code, out, _ = ends(capsys, "status")
    found = last_json(out)
    assert (code, {key: found[key] for key in expected}) == (0, expected)
    assert (len(found["alive"]), found["jobs"], found["endpoints"]) == (2, [], [])
    assert "2 of 1 are up" in out
    assert f"export RAY_API_SERVER_ADDRESS={dashboard[0]}" in out
    code, out, errors = ends(capsys, "up")
    assert (code, last_json(out)) == (0, expected)
    assert "up already" in errors


def test_up_with_another_number_of_nodes_asks_for_down_first(
    dashboard: tuple[str, list[tuple[str, str | None]]],
) -> None:
    remember(dashboard=dashboard[0])
    with pytest.raises(SettingError, match=r"nodes = 1 is up already, and 2 was asked.*down"):
        local.up(local.Up(nodes=2))


def test_a_client_needs_the_address_and_the_mode() -> None:
    assert state_module.client_environment(STATE) == {
        "RAY_AUTH_MODE": "token",
        "RAY_API_SERVER_ADDRESS": STATE["dashboard"],
    }


def test_a_token_is_made_once_for_this_user_alone(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = here / "deep" / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert secret.ensure_token() == path
    made = path.read_text()
    assert len(made) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret.ensure_token() == path
    assert path.read_text() == made


def test_a_token_that_others_can_read_is_kept_from_them(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = here / "token"
    path.write_text("as Ray makes it")
    path.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert secret.ensure_token() == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "as Ray makes it"


def test_a_token_that_cannot_be_changed_is_taken_as_it_is(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = here / "token"
    path.write_text("a mounted secret")
    path.chmod(0o444)

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "chmod", refuse)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert secret.ensure_token() == path


def test_a_folder_in_the_place_of_the_token_is_refused_and_left_as_it_is(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.chmod(0o755)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(here))
    with pytest.raises(SettingError, match="which is no file"):
        secret.ensure_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "")
    monkeypatch.setenv("HOME", str(here))
    assert secret.ensure_token() == here / ".ray" / "auth_token", "an empty path is none"
    assert stat.S_IMODE(here.stat().st_mode) == 0o755


def test_of_two_that_make_a_token_at_once_the_first_counts(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = here / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))

    def beaten(_: int) -> str:
        path.write_text("first")
        return "second"

    monkeypatch.setattr(secret.secrets, "token_hex", beaten)
    assert secret.ensure_token() == path
    assert path.read_text() == "first"
    assert [each.name for each in here.iterdir() if each.name.startswith("token")] == ["token"]


def test_a_token_that_cannot_be_written_is_said_in_a_sentence(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "file").touch()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(here / "file" / "token"))
    with pytest.raises(StorageError, match=r"cannot be written to .*RAY_AUTH_TOKEN_PATH"):
        secret.ensure_token()


def test_a_token_in_the_environment_is_left_there(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(here / "token"))
    assert secret.ensure_token() is None
    assert list(here.iterdir()) == []


def test_a_port_that_was_asked_for_and_is_in_use_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=f"--dashboard-port {port} is in use"):
            raylets.dashboard_port(port)
    assert raylets.dashboard_port(port) == port


def test_every_node_has_a_log_and_ports_of_its_own_and_no_path_of_this_process(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(raylets.subprocess, "Popen", lambda _, **kept: started.append(kept))
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    for name in ("head", "node-1"):
        raylets.launch(here, name, [])
    assert sorted(path.name for path in here.glob("*.log")) == ["head.log", "node-1.log"]
    for port in ("METRICS_PORT", "STATS_PORT"):  # of their fronts; Ray itself parts the files
        assert len({kept["env"][f"RAY_SERVE_HAPROXY_{port}"] for kept in started}) == 2
    for kept in started:
        environment = kept["env"]
        assert "RAY_ADDRESS" not in environment
        assert "PYTHONPATH" not in environment
        assert environment[raylets.MARK].startswith(f"{here}/")
        assert environment["PATH"].split(os.pathsep)[0] == str(Path(raylets.sys.executable).parent)
        assert environment["RAY_AUTH_MODE"] == "token"


def test_an_ended_cluster_leaves_neither_its_folder_nor_the_private_one_around_it(
    tmp_path: Path,
) -> None:
    temp = tmp_path / "there" / "sy-0" / "r"
    temp.mkdir(parents=True)
    (temp / "node-0.log").write_text("it ran\n")
    raylets.end(str(temp))
    assert list((tmp_path / "there").iterdir()) == []


def test_what_else_lies_beside_the_folder_of_a_cluster_stays(tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "sy-0").mkdir(parents=True)
    (there / "notes").write_text("mine\n")
    raylets.end(str(there / "sy-0"))
    assert [path.name for path in there.iterdir()] == ["notes"]
