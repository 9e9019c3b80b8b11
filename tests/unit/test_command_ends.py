"""How a command ends: its exit code, its last line, what it says of an error, and its help."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster import command
from cluster.errors import DataError, GateRefused, SettingError, SwitchyardError
from cluster.flags import flags_of
from tests.conftest import last_json
from tests.unit.commanding import Sample, help_of


def ends(
    action: Callable[[Sample], Mapping[str, Any]], capsys: pytest.CaptureFixture[str], *argv: str
) -> tuple[Any, dict[str, object], str]:
    """(exit code, JSON of the last line, standard error)."""
    with pytest.raises(SystemExit) as left:
        command.run(
            Sample, action, program="a.program", summary="What it does.", argv=["--output=o", *argv]
        )
    said = capsys.readouterr()
    return left.value.code, last_json(said.out), said.err


def fails(error: BaseException) -> Callable[[Sample], Mapping[str, Any]]:
    def action(_: Sample) -> Mapping[str, Any]:
        print("half of the work is done")
        raise error

    return action


def test_a_command_that_works_ends_with_0_and_its_result_as_the_last_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def action(settings: Sample) -> Mapping[str, Any]:
        print("a table for people")
        return {"output": settings.output, "path": Path("/a"), "label": "Zürich\n二"}

    code, result, errors = ends(action, capsys)
    assert code == 0
    assert result == {"output": "o", "path": "/a", "label": "Zürich\n二"}
    assert errors == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("The file holds no rows."), 2),
        (SettingError("This cannot be."), 2),
        (GateRefused("macro-F1 is 0.4, below 0.5."), 3),
        (SwitchyardError("The endpoint did not start."), 1),
    ],
)
def test_an_error_of_ours_ends_with_its_own_code_and_without_a_traceback(
    error: SwitchyardError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    left, result, errors = ends(fails(error), capsys)
    assert left == code
    assert result == {"error": str(error), "error_type": type(error).__name__}
    assert errors == f"a.program: {error}\n"


def test_the_last_line_has_the_facts_that_come_with_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = GateRefused("It is worse.", passed=False, checks=[{"name": "labels"}])
    left, result, errors = ends(fails(error), capsys)
    assert left == 3
    assert result == {
        "error": "It is worse.",
        "error_type": "GateRefused",
        "passed": False,
        "checks": [{"name": "labels"}],
    }
    assert errors == "a.program: It is worse.\n"


def test_an_error_of_ours_is_found_inside_what_others_wrapped_around_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrapped = RuntimeError("a worker died")
    wrapped.__cause__ = DataError("Row 3 has no label.")
    left, result, errors = ends(fails(wrapped), capsys)
    assert (left, result["error"]) == (2, "Row 3 has no label.")
    assert "Traceback" not in errors


def test_a_fault_ends_with_1_and_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    left, result, errors = ends(fails(ZeroDivisionError("a fault")), capsys)
    assert left == 1
    assert result == {"error": "a fault", "error_type": "ZeroDivisionError"}
    assert "Traceback (most recent call last)" in errors


def test_a_wrong_setting_ends_with_2_before_anything_is_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    left, result, errors = ends(fails(AssertionError("done")), capsys, "--optim.lr", "-1")
    assert (left, result["error_type"]) == (2, "SettingError")
    assert errors.startswith("a.program: optim.lr = '-1' is not allowed")


def test_an_interrupt_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    left, result, errors = ends(fails(KeyboardInterrupt()), capsys)
    assert (left, result["error"]) == (130, "Interrupted.")
    assert "Traceback" not in errors


def test_flags_are_read_from_the_command_line_where_none_are_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["a", "--output", "from-argv"])
    with pytest.raises(SystemExit) as left:
        command.run(Sample, lambda s: {"output": s.output}, program="a.program", summary="")
    assert left.value.code == 0
    assert json.loads(capsys.readouterr().out) == {"output": "from-argv"}


def test_help_ends_with_0_and_names_meaning_unit_default_and_choices(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = help_of(Sample, capsys, "It does 100% of the work.")
    assert "It does 100% of the work." in said
    assert "the folder that is made (required)" in said
    assert "--max-rows VALUE, --max_rows VALUE rows at most; none: all 100% (default: none)" in said
    assert "seconds to wait (default: 2.5)" in said
    assert "--kind fast|exact|none how it is done (default: fast)" in said
    assert "--column VALUE column, several times (default: text)" in said
    assert "--optim.lr VALUE peak learning rate, per step (default: 0.1)" in said
    assert "--config FILE.toml" in said
    assert "SWITCHYARD_GROUP__KEY" in said


def test_help_of_every_command_here_explains_every_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from cluster.local import Nothing, Up
    from cluster.submit import Submit
    from serve.deploy import Deploy
    from tuning.promote import Promote

    for settings in (Deploy, Promote, Submit, Up, Nothing):
        said = help_of(settings, capsys)
        for flag in flags_of(settings):
            meaning = " ".join((flag.field.description or "").split())
            assert meaning, flag.key
            assert f"--{flag.name}" in said
            assert f"{meaning} (required)" in said or f"{meaning} (default: " in said, flag.key
            if flag.key.endswith("_s"):
                assert "seconds" in meaning, flag.key
            if flag.key.endswith("_mib"):
                assert "MiB" in meaning, flag.key
