"""What the tests of the runner share: settings of a command that there is only here, made from
words and an environment, and the help of any settings."""

from collections.abc import Mapping
from typing import Any, Literal

import pytest
from pydantic import Field, model_validator

from cluster import command


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


def help_of(
    settings: type[command.Settings], capsys: pytest.CaptureFixture[str], summary: str = "It works."
) -> str:
    def action(_: Any) -> Mapping[str, Any]:
        raise AssertionError("--help did the work")

    with pytest.raises(SystemExit) as left:
        command.run(settings, action, program="a.program", summary=summary, argv=["--help"])
    assert left.value.code == 0
    return " ".join(capsys.readouterr().out.split())
