"""What `cluster.submit` counts, refuses and sends, with Ray's client played by the test."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster import submit
from cluster.errors import ResourceError, SettingError
from cluster.submit import Submit, check_size

KIB = 1024


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 100 KiB in four files; also where the process is."""
    found = tmp_path / "project"
    for name, size in {"a.py": 10, "b/c.py": 20, "b/d/e.bin": 30, "big.bin": 40}.items():
        fill(found / name, size)
    monkeypatch.chdir(found)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    return found


def fill(path: Path, kib: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * kib * KIB)


def test_the_size_is_that_of_all_files_at_every_depth(folder: Path) -> None:
    assert check_size(folder, 1) == 100 * KIB
    fill(folder / "b" / "d" / "more", 5)
    assert check_size(folder, 1) == 105 * KIB


@pytest.mark.parametrize(
    ("ignore", "rules", "left"),
    [
        (".gitignore", "big.bin", 60),
        (".rayignore", "big.bin", 60),
        (".gitignore", "*.bin", 30),
        (".rayignore", "b/", 50),
        (".rayignore", "/b/d/\n# a remark\n*.py", 40),
        (".gitignore", "*.bin\n!big.bin", 70),
        (".gitignore", "nothing-like-it", 100),
    ],
)
def test_what_is_ignored_is_not_counted(ignore: str, rules: str, left: int, folder: Path) -> None:
    text = f"{rules}\n"
    (folder / ignore).write_text(text)
    assert check_size(folder, 1) == left * KIB + len(text)


def test_both_ignore_files_count_together_and_in_folders_below(folder: Path) -> None:
    (folder / ".gitignore").write_text("big.bin\n")
    (folder / ".rayignore").write_text("a.py\n")
    (folder / "b" / ".rayignore").write_text("*.bin\n")
    rules = sum(path.stat().st_size for path in folder.rglob(".*ignore"))
    assert check_size(folder, 1) == 20 * KIB + rules


def test_too_much_is_refused_naming_the_five_largest_by_size(folder: Path) -> None:
    for number in range(5):
        fill(folder / "small" / f"{number}.txt", 1)
    limit = 100 / KIB  # MiB
    with pytest.raises(ResourceError) as refused:
        check_size(folder, limit)
    said = str(refused.value)
    assert str(folder) in said
    assert "--max-mib is 0.0976562" in said
    assert ".rayignore" in said
    named = [name for name in ("big.bin", "b/d/e.bin", "b/c.py", "a.py", "small/") if name in said]
    assert named == ["big.bin", "b/d/e.bin", "b/c.py", "a.py", "small/"]
    places = [said.index(name) for name in named]
    assert places == sorted(places)
    assert said.count(" MiB)") == 5


def test_exactly_as_much_as_allowed_is_sent(folder: Path) -> None:
    assert check_size(folder, 100 / KIB) == 100 * KIB
    with pytest.raises(ResourceError):
        check_size(folder, 99.99 / KIB)


class Client:
    """Ray's JobSubmissionClient, as far as it is used here."""

    def __init__(self, *, exit_code: int | None, status: str = "SUCCEEDED") -> None:
        self.info = SimpleNamespace(driver_exit_code=exit_code, status=status, message="stopped")
        self.sent: list[dict[str, Any]] = []

    def submit_job(self, **sent: Any) -> str:
        self.sent.append(sent)
        return "raysubmit_1"

    async def tail_job_logs(self, _: str) -> AsyncIterator[str]:
        for part in ("Reading\n", '{"rows"', ": 3}\n"):
            await asyncio.sleep(0)
            yield part

    def get_job_info(self, _: str) -> Any:
        return self.info


def send(monkeypatch: pytest.MonkeyPatch, client: Client, *argv: str) -> object:
    """The exit code of the command."""
    addresses: list[str] = []

    def connect(address: str) -> Client:
        addresses.append(address)
        return client

    monkeypatch.setattr(submit, "_client", connect)
    with pytest.raises(SystemExit) as left:
        submit.main(["--address", "http://head:8265", *argv])
    assert addresses in ([], ["http://head:8265"])
    return left.value.code


def test_the_command_is_sent_as_it_was_written_with_this_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client(exit_code=0)
    words = ["python", "-m", "jobs.train", "--column", "a b", "--", "it's"]
    assert send(monkeypatch, client, "--", *words) == 0
    (sent,) = client.sent
    assert sent["entrypoint"] == "python -m jobs.train --column 'a b' -- 'it'\"'\"'s'"
    assert sent["runtime_env"] == {"working_dir": str(folder)}
    said = capsys.readouterr()
    assert said.out == 'Reading\n{"rows": 3}\n'  # the job's own lines and nothing else
    assert "raysubmit_1" in said.err


