"""What becomes of each label, and where the cuts of each lie.

From counts alone: which labels are too rare, own no text or cannot be learned, and which cuts are
those of earlier data or new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cluster.errors import DataError
from jobs import splits
from jobs.data_settings import Split
from jobs.ranges import Ranges
from jobs.records import FIT
from jobs.sides import NO_TEXT, NO_TRAINING, RARE
from jobs.splits import TRAIN, Cuts, Mask


@dataclass(frozen=True)
class Labelling:
    """All labels that occur, in sorted order, and what becomes of each.

    `verdicts` int8 [labels]: FIT, or why its rows leave. `whole` bool [labels]: too rare to be
    divided.
    """

    names: tuple[str, ...]
    verdicts: splits.Sides
    whole: Mask

    def named(self, which: Mask) -> list[str]:
        return [name for name, is_so in zip(self.names, which, strict=True) if is_so]


def judge(
    names: tuple[str, ...],
    owned: splits.Ints,
    trainable: splits.Ints,
    split: Split,
    *,
    source: str,
    given: str,
) -> Labelling:
    """What becomes of each label; DataError where what is left cannot make a classifier.

    `owned` and `trainable` int64 [labels]: distinct texts, and those that did not come as
    validation or test texts. `source` and `given` say in messages where rows and given rows lie.
    """
    rare = (owned > 0) & (owned < split.min_rows)
    verdicts = np.full(len(names), FIT, np.int8)
    verdicts[owned == 0] = NO_TEXT
    if split.rare == "drop":
        verdicts[rare] = RARE
    labelling = Labelling(names, verdicts, rare)
    if rare.any() and split.rare == "error":
        raise DataError(
            f"{_some(labelling.named(rare))} fewer than split.min_rows = {split.min_rows} distinct "
            "texts. Set --split.rare to keep-in-train or drop, or --split.min_rows lower."
        )
    left = labelling.named(verdicts == FIT)
    if len(left) < 2:
        has = f"one label only, {left[0]!r}" if left else "no label with a text of its own"
        raise DataError(
            f"{source} holds {has}: a classifier needs at least two. Is --columns.label right?"
        )
    unseen = (verdicts == FIT) & (trainable == 0)
    if unseen.any():
        raise DataError(
            f"{given} labels that training has never seen: "
            f"{', '.join(map(repr, labelling.named(unseen)[:5]))}. Add training rows for them, or "
            "drop them with --labels.map."
        )
    return labelling


def without_training(labelling: Labelling, counts: splits.Ints, *, source: str) -> Labelling:
    """Labels all of whose texts stand in validation or test leave: nothing could teach them.

    Only the cuts of earlier data can bring that about, for a label of a few new texts. `counts`
    int64 [labels, 3]: distinct texts per split.
    """
    verdicts = labelling.verdicts.copy()
    verdicts[(verdicts == FIT) & (counts[:, TRAIN] == 0)] = NO_TRAINING
    left = labelling.named(verdicts == FIT)
    if len(left) < 2:
        raise DataError(
            f"{source} holds texts to train on for {len(left)} label(s) only: a classifier needs "
            "at least two. Give more rows, or prepare without --split.like."
        )
    return Labelling(labelling.names, verdicts, labelling.whole)


def _some(labels: Sequence[str]) -> str:
    shown = ", ".join(map(repr, labels[:5]))
    more = f" and {len(labels) - 5:,} more" if len(labels) > 5 else ""
    return f"{len(labels):,} {'label has' if len(labels) == 1 else 'labels have'} ({shown}{more})"


def choose_cuts(
    labelling: Labelling,
    ranges: Ranges,
    *,
    validation: float,
    test: float,
    earlier: Mapping[str, tuple[int, int]],
    renamed: Mapping[str, str],
) -> Cuts:
    """The cuts of every label: those of `earlier` data (test, validation) where it has them, else
    new ones for these shares."""
    old = _earlier_cuts(labelling, validation, test, earlier, renamed)
    free = ranges.summary.free.copy()
    # A label that the cuts of old already divide needs no new ones.
    free[list(old)] = 0
    free[labelling.verdicts != FIT] = 0
    cuts = splits.choose_cuts(
        free, ranges.find, validation=validation, test=test, whole=labelling.whole
    )
    for c, (old_test, old_validation) in old.items():
        cuts.test[c], cuts.validation[c] = old_test, old_validation
    return cuts


def _earlier_cuts(
    labelling: Labelling,
    validation: float,
    test: float,
    earlier: Mapping[str, tuple[int, int]],
    renamed: Mapping[str, str],
) -> dict[int, tuple[int, int]]:
    """Class → cuts of the earlier data, under today's names.

    A label that was too rare then to stand in every split has no cuts that could be used again:
    its old texts stay where they were, and its new ones are divided anew.
    """
    known = dict(earlier)
    for old, cuts in sorted(earlier.items()):
        known.setdefault(renamed.get(old, old), cuts)
    found = {}
    for c, name in enumerate(labelling.names):
        of_test, of_validation = known.get(name, (0, 0))
        lacks = (test > 0 and of_test == 0) or (validation > 0 and of_validation <= of_test)
        if name in known and not lacks and not labelling.whole[c]:
            found[c] = (of_test, of_validation)
    return found
