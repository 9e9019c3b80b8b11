"""Whether a model may take the place of the champion: a decision on figures alone.

It is there against harm. A candidate that is as good as the champion passes, as it usually knows
newer data; one that is worse does not, and the reason is said with its figures. Checked are

- `rows`: there are enough rows that neither model was trained on;
- `accuracy`: the champion is not right on more rows beyond chance (McNemar, exact, 5%);
- `macro_f1`: its 95% interval of the difference, over resampled rows, does not lie below zero;
- `class_recall`: no class loses more than `max_class_drop` of its recall;
- `rare_classes`: nor does the mean recall of the rarest third of the classes;
- `calibration`: what scores promise holds, within `max_calibration_error`;
- `labels`: a label that only one of the two knows was accepted.

Without a champion: `rows`, `calibration`, and `baseline`: a macro-F1 beyond chance better than that
of always giving the most frequent label (accuracy would call a router good that knows one team).

**Chance.** A class of five rows loses 0.2 of its recall with one row, and a class loses a row or
two whenever a model is trained again. Taken to the letter, "no class may lose more than 0.05" would
refuse 71 of 100 equally good models at 20 classes of 20 rows, and all of them at 77 classes of 13
(simulated: 3% of the right answers change for the worse, as many for the better). A gate that
always says no is soon opened by hand, and then guards nothing. So a class counts as losing where
the loss is over the limit and beyond chance: the exact one-sided McNemar test on its own rows at
5%, not adjusted for the number of classes, since it is protection that is asked for. That refuses
less than 1 of 100 equal models in both cases, and 10 at 77 classes of 40 rows (48 where 6% of the
right answers change: there a wider limit is called for); a class of 13 rows that loses 6 of 10
right answers is caught 88 times in 100. Three or four rows can never be beyond chance: of them a
class counts as losing if it has no row left of three or more that were right.
Classes smaller than that are judged together with the other rare ones. What is over the limit and
within chance is named all the same. `strict` takes the limits to the letter.
"""

from dataclasses import asdict, dataclass
from typing import Any

from tuning import checks
from tuning.checks import Check, Figures, Limits


@dataclass(frozen=True)
class Verdict:
    """All checks; it passes where every one does."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def in_words(self) -> str:
        """Why not, or what it passed with, in one paragraph."""
        return " ".join(check.words for check in self.checks if check.passed == self.passed)

    def plain(self) -> list[dict[str, Any]]:
        return [asdict(check) for check in self.checks]


def first(found: Figures, limits: Limits) -> Verdict:
    """The verdict where there is no champion yet.

    `found`: rows, calibration_error, intervals of `metrics.json`, and `baseline`: a comparison
    (`jobs.comparison.compare`) with always giving the most frequent label.
    """
    enough = checks.enough(found["rows"], limits)
    if not enough.passed:
        return Verdict((enough,))
    return Verdict((enough, checks.baseline(found), checks.calibration(found, None, limits)))


def against(found: Figures, other: Figures, limits: Limits) -> Verdict:
    """The verdict against the champion.

    `found` is of the candidate on all its test rows: calibration_error and its interval. `other`
    is the comparison on the rows that neither was trained on and whose label both know
    (`jobs.comparison.compare`), with `calibration_error` of the champion there, `rare_labels`,
    `absent_labels` (known to both, without a row), `only_candidate` and `only_champion` (labels),
    and `left_out` (rows).
    """
    labels = checks.labels(other, limits)
    enough = checks.enough(other["rows"], limits, other["left_out"])
    if not enough.passed:
        return Verdict((enough, labels))
    return Verdict(
        (
            enough,
            checks.accuracy(other),
            checks.macro_f1(found, other),
            checks.class_recall(other, limits),
            checks.rare_classes(other, limits),
            checks.calibration(found, other["calibration_error"], limits),
            labels,
        )
    )
