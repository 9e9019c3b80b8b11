"""The settings of the gate, for every command that asks it."""

from typing import Literal

from pydantic import Field

from cluster.command import Settings
from tuning.checks import Limits


class GateSettings(Settings):
    """What may still pass, and how the rows are answered."""

    max_class_drop: float = Field(
        0.05, ge=0, le=1, description="recall that a class may lose at most, beyond chance (0-1)"
    )
    max_calibration_error: float | None = Field(
        None,
        ge=0,
        le=1,
        description="calibration error allowed at most (0-1); none: 0.05, or that of the champion "
        "where it has more",
    )
    min_rows: int = Field(20, ge=1, description="test rows that are needed to judge")
    accept_labels: bool = Field(
        False, description="labels that only the new model or only the champion knows are meant"
    )
    strict: bool = Field(
        False,
        description="hold the figures of these rows to max-class-drop and max-calibration-error "
        "as they are, also where chance may explain them",
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "fp32", description="number format of the answers; auto: bf16 where it is fast"
    )

    def limits(self) -> Limits:
        return Limits(
            max_class_drop=self.max_class_drop,
            max_calibration_error=self.max_calibration_error,
            min_rows=self.min_rows,
            accept_labels=self.accept_labels,
            strict=self.strict,
        )
