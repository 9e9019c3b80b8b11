"""What a set of prepared data is like, in numbers and in plain words.

It knows counts per label and a sample of the texts. It reads no file and knows no cluster; the
whole data never passes through here.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.classifier.encoding import Encoder
from jobs.classifier.text import salted, text_ids
from jobs.profiling import lengths
from jobs.profiling.advice import advise
from jobs.profiling.figures import several, share, times
from jobs.profiling.near_duplicates import CHARACTERS, THRESHOLD, near_duplicates
from jobs.profiling.outcomes import outcomes
from jobs.settings import Balance

# Below the default of balance.min_rows a class is no measure for others.
FEW_ROWS = int(Balance.model_fields["min_rows"].default)
TRAIN_TEXTS = 20_000
ASKED_TEXTS = 2_000

SPLITS = ("train", "validation", "test")
_NAMED = 5

Counts = Mapping[str, Mapping[str, Mapping[str, int]]]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Texts:
    """A sample in an order that depends on texts and seed alone; `again`: the text came before."""

    texts: list[str]
    splits: npt.NDArray[np.str_]
    again: npt.NDArray[np.bool_]


def describe(
    counts: Counts,
    sample: pa.Table,
    *,
    rows: int,
    duplicates: int,
    conflicts: int,
    encoder: Encoder | None,
    max_tokens: int,
    seed: int,
) -> dict[str, Any]:
    """The profile of prepared data: plain values, fit for JSON.

    `counts` has rows and distinct texts per label and split; `sample` the columns text and split
    (train, validation, test) of some rows; `rows`, `duplicates` (rows less distinct texts) and
    `conflicts` (texts under several labels) are those of the whole data. `encoder` is None where
    the tokenizer could not be had. The order of the sample's rows does not matter.

    classes, rows, train_rows: whole numbers.
    largest, smallest: label and rows of the classes with most and fewest training rows; ratio:
        the one over the other. Like all that follows they leave out classes without any.
    effective_classes: the exponential of the entropy of the shares of the training rows: as many
        classes of equal size would be as diverse (the number of order 1 of Hill, Diversity and
        evenness: a unifying notation and its consequences, 1973).
    few: below (a number of training rows), classes (how many have fewer), labels (the rarest 5).
    without: split → classes and labels (5) that have no row there; only splits that have rows.
    often, rarest: lists of [label, training, validation, test rows], for `summary`.
    lengths: that of `jobs.profiling.lengths.measure`, or None.
    duplicates: rows and their share; conflicts: texts and their share of the distinct texts.
    near_duplicates: share of the looked-at validation and test texts that have a near-duplicate
        among the looked-at training texts, asked and found (numbers of texts per split), known
        (training texts), threshold, characters; None where one side has no text. A lower bound:
        a sample is looked at, and `jobs.profiling.near_duplicates` can miss a few.
    undersampled_share: the share of the training rows left if all classes were cut to the rarest.
    balance: a list, see `jobs.profiling.outcomes`; per_class is in the order of the sorted labels.
    advice: sentences, see `jobs.profiling.advice`.
    """
    labels = sorted(counts)
    table = np.array(
        [[_rows(counts[label], split) for split in SPLITS] for label in labels], dtype=np.int64
    ).reshape(-1, len(SPLITS))
    trained = np.flatnonzero(table[:, 0] > 0)
    train, names = table[trained, 0], [labels[c] for c in trained]
    shuffled = _shuffled(sample, seed)
    profile: dict[str, Any] = {
        "classes": len(labels),
        "rows": rows,
        "train_rows": int(train.sum()),
        **_imbalance(train, names),
        "few": _few(train, names),
        "without": _without(table, labels),
        **_table(table, labels),
        "lengths": _lengths(shuffled, encoder, max_tokens),
        "duplicates": {"rows": duplicates, "share": duplicates / max(1, rows)},
        "conflicts": {"texts": conflicts, "share": conflicts / max(1, rows - duplicates)},
        "near_duplicates": _near(shuffled),
        "undersampled_share": float(train.min() * len(train) / train.sum()),
        "balance": outcomes(table[:, 0]),
    }
    return profile | {"advice": advise(profile)}


def summary(profile: Mapping[str, Any]) -> list[str]:
    """The profile as lines for a terminal, about forty at most, the advice last."""
    return [
        *_label_lines(profile),
        "",
        f"largest to smallest  {times(profile['ratio'])} : 1 "
        f"({_side(profile['largest'])}, {_side(profile['smallest'])})",
        f"effective classes    {profile['effective_classes']:.1f} of {profile['classes']:,}",
        *_length_lines(profile["lengths"]),
        f"duplicates           {_part(profile['duplicates'], 'rows')}",
        *_near_lines(profile["near_duplicates"]),
        f"conflicts            {_part(profile['conflicts'], 'texts')}",
        "",
        *_balance_lines(profile["balance"]),
        *["", "Advice:"][: 2 * bool(profile["advice"])],
        *(f"  - {_plain(sentence)}" for sentence in profile["advice"]),
    ]


def _label_lines(profile: Mapping[str, Any]) -> list[str]:
    shown = [*profile["often"], *profile["rarest"]]
    width = min(36, max(len("label"), *(_columns(_plain(line[0])) for line in shown)))
    top = max(1, sum(shown[0][1:]))
    lines = [f"{'label':<{width}}  {'train':>10}  {'validation':>10}  {'test':>10}"]
    for label, *rows in shown:
        bar = "█" * max(1, round(24 * sum(rows) / top))
        figures = "  ".join(f"{count:>10,}" for count in rows)
        lines.append(f"{_fitted(_plain(label), width)}  {figures}  {bar}")
    left = profile["classes"] - len(shown)
    if left:
        between = f"… {several(left, 'label', 'labels')} between these; report.html has all"
        lines.insert(1 + len(profile["often"]), between)
    return lines


def _length_lines(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["lengths              not measured: there was no tokenizer"]
    return [
        f"lengths in tokens    median {found['p50']:,}, 95% up to {found['p95']:,}, "
        f"99% up to {found['p99']:,}, longest {found['max']:,} ({found['rows']:,} texts)",
        f"longer than          model.max_tokens {found['max_tokens']}: "
        f"{share(found['cut_share'])} of the texts",
    ]


def _near_lines(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    return [
        f"near-duplicates      at least {sum(found['found'].values()):,} of "
        f"{sum(found['asked'].values()):,} validation and test texts ({share(found['share'])}) "
        f"are like one of {found['known']:,} training texts"
    ]


def _balance_lines(outcomes: Sequence[Mapping[str, Any]]) -> list[str]:
    width = max(len(outcome["name"]) for outcome in outcomes)
    lines = [f"{'balance.strategy':<{width}}  {'rows an epoch':>13}  {'share':>7}  rows of a class"]
    for found in outcomes:
        spread = f"{found['smallest']:,} to {found['largest']:,}"
        if found["smallest"] == found["largest"]:
            spread = f"{found['smallest']:,} each"
        note = "" if found["loss"] == "plain" else f"; the loss is {found['loss']}"
        rest = f"all rows{note}" if found["per_class"] is None else f"{spread}{note}"
        lines.append(
            f"{found['name']:<{width}}  {found['rows']:>13,}  {_portion(found['share']):>7}  {rest}"
        )
    return lines


def _portion(value: float) -> str:
    return f"{value:.1%}" if value < 10 else f"{value:,.0f} ×"


def _side(found: Mapping[str, Any]) -> str:
    return f"{_plain(found['label'])} {found['rows']:,}"


def _part(found: Mapping[str, Any], what: str) -> str:
    count = several(found[what], what.removesuffix("s"), what)
    return f"{count} ({share(found['share'])})" if found[what] else "none"


def _plain(text: str) -> str:
    """On one line and without control characters: a label must not steer the terminal."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _columns(text: str) -> int:
    """Columns of a terminal that `text` takes: two for wide letters, none for combining marks."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "FW")
        for letter in text
    )


def _fitted(text: str, width: int) -> str:
    if _columns(text) > width:
        while _columns(text) >= width:
            text = text[:-1]
        text += "…"
    return text + " " * (width - _columns(text))


def _rows(label: Mapping[str, Mapping[str, int]], split: str) -> int:
    return int(label.get(split, {}).get("rows", 0))


def _imbalance(train: Ints, names: Sequence[str]) -> dict[str, Any]:
    shares = train / train.sum()
    # Equal counts: the first name in order, so that the same data always gives the same answer.
    most, least = int(train.argmax()), int(train.argmin())
    return {
        "largest": {"label": names[most], "rows": int(train[most])},
        "smallest": {"label": names[least], "rows": int(train[least])},
        "ratio": float(train[most] / train[least]),
        "effective_classes": float(np.exp(-(shares * np.log(shares)).sum())),
    }


def _few(train: Ints, names: Sequence[str]) -> dict[str, Any]:
    few = [(int(train[c]), names[c]) for c in np.flatnonzero(train < FEW_ROWS).tolist()]
    named = [name for _, name in sorted(few)[:_NAMED]]
    return {"below": FEW_ROWS, "classes": len(few), "labels": named}


def _without(table: Ints, labels: Sequence[str]) -> dict[str, Any]:
    found = {}
    for s, split in enumerate(SPLITS):
        empty = np.flatnonzero(table[:, s] == 0)
        if len(empty) < len(labels):
            named = [labels[c] for c in empty[:_NAMED]]
            found[split] = {"classes": len(empty), "labels": named}
    return found


def _table(table: Ints, labels: Sequence[str]) -> dict[str, Any]:
    totals = table.sum(axis=1)
    order = sorted(range(len(labels)), key=lambda c: (-int(totals[c]), labels[c]))
    lines = [[labels[c], *map(int, table[c])] for c in order]
    often = lines if len(lines) <= 20 else lines[:12]
    return {"often": often, "rarest": lines[len(often) :][-_NAMED:]}


def _shuffled(sample: pa.Table, seed: int) -> _Texts:
    texts = sample["text"].to_pylist()
    places = salted(text_ids(texts), seed)
    order = np.argsort(places, kind="stable")
    again = np.diff(places[order], prepend=np.uint64(0)) == 0
    again[:1] = False
    splits = np.array(sample["split"].to_pylist(), dtype=np.str_)
    return _Texts([texts[k] for k in order], splits[order], again)


def _lengths(sample: _Texts, encoder: Encoder | None, max_tokens: int) -> dict[str, Any] | None:
    if encoder is None or not sample.texts:
        return None
    return lengths.measure(sample.texts, encoder, max_tokens)


def _near(sample: _Texts) -> dict[str, Any] | None:
    known = np.flatnonzero((sample.splits == "train") & ~sample.again)[:TRAIN_TEXTS]
    asked = np.flatnonzero((sample.splits != "train") & ~sample.again)[:ASKED_TEXTS]
    if not len(known) or not len(asked):
        return None
    found = near_duplicates([sample.texts[k] for k in asked], [sample.texts[k] for k in known])
    sides = {split: sample.splits[asked] == split for split in SPLITS[1:]}
    return {
        "share": float(found.mean()),
        "asked": {split: int(side.sum()) for split, side in sides.items()},
        "found": {split: int(found[side].sum()) for split, side in sides.items()},
        "known": len(known),
        "threshold": THRESHOLD,
        "characters": CHARACTERS,
    }
