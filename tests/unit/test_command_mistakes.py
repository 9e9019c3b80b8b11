"""Settings that are refused, in words that name the key, what is allowed and what was meant; and
variables that are warned of or passed over."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster import command
from cluster.errors import SettingError
from tests.unit.commanding import Sample, parse


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
        (("--really", "perhaps"), ("really = 'perhaps'", "it should be true or false.", "do it")),
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
