"""Checkpoints that nobody needs are removed, also where one is still being written at first."""

from pathlib import Path
from unittest import mock

import pytest

from tuning import study
from tuning.experiment import Folder


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "_AGAIN_S", 0.0)


@pytest.mark.parametrize(("failures", "tries"), [(0, 1), (2, 3), (3, 3)])
def test_it_is_tried_again_and_said_where_it_was_in_vain(
    failures: int, tries: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = [OSError(number) for number in range(1, failures + 1)] + [None]
    with mock.patch.object(study, "thin_out", side_effect=ends) as tried:
        study.thin(Folder(str(tmp_path)), "macro_f1", tries=3)
    assert tried.call_count == tries
    said = capsys.readouterr().err
    assert ("cannot be removed yet: 3" in said) == (failures == 3)
    assert (said == "") == (failures < 3)
