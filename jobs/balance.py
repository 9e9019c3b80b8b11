"""Balancing: from a strategy and the counts to numbers, and from numbers to rows.

Below this module no code knows a strategy's name. A balance is a choice of training and touches
the training rows alone; `data.fraction` comes before it.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from cluster.errors import DataError
from jobs.classifier.batches import Copies, Tokens
from jobs.classifier.text import salted
from jobs.settings import Balance

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# The salt of `data.fraction`; splits and draws have salts of 0 and above.
_SAMPLE_SALT = -1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What training does about unequal classes.

    `rows_per_class` int64 [classes]: rows of an epoch, repeats counted. `prior` float64 [classes]:
    the share of each class as training feels it; None where there is no such thing. With it, the
    softmax of the network's own logits estimates p(class | text) under that prior.
    `class_weights` float64 [classes] with mean 1 over the rows of an epoch, or None.
    `logit_offsets` float64 [classes], added to the logits in training alone, or None.
    `focal_gamma`: 0 where the loss is not focal. `redraw`: whether each epoch draws anew.
    `whole`: the ids of the classes that were too small to be a measure for the others.
    """

    rows_per_class: Ints
    prior: Floats | None
    class_weights: Floats | None = None
    logit_offsets: Floats | None = None
    focal_gamma: float = 0.0
    redraw: bool = True
    whole: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in an epoch."""
        return int(self.rows_per_class.sum())


def plan(settings: Balance, counts: Ints) -> Plan:
    """The numbers of a strategy for classes with `counts` training rows each.

    Classes without rows, which can only come from hand-made data, are an error: no strategy can
    teach them.
    """
    if (counts <= 0).any():
        raise DataError(
            f"{int((counts <= 0).sum())} labels have no training row. Prepare the data again: "
            "jobs.prepare keeps at least one text of every label for training."
        )
    make, _ = _STRATEGIES[settings.strategy]
    return make(settings, counts)


def idle(settings: Balance) -> list[str]:
    """The keys that were given although the strategy does not use them."""
    _, used = _STRATEGIES[settings.strategy]
    return sorted(settings.model_fields_set - {"strategy", *used})


def _none(settings: Balance, counts: Ints) -> Plan:
    """Every row once. Prior: the natural one."""
    return Plan(rows_per_class=counts, prior=_shares(counts))


def _undersample(settings: Balance, counts: Ints) -> Plan:
    """Large classes are cut. Prior: the shares of the rows that are left.

    No class keeps more than ⌊max_ratio · the smallest class of at least min_rows rows⌋. Where no
    class has min_rows rows, the rarest is the measure. Drummond and Holte, C4.5, class imbalance
    and cost sensitivity: why under-sampling beats over-sampling, 2003.
    """
    large = counts[counts >= settings.min_rows]
    measure = int(large.min() if large.size else counts.min())
    limit = min(int(counts.max()), math.floor(_exact(settings.max_ratio) * measure))
    rows = np.minimum(counts, limit)
    small = np.flatnonzero(counts < settings.min_rows) if large.size else np.zeros(0, np.int64)
    return Plan(
        rows_per_class=rows,
        prior=_shares(rows),
        redraw=settings.redraw,
        whole=tuple(small.tolist()),
    )


def _oversample(settings: Balance, counts: Ints) -> Plan:
    """Small classes are repeated. Prior: the shares of the rows, repeats counted.

    No class has fewer than ⌈the largest / max_ratio⌉ rows; its rows are repeated equally often,
    or once more than others. Buda, Maki and Mazurowski, A systematic study of the class imbalance
    problem in convolutional neural networks, 2018. min_rows has no say: to leave the smallest
    classes alone would be to leave out those that this is for; max_ratio limits the repeats.
    """
    lift = math.ceil(int(counts.max()) / _exact(settings.max_ratio))
    rows = np.maximum(counts, lift)
    return Plan(rows_per_class=rows, prior=_shares(rows), redraw=settings.redraw)


def _class_weights(settings: Balance, counts: Ints) -> Plan:
    """Rows weigh more where they are few. Prior: weight · count, as shares.

    Without beta a row of class c weighs N / (K · n_c): King and Zeng, Logistic regression in rare
    events data, 2001. With it, in proportion to (1 - β) / (1 - β^n_c), one over the effective
    number of samples: Cui et al., Class-balanced loss based on effective number of samples, 2019.
    """
    rows = counts.astype(np.float64)
    # 1 - β stands in every class and falls out as the mean is brought to 1.
    weights = 1 / rows if settings.beta is None else -1 / np.expm1(rows * math.log(settings.beta))
    felt = weights * rows
    return Plan(
        rows_per_class=counts,
        prior=_shares(felt),
        class_weights=weights * (rows.sum() / felt.sum()),
    )


def _focal(settings: Balance, counts: Ints) -> Plan:
    """Rows weigh less once they are learned: (1 - p)^γ. Prior: none, as the weight of a class
    moves with what the network knows. Lin et al., Focal loss for dense object detection, 2017."""
    return Plan(rows_per_class=counts, prior=None, focal_gamma=settings.gamma)


def _logit_adjustment(settings: Balance, counts: Ints) -> Plan:
    """τ · log of the natural shares π is added to the logits. Prior: π^(1 - τ), as shares.

    Adjusted logits learn p(text | class) · π, so that the network's own are left with
    p(text | class) · π^(1 - τ): even at τ = 1. Menon et al., Long-tail learning via logit
    adjustment, 2021; τ = 1 is balanced softmax, Ren et al., Balanced meta-softmax for long-tailed
    visual recognition, 2020.
    """
    log_shares = np.log(_shares(counts))
    left = (1 - settings.tau) * log_shares
    return Plan(
        rows_per_class=counts,
        prior=_shares(np.exp(left - left.max())),
        logit_offsets=settings.tau * log_shares,
    )


# What makes a strategy's plan, and which of the keys it uses.
_STRATEGIES: dict[str, tuple[Callable[[Balance, Ints], Plan], tuple[str, ...]]] = {
    "none": (_none, ()),
    "undersample": (_undersample, ("max_ratio", "min_rows", "redraw")),
    "oversample": (_oversample, ("max_ratio", "redraw")),
    "class-weights": (_class_weights, ("beta",)),
    "focal": (_focal, ("gamma",)),
    "logit-adjustment": (_logit_adjustment, ("tau",)),
    "balanced-softmax": (_logit_adjustment, ("tau",)),
}
STRATEGIES = tuple(_STRATEGIES)


def sampled(fraction: float, counts: Ints) -> Ints:
    """int64 [classes]: how many rows of each class `data.fraction` keeps.

    fraction · n_c rounded half up, but at least one row. Each class is rounded for itself: the
    method of largest remainders would hit the total more closely, but a class can lose a row to
    it as the fraction grows, and the smaller sample would not lie within the larger.
    """
    share = _exact(fraction)
    kept = [min(n, max(1, math.floor(share * n + Fraction(1, 2)))) for n in counts.tolist()]
    return np.array(kept, dtype=np.int64)


def sample(tokens: Tokens, kept: Ints) -> Mask | None:
    """bool [rows]: exactly `kept[c]` rows of class c; None where these are all rows.

    They depend on texts, labels and numbers alone, not on a seed: runs of other seeds see the
    same rows, and the rows of a smaller fraction are among those of a larger one.
    """
    copies = _copies(tokens, kept, _SAMPLE_SALT, None)
    return None if copies is None else copies > 0


def draw(
    tokens: Tokens, rows_per_class: Ints, *, seed: int, epoch: int, among: Mask | None = None
) -> Copies | None:
    """int32 [rows]: how often an epoch takes each row; None where it takes every row once.

    Exactly `rows_per_class[c]` rows of class c, repeats counted, out of the rows `among`. Within
    a class the numbers differ by at most one, and the larger ones go to the rows whose text ids
    come first in a permutation seeded by (seed, epoch): the draw does not depend on how files
    were cut, and other rows get their turn in the next epoch.
    """
    return _copies(tokens, rows_per_class, _mix(seed, epoch), among)


def _copies(tokens: Tokens, wanted: Ints, salt: int, among: Mask | None) -> Copies | None:
    taken = np.ones(len(tokens.labels), np.bool_) if among is None else among
    counts = np.bincount(tokens.labels[taken], minlength=len(wanted))
    if (counts == wanted).all():
        return None if among is None else among.astype(np.int32)
    # By class; in it first the rows that can be taken, in the order of the permutation. Rows of
    # one text tie and stay in the order they lie in: they are the same to whoever trains on them.
    order = np.lexsort((salted(tokens.text_ids, salt), ~taken, tokens.labels))
    sizes = np.bincount(tokens.labels, minlength=len(wanted))
    rank_in_class = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    labels = tokens.labels[order]
    often, once_more = np.divmod(wanted, np.maximum(counts, 1))
    copies = np.zeros(len(order), dtype=np.int32)
    copies[order] = often[labels] + (rank_in_class < once_more[labels])
    copies[~taken] = 0
    return copies


def _mix(seed: int, epoch: int) -> int:
    return seed * 1_000_003 + epoch + 1


def _exact(number: float) -> Fraction:
    """The number as it was written: 2.3 · 100 is 230, where floats make it a little less."""
    return Fraction(str(number))


def _shares(values: Ints | Floats) -> Floats:
    return np.asarray(values / values.sum(), dtype=np.float64)


def histogram(names: list[str], before: Ints, after: Ints, width: int = 40) -> str:
    """The rows of each class as there are and as an epoch takes them, as lines of text."""
    order = np.argsort(-before, kind="stable")
    title = "training rows by class"
    longest = max(len(name) for name in (title, *names))
    top = int(max(before.max(), after.max()))
    marks = "█ taken ░ left out ▓ repeated"
    lines = [f"{title:<{longest}}  {'before':>9} {'after':>9}  {marks}"]
    for c in order:
        there = max(1, round(width * int(before[c]) / top))
        taken = max(1, round(width * int(after[c]) / top))
        bar = "█" * min(taken, there) + "░" * (there - taken) + "▓" * (taken - there)
        lines.append(f"{names[c]:<{longest}}  {before[c]:>9,} {after[c]:>9,}  {bar}")
    return "\n".join(lines)


def kept_whole(settings: Balance, names: Iterable[str]) -> str:
    """Who is too small for a balance to be measured by, as a line of text."""
    return f"Under balance.min_rows ({settings.min_rows}), so kept whole: {', '.join(names)}"
