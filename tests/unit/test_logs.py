"""`cluster.local logs`: which logs there are, and the end of one; no cluster has to be up."""

import json
from pathlib import Path

import pytest

from cluster import local, logs
from cluster import state as state_module
from tests.conftest import last_json


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cluster that was started from the current one, and has died since."""
    monkeypatch.chdir(tmp_path)
    temp = tmp_path / "temp"
    (temp / "session_latest" / "logs" / "serve").mkdir(parents=True)
    for name, text in {
        "node-0.log": "head\n",
        "node-2.log": "second\n",
        "node-10.log": "tenth\n",
        "session_latest/logs/job-driver-raysubmit_aa.log": "".join(f"{n}\n" for n in range(200)),
        "session_latest/logs/job-driver-raysubmit_ab.log": "other\n",
        "session_latest/logs/serve/replica_switchyard_Replica_x.log": "loaded\n",
    }.items():
        (temp / name).write_text(text)
    state_module.state_file().parent.mkdir()
    state_module.state_file().write_text(json.dumps({"temp": str(temp), "nodes": 2}))
    return temp


def said(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as left:
        local.main(["logs", *flags])
    return left.value.code, capsys.readouterr().out


def test_without_a_flag_every_log_is_named_with_the_flag_that_shows_it(
    temp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = said(capsys)
    assert code == 0
    found = last_json(out)["logs"]
    assert isinstance(found, dict)
    assert list(found["node"]) == ["0", "2", "10"]
    assert set(found["job"]) == {"raysubmit_aa", "raysubmit_ab"}
    for kind in found.values():
        for name, path in kind.items():
            assert f" {name}  {path}\n" in out
            assert Path(path).is_file()
    assert f"All of them: {logs.folder({'temp': str(temp)})}" in out


def test_the_end_of_a_log_is_shown_by_its_name_or_how_that_begins(
    temp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = said(capsys, "--job", "raysubmit_aa", "--lines", "2")
    assert (code, out.splitlines()[:-1]) == (0, ["198", "199"])
    assert last_json(out) == {
        "log": f"{temp}/session_latest/logs/job-driver-raysubmit_aa.log"
    }  # fmt: skip
    assert said(capsys, "--node", "1")[1].startswith("tenth\n")
    assert said(capsys, "--endpoint", "replica")[1].startswith("loaded\n")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--job", "raysubmit_a"), "--job raysubmit_a is more than one; there is: raysubmit_a"),
        (("--node", "7"), "--node 7 has no log; there is: 0, 2, 10"),
        (("--node", "0", "--job", "raysubmit_aa"), "--node and --job: one log is shown"),
        (("--lines", "0"), "lines = '0' is not allowed"),
    ],
)
def test_what_is_not_there_or_not_one_is_refused_with_what_there_is(
    temp: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], says: str
) -> None:
    code, out = said(capsys, *flags)
    assert code == 2
    assert says in str(last_json(out)["error"])


def test_where_nothing_was_started_there_are_no_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out = said(capsys)
    assert (code, last_json(out)) == (0, {"logs": None})
