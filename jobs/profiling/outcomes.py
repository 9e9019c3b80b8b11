"""What each balance strategy would leave of the training rows.

It asks `jobs.balance` for the plan of every strategy; it draws no row.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs import balance
from jobs.settings import Balance

Ints = npt.NDArray[np.int64]


def outcomes(train: Ints) -> list[dict[str, Any]]:
    """What each balance strategy leaves of classes with `train` rows; those of 0 stay at 0.

    Per choice of settings: name, settings (dotted keys), rows of an epoch, share (of the training
    rows; above 1 where rows are repeated), smallest and largest class after it, loss ("plain",
    "weighted" or "adjusted"), and per_class (rows of each class), None where all rows are kept.
    Undersampling is there with its defaults, strictly to the rarest class, and with classes up to
    ten times as large as the rarest, where these differ.
    """
    there = train > 0
    found: list[dict[str, Any]] = []
    seen: list[bytes] = []
    for settings in _choices():
        plan = balance.plan(settings, train[there])
        after = plan.rows_per_class
        given = settings.model_dump(include=settings.model_fields_set)
        if len(given) > 1 and after.tobytes() in seen:
            continue
        seen.append(after.tobytes())
        whole = bool((after == train[there]).all())
        loss = "plain" if settings.strategy == "none" or not whole else "adjusted"
        extra = "".join(f", {key} {value:g}" for key, value in given.items() if key != "strategy")
        found.append(
            {
                "name": settings.strategy + extra,
                "settings": {f"balance.{key}": value for key, value in given.items()},
                "rows": plan.rows,
                "share": plan.rows / int(train.sum()),
                "smallest": int(after.min()),
                "largest": int(after.max()),
                "loss": loss if plan.class_weights is None else "weighted",
                "per_class": None if whole else _spread(after, there),
            }
        )
    return found


def _spread(after: Ints, there: npt.NDArray[np.bool_]) -> list[int]:
    rows = np.zeros(len(there), dtype=np.int64)
    rows[there] = after
    return [int(count) for count in rows]


def _choices() -> Iterator[Balance]:
    for strategy in balance.STRATEGIES:
        yield Balance.model_validate({"strategy": strategy})
        if strategy == "undersample":
            yield Balance(strategy="undersample", min_rows=1)
            yield Balance(strategy="undersample", max_ratio=10)
