"""The one runner behind every command: where settings come from, what is said, how it ends."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import Field, model_validator

from cluster import command
from cluster.errors import DataError, GateRefused, SettingError, SwitchyardError
from cluster.flags import flags_of
from tests.conftest import last_json


class Optim(command.Settings):
    """A group."""

    lr: float = Field(0.1, gt=0, le=1, description="peak learning rate, per step")
    head_lr: float | None = Field(0.5, gt=0, description="rate of the head; none: that of lr")


class Sample(command.Settings):
    """Settings of a command that there is only here."""

    output: str = Field(description="the folder that is made")
    max_rows: int | None = Field(None, ge=1, description="rows at most; none: all 100%")
    column: tuple[str, ...] = Field(("text",), min_length=1, description="column, several times")
    kind: Literal["fast", "exact", "none"] = Field("fast", description="how it is done")
    really: bool = Field(False, description="do it")
    wait_s: float = Field(2.5, ge=0, description="seconds to wait")
    optim: Optim = Optim()

    @model_validator(mode="after")
    def _never_both(self) -> "Sample":
        if self.really and self.kind == "exact":
            raise ValueError("really and kind exact exclude each other")
        return self


def parse(*argv: str, **environment: str) -> Sample:
    words = argv if "--output" in argv else ("--output", "o", *argv)
    return command.parse(Sample, words, "a.program", "What it does.", environment)


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_defaults_hold_where_nothing_is_said() -> None:
    found = parse()
    assert found == Sample(output="o")
    assert (found.column, found.kind, found.optim.head_lr) == (("text",), "fast", 0.5)


def test_toml_beats_defaults_environment_beats_toml_and_flags_beat_all(
    toml: Callable[[str], str],
) -> None:
    config = ("--config", toml("[optim]\nlr = 0.2\n"))
    environment = {"SWITCHYARD_OPTIM__LR": "0.3"}
    flag = ("--optim.lr", "0.4")
    assert parse().optim.lr == 0.1
    assert parse(*config).optim.lr == 0.2
    assert parse(*config, **environment).optim.lr == 0.3
    assert parse(*config, *flag, **environment).optim.lr == 0.4
    assert parse(*config, *flag).optim.lr == 0.4
    assert parse(*flag, **environment).optim.lr == 0.4


def test_sources_add_up_key_by_key_within_a_group(toml: Callable[[str], str]) -> None:
    config = toml("kind = 'exact'\noptim.lr = 0.2\n")
    found = parse("--config", config, "--max-rows", "7", SWITCHYARD_OPTIM__HEAD_LR="0.25")
    assert (found.optim.lr, found.optim.head_lr) == (0.2, 0.25)
    assert (found.kind, found.max_rows) == ("exact", 7)


def test_an_empty_environment_is_not_the_one_of_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWITCHYARD_OPTIM__LR", "0.9")
    assert parse().optim.lr == 0.1
    assert command.parse(Sample, ["--output", "o"], "p", "s").optim.lr == 0.9


def test_a_list_in_a_stronger_source_replaces_the_weaker_one_whole(
    toml: Callable[[str], str],
) -> None:
    config = ("--config", toml("column = ['a', 'b', 'c']\n"))
    assert parse(*config).column == ("a", "b", "c")
    assert parse(*config, SWITCHYARD_COLUMN=os.pathsep.join("de")).column == ("d", "e")
    assert parse(*config, "--column", "f").column == ("f",)


def test_a_list_flag_is_given_several_times_and_its_values_may_hold_anything() -> None:
    found = parse("--column", "a, b", "--column=c:d", "--column", "[1]", "--column=--odd")
    assert found.column == ("a, b", "c:d", "[1]", "--odd")


@pytest.mark.parametrize("flag", ["--max-rows", "--max_rows"])
def test_a_key_is_written_with_hyphens_or_underscores(flag: str) -> None:
    assert parse(flag, "5").max_rows == 5
    assert parse(f"{flag}=6").max_rows == 6


def test_the_dotted_key_of_a_group_is_the_flag_itself() -> None:
    assert parse("--optim.head_lr", "0.7").optim.head_lr == 0.7


@pytest.mark.parametrize(
    ("words", "value"),
    [((), False), (("--really",), True), (("--really", "false"), False), (("--really=1",), True)],
)
def test_a_switch_stands_alone_or_has_a_word(words: tuple[str, ...], value: bool) -> None:
    assert parse(*words).really is value


def test_none_means_none_where_that_is_allowed_and_is_a_word_elsewhere(
    toml: Callable[[str], str],
) -> None:
    assert parse("--optim.head_lr", "none").optim.head_lr is None
    assert parse(SWITCHYARD_OPTIM__HEAD_LR="none").optim.head_lr is None
    assert parse("--config", toml("optim.head_lr = 'none'\n")).optim.head_lr is None
    assert parse("--max-rows", "none").max_rows is None
    assert parse("--kind", "none").kind == "none"
    assert parse("--column", "none").column == ("none",)
    with pytest.raises(SettingError, match=r"optim\.lr = 'none' is not allowed"):
        parse("--optim.lr", "none")


def test_none_on_a_flag_takes_back_what_a_file_said(toml: Callable[[str], str]) -> None:
    config = toml("max_rows = 7\n")
    assert parse("--config", config).max_rows == 7
    assert parse("--config", config, "--max-rows", "none").max_rows is None


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--max-row", "--max-rows"),
        ("--optim.head-lr", "--optim.head_lr"),
        ("--optim.lrr", "--optim.lr"),
        ("--kinds", "--kind"),
    ],
)
def test_an_unknown_flag_is_named_with_the_one_that_was_meant(flag: str, meant: str) -> None:
    with pytest.raises(SettingError) as refused:
        parse(flag, "3")
    said = str(refused.value)
    assert said.startswith(f"{flag} is not a setting of python -m a.program. ")
    assert f"Did you mean {meant}" in said
    with pytest.raises(SettingError, match=f"^{flag} is not a setting"):
        parse(f"{flag}=3")


def test_a_flag_like_no_other_points_to_the_help() -> None:
    with pytest.raises(SettingError, match=r"--zzzz is not a setting .* See .* --help\.$"):
        parse("--zzzz")


def test_a_flag_is_not_completed_from_its_beginning() -> None:
    with pytest.raises(SettingError, match=r"--optim\.head is not a setting"):
        parse("--optim.head", "0.3")


def test_a_flag_without_its_value_is_refused() -> None:
    with pytest.raises(SettingError, match=r"--kind: expected one argument.* --help"):
        parse("--kind")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_row = 3\n", "max_row is not a setting of this command. Did you mean max_rows"),
        ("[optim]\nlrr = 3\n", "optim.lrr is not a setting of this command. Did you mean optim.lr"),
        ("zzzz = 3\n", "zzzz is not a setting of this command."),
        ("optim = 3\n", "optim = 3 is not allowed"),
        ("'optim.lr' = 3\n", "optim.lr is not a setting of this command."),
        ("max_rows = 0\n", "max_rows = 0 is not allowed: it should be greater than or equal to 1"),
        ("max_rows =\n", "is not valid TOML"),
    ],
)
def test_a_toml_file_with_a_mistake_is_refused_by_key(
    text: str, says: str, toml: Callable[[str], str]
) -> None:
    with pytest.raises(SettingError) as refused:
        parse("--config", toml(text))
    assert says in str(refused.value)


def test_a_toml_file_that_is_not_utf_8_or_not_there_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(b"kind = '\xff'\n")
    with pytest.raises(SettingError, match=r"bad\.toml is not valid TOML"):
        parse("--config", str(path))
    with pytest.raises(SettingError, match=r"away\.toml cannot be read: No such file"):
        parse("--config", str(tmp_path / "away.toml"))
    with pytest.raises(SettingError, match=r"cannot be read: Is a directory"):
        parse("--config", str(tmp_path))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--optim.lr", "2"), ("optim.lr = '2'", "less than or equal to 1", "per step", "0.1")),
        (("--optim.lr", "fast"), ("optim.lr = 'fast'", "a valid number", "per step")),
        (("--optim.lr", "nan"), ("optim.lr = 'nan'", "peak learning rate")),
        (("--wait-s", "inf"), ("wait_s = 'inf'", "a finite number", "seconds to wait", "2.5")),
        (("--max-rows", "1.5"), ("max_rows = '1.5'", "a valid integer", "rows at most")),
        (("--kind", "slow"), ("kind = 'slow'", "'fast', 'exact' or 'none'", "how it is done")),
        (("--really", "perhaps"), ("really = 'perhaps'", "a valid boolean", "do it")),
    ],
)
def test_a_wrong_value_is_told_with_its_key_what_is_allowed_and_the_default(
    words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    with pytest.raises(SettingError) as refused:
        parse(*words)
    said = str(refused.value)
    assert [part for part in parts if part not in said] == [], said
    assert "\n" not in said
    assert "pydantic" not in said


def test_a_wrong_value_from_the_environment_is_told_in_the_same_way() -> None:
    with pytest.raises(SettingError, match=r"^optim\.lr = '0' is not allowed: .*greater than 0"):
        parse(SWITCHYARD_OPTIM__LR="0")


def test_several_mistakes_are_told_at_once() -> None:
    with pytest.raises(SettingError) as refused:
        parse("--optim.lr", "0", "--max-rows", "0")
    assert "optim.lr = '0'" in str(refused.value)
    assert "max_rows = '0'" in str(refused.value)


def test_a_rule_about_two_settings_is_told_in_its_own_words() -> None:
    with pytest.raises(SettingError, match=r"really and kind exact exclude each other\.$"):
        parse("--really", "--kind", "exact")


def test_a_setting_that_is_needed_is_asked_for_with_its_meaning() -> None:
    with pytest.raises(SettingError, match=r"^--output is needed: the folder that is made\.$"):
        command.parse(Sample, [], "p", "s", {"HOME": "/"})


def test_a_foreign_variable_is_passed_over_and_an_unknown_one_of_ours_is_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = parse(SWITCHYARD_NOSUCH="1", SWITCHYARD_OPTIM__LR="0.3", OPTIM__LR="0.9")
    assert found.optim.lr == 0.3
    said = capsys.readouterr()
    assert "SWITCHYARD_NOSUCH is not a setting of this command" in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_an_unknown_variable_inside_a_group_is_refused() -> None:
    with pytest.raises(SettingError, match=r"optim\.lrr is not a setting .*optim\.lr"):
        parse(SWITCHYARD_OPTIM__LRR="0.3")


def test_settings_are_told_as_flat_dotted_plain_values() -> None:
    assert command.dotted(Sample(output="o")) == {
        "output": "o",
        "max_rows": None,
        "column": ["text"],
        "kind": "fast",
        "really": False,
        "wait_s": 2.5,
        "optim.lr": 0.1,
        "optim.head_lr": 0.5,
    }


def test_what_was_given_is_told_apart_from_defaults_and_can_be_built_again() -> None:
    settings = parse("--column", "text", "--optim.lr", "0.2", SWITCHYARD_MAX_ROWS="none")
    given = command.given(settings)
    assert given == {"output": "o", "max_rows": None, "column": ["text"], "optim.lr": 0.2}
    assert command.nested(given)["optim"] == {"lr": 0.2}
    assert command.build(Sample, command.nested(given)) == settings


def test_defaults_are_told_by_dotted_key_and_what_is_needed_has_none() -> None:
    found = command.defaults(Sample)
    assert found == command.dotted(parse()) | {"output": ...}


def test_settings_cannot_be_changed_once_made() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse().output = "elsewhere"  # type: ignore[misc]


# A group whose name alone stands for one of its fields.


class Source(command.Settings):
    """A group."""

    alone: ClassVar[str] = "uri"

    uri: str = Field(description="where the rows lie")
    fraction: float = Field(1.0, gt=0, le=1, description="share of the rows (0-1)")


class Reader(command.Settings):
    """Settings of a command that there is only here."""

    source: Source


def read(*argv: str, **environment: str) -> Reader:
    return command.parse(Reader, argv, "a.program", "What it does.", environment)


@pytest.mark.parametrize("flag", ["--source", "--source.uri"])
def test_the_name_of_a_group_alone_stands_for_its_first_concern(flag: str) -> None:
    assert read(flag, "/a").source == Source(uri="/a")
    assert read(flag, "/a", "--source.fraction", "0.1").source == Source(uri="/a", fraction=0.1)
    assert read("--source.fraction=0.1", f"{flag}=/a").source == Source(uri="/a", fraction=0.1)


def test_a_group_named_alone_is_added_to_by_stronger_sources(toml: Callable[[str], str]) -> None:
    alone, whole = toml("source = '/a'\n"), "[source]\nuri = '/b'\nfraction = 0.2\n"
    assert read("--config", alone).source == Source(uri="/a")
    found = read("--config", alone, SWITCHYARD_SOURCE__FRACTION="0.5").source
    assert found == Source(uri="/a", fraction=0.5)
    config = ("--config", toml(whole))
    assert read(*config).source == Source(uri="/b", fraction=0.2)
    assert read(*config, "--source", "/c").source == Source(uri="/c", fraction=0.2)
    assert read(*config, SWITCHYARD_SOURCE="/d").source == Source(uri="/d", fraction=0.2)


@pytest.mark.parametrize("name", ["SWITCHYARD_SOURCE", "SWITCHYARD_SOURCE__URI"])
def test_a_group_named_alone_may_come_from_the_environment_in_any_order(name: str) -> None:
    one, other = {name: "/a"}, {"SWITCHYARD_SOURCE__FRACTION": "0.5"}
    for environment in (one | other, other | one):
        assert read(**environment).source == Source(uri="/a", fraction=0.5)


def test_a_group_that_is_needed_is_asked_for_by_its_name() -> None:
    for words in ((), ("--source.fraction", "0.5")):
        with pytest.raises(SettingError, match=r"^--source is needed: where the rows lie\.$"):
            read(*words)


def test_a_group_named_alone_is_checked_and_told_like_others(toml: Callable[[str], str]) -> None:
    with pytest.raises(SettingError, match=r"source\.uri = 3 is not allowed"):
        read("--config", toml("source = 3\n"))
    with pytest.raises(SettingError, match=r"source\.nosuch is not a setting"):
        read("--config", toml("[source]\nuri = '/a'\nnosuch = 1\n"))
    assert Reader(source="/a") == Reader(source=Source(uri="/a"))  # type: ignore[arg-type]
    assert command.dotted(read("--source", "/a")) == {"source.uri": "/a", "source.fraction": 1.0}


def test_help_names_a_group_that_stands_for_a_field_by_both_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = help_of(Reader, capsys)
    assert "--source VALUE, --source.uri VALUE where the rows lie (required)" in said
    assert "--source.fraction VALUE share of the rows (0-1) (default: 1.0)" in said


# How a command ends.


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


def help_of(
    settings: type[command.Settings], capsys: pytest.CaptureFixture[str], summary: str = "It works."
) -> str:
    def action(_: Any) -> Mapping[str, Any]:
        raise AssertionError("--help did the work")

    with pytest.raises(SystemExit) as left:
        command.run(settings, action, program="a.program", summary=summary, argv=["--help"])
    assert left.value.code == 0
    return " ".join(capsys.readouterr().out.split())


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
