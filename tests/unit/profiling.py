"""Profiles of data that is made up: counts of rows by class and split, and a sample of texts."""

import random
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from jobs.classifier.encoding import Encoder
from jobs.profiling.profile import describe


def counts_of(
    train: Mapping[str, int], validation: int = 5, test: int = 5
) -> dict[str, dict[str, dict[str, int]]]:
    sides = {"validation": validation, "test": test}
    return {
        label: {
            split: {"rows": count, "texts": count}
            for split, count in ({"train": rows} | sides).items()
        }
        for label, rows in train.items()
    }


def sample_of(train: list[str], validation: list[str] | None = None) -> pa.Table:
    asked = validation or []
    splits = ["train"] * len(train) + ["validation"] * len(asked)
    return pa.table({"text": pa.array([*train, *asked], pa.string()), "split": splits})


def profile_of(
    counts: dict[str, dict[str, dict[str, int]]],
    sample: pa.Table | None = None,
    encoder: Encoder | None = None,
    **given: int,
) -> dict[str, Any]:
    rows = sum(side["rows"] for label in counts.values() for side in label.values())
    numbers = {"rows": rows, "duplicates": 0, "conflicts": 0, "max_tokens": 8, "seed": 0} | given
    return describe(counts, sample_of([]) if sample is None else sample, encoder=encoder, **numbers)


def sentence(words: random.Random) -> str:
    return " ".join(
        "".join(words.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(words.randint(3, 9)))
        for _ in range(12)
    )


EVEN = counts_of({"mail": 100, "network": 90, "printing": 80})
