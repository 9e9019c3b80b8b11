"""What continuous integration runs, in which order, until when, and what it says of it."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import ci
from tests.ci import ENDED, FAILED, LEFT_OUT, PASSED, carry_out, in_turn, run_group, told
from tests.groups import QUICK, SETUP_MIN, SLOW, Group

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 45.0  # and no other time that is waited for
NUMBERS = [0, 1, 2, 57, 1_000_003, int("20ae8ab" * 5, 16)]


def python(code: str, name: str = "one", minutes: float = 1.0) -> Group:
    return Group(name, minutes, (sys.executable, "-c", code))


class Clock:
    """Time that passes only while a group runs, by its budget times a factor."""

    def __init__(self, minute: float = 0.0, factor: float = 1.0, **outcomes: str) -> None:
        self.seconds, self.factor, self.outcomes = minute * 60, factor, outcomes
        self.limits: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    def run(self, group: Group, limit_s: float) -> str:
        self.limits.append(limit_s)
        self.seconds += min(limit_s, group.minutes * 60 * self.factor)
        return self.outcomes.get(group.name, PASSED)


def names(done: Sequence[ci.Ran], *outcomes: str) -> list[str]:
    return [ran.group.name for ran in done if ran.outcome in outcomes]


def groups(*minutes: float) -> list[Group]:
    return [Group(f"g{k}", each, ("true",)) for k, each in enumerate(minutes)]


def test_every_slow_test_belongs_to_exactly_one_group() -> None:
    marked = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if "mark.slow" in path.read_text(encoding="utf-8") and path != Path(__file__)
    }
    named = [file for group in SLOW for file in group.files]
    assert sorted(named) == sorted(marked)
    assert all(group.command[-len(group.files) :] == group.files for group in SLOW)


def test_a_group_has_one_name() -> None:
    known = [group.name for group in (*QUICK, *SLOW)]
    assert len(set(known)) == len(known)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_group_is_in_every_order_once(number: int) -> None:
    assert sorted(g.name for g in in_turn(SLOW, number)) == sorted(g.name for g in SLOW)


@pytest.mark.parametrize("number", NUMBERS)
def test_three_commits_in_a_row_run_every_group_though_each_has_time_for_a_third(
    number: int,
) -> None:
    many = groups(*[5.0] * 8)
    ran: list[str] = []
    for commit in range(number, number + 3):
        clock = Clock(minute=46)  # the third group begins at 56, a fourth would at 61
        done = carry_out(in_turn(many, commit), clock.run, clock)
        assert len(names(done, PASSED)) == 3
        ran += names(done, PASSED)
    assert set(ran) == {group.name for group in many}


def test_what_was_left_out_comes_earlier_at_the_next_commit() -> None:
    for number in range(6):
        now, then = in_turn(SLOW, number), in_turn(SLOW, number + 1)
        due = len(SLOW[number % 3 :: 3])
        assert then[: len(now) - due] == now[due:]


def test_the_budgets_let_a_third_of_the_groups_begin_at_each_commit_and_the_last_one_end() -> None:
    before = SETUP_MIN + sum(group.minutes for group in QUICK)
    for number in range(3):
        due = SLOW[number::3]
        assert before + sum(group.minutes for group in due[:-1]) < ci.LAST_START_S / 60
    longest = max(group.minutes for group in (*QUICK, *SLOW))
    assert ci.LAST_START_S / 60 + longest < ci.END_S / 60


def test_nothing_starts_from_minute_60_on_and_what_is_left_out_is_named() -> None:
    clock = Clock(minute=40)
    done = carry_out(groups(10, 9.9, 5, 5), clock.run, clock)
    assert names(done, PASSED) == ["g0", "g1", "g2"]
    assert names(done, LEFT_OUT) == ["g3"]
    assert "Left out for want of time: g3." in told(done)
    assert "Nothing was left out." in told(done[:3])
    late = Clock(minute=60)
    assert names(carry_out(groups(1, 1), late.run, late), LEFT_OUT) == ["g0", "g1"]


def test_what_is_not_due_starts_until_minute_40_and_what_is_due_all_the_same() -> None:
    clock = Clock(minute=30)
    done = carry_out(groups(8, 4, 3, 1), clock.run, clock, due=1)
    assert names(done, PASSED) == ["g0", "g1"]
    assert names(done, LEFT_OUT) == ["g2", "g3"]
    late = Clock(minute=45)
    assert names(carry_out(groups(5, 1, 1), late.run, late, due=2), PASSED) == ["g0", "g1"]


def test_a_group_may_take_what_is_left_until_minute_80() -> None:
    clock = Clock(minute=50)
    carry_out(groups(5, 1), clock.run, clock)
    assert clock.limits == [30 * 60, 25 * 60]
    free = Clock(minute=200)
    assert names(carry_out(groups(5, 1), free.run, free, limited=False), PASSED) == ["g0", "g1"]


def test_a_group_that_fails_keeps_no_other_from_running_and_fails_the_run() -> None:
    clock = Clock(g0=FAILED)
    done = carry_out(groups(1, 1), clock.run, clock)
    assert [ran.outcome for ran in done] == [FAILED, PASSED]
    assert [ran.is_fault for ran in done] == [True, False]


def test_the_seconds_of_each_group_are_told_and_whether_they_are_within_its_budget() -> None:
    clock = Clock(factor=1.5, g1=ENDED)
    lines = told(carry_out(groups(2, 1), clock.run, clock)).splitlines()
    assert lines[2].split() == ["g0", "180", "120", "passed,", "over", "its", "budget"]
    assert "g1" in lines[3]
    assert "90       60  ended at the limit" in lines[3]


def test_the_number_is_that_of_commits_and_in_a_shallow_clone_the_hash() -> None:
    assert ci.number_of("57\n", "false\n", "20ae8ab\n") == 57
    assert ci.number_of("1\n", "true\n", "20ae8ab\n") == 0x20AE8AB


def test_a_command_passes_or_fails_by_its_exit_code() -> None:
    assert run_group(python("pass"), 60) == PASSED
    assert run_group(python("import sys; sys.exit(3)"), 60) == FAILED


@pytest.fixture
def at_the_limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """The time of a command is over as soon as a file is there."""

    def put(ready: Path) -> None:
        wait = subprocess.Popen.wait

        def wait_or_ready(self: Any, timeout: float | None = None) -> int:
            if timeout != LIMIT_S:
                return int(wait(self, timeout))
            limit = time.monotonic() + LIMIT_S
            while not ready.exists():
                assert time.monotonic() < limit
                assert self.poll() is None
                time.sleep(0.01)
            raise subprocess.TimeoutExpired(self.args, timeout)

        monkeypatch.setattr(subprocess.Popen, "wait", wait_or_ready)

    return put


def test_a_command_is_ended_at_the_limit_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    at_the_limit: Callable[[Path], None],
) -> None:  # fmt: skip
    ready = tmp_path / "ready"
    child = (
        "import pathlib, subprocess\n"
        "one = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "one.wait()"
    )
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\n"
        "time.sleep(600)"
    )
    monkeypatch.setattr(ci, "GRACE_S", 0.2)
    at_the_limit(ready)
    assert run_group(python(stubborn), LIMIT_S) == ENDED
    said = capfd.readouterr().out
    assert "=== one: ended at the limit of time" in said
    assert "processes left behind, and ended: 3" in said


def test_ctrl_c_comes_first_so_that_tests_take_down_what_they_put_up(
    tmp_path: Path, at_the_limit: Callable[[Path], None]
) -> None:
    polite = (
        "import pathlib, time\n"
        f"try:\n    pathlib.Path({str(tmp_path / 'ready')!r}).touch(); time.sleep(600)\n"
        f"finally:\n    pathlib.Path({str(tmp_path / 'down')!r}).touch()"
    )
    at_the_limit(tmp_path / "ready")
    assert run_group(python(polite), LIMIT_S) == ENDED
    assert (tmp_path / "down").exists()


def test_a_process_that_a_passed_group_left_is_ended(capfd: pytest.CaptureFixture[str]) -> None:
    leaves = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)"
    assert run_group(python(leaves), 60) == PASSED
    assert "processes left behind, and ended: 1" in capfd.readouterr().out


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Groups of one process each in place of the real ones; the last slow one runs some code."""

    def put(code: str) -> None:
        monkeypatch.setattr(ci, "QUICK", (python("print('quick')", "quick"),))
        monkeypatch.setattr(ci, "SLOW", (python("pass", "calm"), python(code, "other")))

    return put


def test_the_program_runs_all_groups_some_or_one_and_its_exit_code_is_theirs(
    stand_ins: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    stand_ins("raise SystemExit(1)")
    assert ci.main([]) == 1
    said = capfd.readouterr().out
    assert all(f"=== {name}: begins" in said for name in ("quick", "calm", "other"))
    assert ci.main(["--slow"]) == 1
    assert "quick" not in capfd.readouterr().out
    assert ci.main(["calm"]) == 0
    with pytest.raises(SystemExit):
        ci.main(["none"])
    assert "no group is called 'none'" in capfd.readouterr().err


def test_a_run_without_time_for_the_quick_tests_fails_and_one_without_for_slow_ones_does_not(
    stand_ins: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    stand_ins("pass")
    assert ci.main(["--began", "0"]) == 1
    assert "Left out for want of time: quick; " in capfd.readouterr().out
    assert not ci.Ran(SLOW[0], LEFT_OUT).is_fault


def test_the_script_of_continuous_integration_is_sound_bash() -> None:
    script = ROOT / ".ci" / "run"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert script.stat().st_mode & 0o111