@pytest.mark.parametrize(
    ("exit_code", "status", "expected"),
    [
        (0, "SUCCEEDED", 0),
        (3, "FAILED", 3),
        (2, "FAILED", 2),
        (None, "FAILED", 1),
        (None, "STOPPED", 1),
        (None, "SUCCEEDED", 0),
    ],
)
def test_the_command_ends_as_its_job_ended(
    exit_code: int | None,
    status: str,
    expected: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Client(exit_code=exit_code, status=status)
    assert send(monkeypatch, client, "--", "true") == expected
    assert len(client.sent) == 1


class Broken(Client):
    """One whose log breaks off, and which does not answer for a moment after it."""

    def __init__(self, *looks: str | Exception) -> None:
        super().__init__(exit_code=3)
        self.looks = iter(looks)

    async def tail_job_logs(self, _: str) -> AsyncIterator[str]:
        yield "Reading\n"
        raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")

    def get_job_info(self, _: str) -> Any:
        look = next(self.looks)
        if isinstance(look, Exception):
            raise look
        self.info.status = look
        return self.info

    def get_job_logs(self, _: str) -> str:
        return 'Reading\n{"rows": 3}\n'


def test_a_job_whose_log_breaks_off_is_waited_for_and_the_rest_of_it_is_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit, "LOOK_S", 0.0)
    client = Broken("RUNNING", ConnectionError("refused"), "RUNNING", "FAILED")
    assert send(monkeypatch, client, "--", "true") == 3
    said = capsys.readouterr()
    assert said.out == 'Reading\n{"rows": 3}\n'
    assert said.err.count("The log of job raysubmit_1 broke off") == 1


def test_the_end_of_a_job_counts_also_where_its_log_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(_: str) -> str:
        raise RuntimeError("its node is dead")

    client = Broken("FAILED")
    monkeypatch.setattr(client, "get_job_logs", gone)
    assert send(monkeypatch, client, "--", "true") == 3
    said = capsys.readouterr()
    assert said.out == "Reading\n"
    assert "the rest of the log of job raysubmit_1 cannot be read: its node is dead" in said.err


def test_a_job_whose_cluster_does_not_answer_any_more_is_given_up_in_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit, "LOOK_S", 0.0)
    monkeypatch.setattr(submit, "PATIENCE_S", 0.0)
    assert send(monkeypatch, Broken(*[ConnectionError("refused")] * 2), "--", "true") == 1
    said = capsys.readouterr()
    assert "It is not known how job raysubmit_1 ends: http://head:8265 does not say" in said.err
    assert "(refused). Ask again: ray job status raysubmit_1" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ((), "No command was given. Example: python -m cluster.submit -- python -m jobs.train"),
        (("--",), "No command was given"),
        (("python", "-m", "jobs.train"), "unrecognized arguments: python"),
        (("--max-mib", "0", "--", "true"), "max_mib = '0' is not allowed"),
        (("--max-mib", "0.01", "--", "true"), "big.bin"),
        (("--maxmib", "3", "--", "true"), "Did you mean --max-mib"),
        (("--working-dir", "away", "--", "true"), "--working-dir away is not a folder"),
        (("--working-dir", "a.py", "--", "true"), "--working-dir a.py is not a folder"),
    ],
)
def test_a_mistake_ends_with_2_and_one_sentence_before_anything_is_sent(
    argv: tuple[str, ...],
    says: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = Client(exit_code=0)
    assert send(monkeypatch, client, *argv) == 2
    said = capsys.readouterr()
    assert client.sent == []
    assert said.err.startswith("cluster.submit: ")
    assert says in said.err
    assert said.err.count("\n") == 1


def test_help_ends_with_0_and_says_what_comes_after_the_dashes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        submit.main(["--help"])
    assert left.value.code == 0
    assert "MiB before compression (default: 100.0)" in " ".join(capsys.readouterr().out.split())


def test_the_address_is_the_flag_or_else_the_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://variable:1")
    assert submit._address("http://flag:1") == "http://flag:1"
    assert submit._address(None) == "http://variable:1"


def test_without_a_cluster_it_says_how_to_start_or_name_one(folder: Path) -> None:
    with pytest.raises(SettingError, match=r"No cluster is known\. .*cluster\.local up.*--address"):
        submit.submit(Submit(), ["true"])
