"""The settings of data, whoever reads it: which columns, what labels are called, how it is split,
and which of its rows are trained on.

The vocabulary is that of jobs.settings: the same dotted key wherever a setting is named.
"""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from cluster.command import Settings
from cluster.storage import Uri


class Columns(Settings):
    """Which columns of the source are read."""

    text: tuple[str, ...] = Field(
        ("text",),
        min_length=1,
        description="text column; give it several times to join several by one newline",
    )
    label: str = Field("label", description="label column (string or integer)")
    id: str | None = Field(None, description="id column, carried through; none: no ids")
    split: str | None = Field(
        "split",
        description="column that gives a row its split (train, validation, test), used where it "
        "is there; none: never",
    )


class LabelNames(Settings):
    """What labels are called."""

    map: Uri | None = Field(
        None,
        description="JSON object or CSV of two columns, old name to new name, for teams that were "
        "renamed, merged or closed; an empty new name drops the rows",
    )


class Split(Settings):
    """How prepared data is divided."""

    validation: float = Field(
        0.1, ge=0, lt=1, description="share of each label's distinct texts for validation (0-1)"
    )
    test: float = Field(
        0.1, ge=0, lt=1, description="share of each label's distinct texts for the test (0-1)"
    )
    seed: int = Field(0, ge=0, description="seed of the split")
    min_rows: int = Field(
        1, ge=1, description="labels with fewer distinct texts than this follow split.rare"
    )
    rare: Literal["keep-in-train", "drop", "error"] = Field(
        "keep-in-train",
        description="keep-in-train: all texts of such labels train; drop: their rows are "
        "rejected; error: nothing is prepared",
    )
    conflicts: Literal["keep", "majority", "drop"] = Field(
        "keep",
        description="rows of a text under several labels keep theirs, take the most frequent, or "
        "are rejected",
    )
    like: Uri | None = Field(
        None,
        description="earlier prepared data: its cuts are used again, so that no text changes "
        "sides when data grows",
    )

    @model_validator(mode="after")
    def _leave_training_rows(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError(
                f"split.validation and split.test add up to {self.validation + self.test:g}, "
                "which leaves nothing to train on; their sum must be below 1."
            )
        return self


class Data(Settings):
    """Which of the training rows take part."""

    fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of each label's training rows that is trained on, the same rows in "
        "every run, for a cheap first one (0-1)",
    )


class PreparedData(Data):
    """Where prepared data lies, and which of its training rows take part."""

    alone: ClassVar[str] = "uri"

    uri: Uri = Field(description="prepared data, made by jobs.prepare")
