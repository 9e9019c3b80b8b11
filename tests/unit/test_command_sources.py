"""Where a command's settings come from: defaults, TOML, the environment and flags, in this order of
strength; a group whose name stands for one of its fields; and how settings are told again."""

import os
from collections.abc import Callable
from typing import ClassVar

import pytest
from pydantic import Field

from cluster import command
from cluster.errors import SettingError
from tests.unit.commanding import Sample, help_of, parse


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


# What was said, told again.


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
