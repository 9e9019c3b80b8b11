"""What `tuning.promote` refuses before anything is looked at. No Ray is started."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import last_json
from tuning import promote

Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`tuning.promote` on an empty registry: exit code and last line."""

    def run(*flags: str) -> tuple[int, dict[str, Any]]:
        with pytest.raises(SystemExit) as left:
            promote.main(["--registry", str(tmp_path / "registry"), *flags])
        assert isinstance(left.value.code, int)
        assert not (tmp_path / "registry").exists()
        return left.value.code, last_json(capsys.readouterr().out)

    return run


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "--name is needed"),
        (("--name", "router"), "neither was given"),
        (("--name", "router", "--bundle", "/a", "--experiment", "/b"), "both were given"),
        (("--name", "router", "--rollback", "--bundle", "/a"), "leave out --bundle"),
        (("--name", "router", "--rollback", "--experiment", "/a"), "leave out --experiment"),
        (("--name", "router", "--rollback", "--dry-run"), "leave out --dry-run"),
        (("--name", "a/b", "--bundle", "/a"), "--name 'a/b' is not allowed"),
        (("--name", "router", "--bundle", "/a", "--max-class-drop", "2"), "max_class_drop = '2'"),
        (("--name", "router", "--bundle", "/a", "--min-rows", "0"), "min_rows = '0'"),
        (("--name", "router", "--bundle", "/nowhere/bundle"), "is no bundle"),
        (("--name", "router", "--rollback"), "has no router (empty)"),
    ],
)
def test_a_mistake_ends_with_one_clear_sentence(
    flags: tuple[str, ...], says: str, run: Run
) -> None:
    code, said = run(*flags)
    assert code == 2
    assert says in said["error"]


def test_a_registry_that_can_only_be_read_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        promote.main(["--registry", "hf://models/a", "--name", "router", "--rollback"])
    assert left.value.code == 2
    assert "hf:// can only be read" in str(last_json(capsys.readouterr().out)["error"])
