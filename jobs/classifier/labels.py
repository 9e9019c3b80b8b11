"""The labels of a classifier: sorted once, and the position is the class id everywhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cluster.errors import DataError


@dataclass(frozen=True)
class Labels:
    """Distinct labels in sorted order."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if list(self.names) != sorted(set(self.names)):
            raise ValueError("labels must be distinct and sorted")

    @classmethod
    def of(cls, names: Iterable[str]) -> "Labels":
        return cls(tuple(sorted(set(names))))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def ids(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def encode(self, names: Sequence[str], *, where: str) -> npt.NDArray[np.int32]:
        """Class ids, shape [len(names)]; DataError naming the unknown labels found in `where`."""
        unknown = sorted(set(names) - self.ids.keys())
        if unknown:
            shown = ", ".join(repr(name) for name in unknown[:5])
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise DataError(
                f"{where} holds labels that training has never seen: {shown}{more}. Known are "
                f"{len(self)} labels; prepare training and evaluation data together, or drop "
                "those rows."
            )
        return np.array([self.ids[name] for name in names], dtype=np.int32)
