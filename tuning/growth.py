"""What came since the champion's data, told from two manifests: rows, corrections, labels.

Counts alone, so that it costs nothing at any size: a row that went and another that came instead
are not seen.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from jobs.data_view import SPLITS

Manifest = Mapping[str, Any]


def growth(before: Manifest, after: Manifest) -> dict[str, Any]:
    """`rows`, `texts` (distinct) and `splits` (rows of each) as [before, after]; `per_label` the
    same for rows; `new` and `gone` labels; `corrections` of either manifest, None for none.

    Labels of `before` stand under the names that they have now.
    """
    then, now = _rows(before, after["labels_map"]), _rows(after, {})
    return {
        "rows": [before["rows"], after["rows"]],
        "texts": [_total(before, "texts"), _total(after, "texts")],
        "splits": {
            split: [_of(before, split, "rows"), _of(after, split, "rows")] for split in SPLITS
        },
        "labels": [len(then), len(now)],
        "new": sorted(now.keys() - then.keys()),
        "gone": sorted(then.keys() - now.keys()),
        "per_label": {name: [then[name], now[name]] for name in sorted(then.keys() | now.keys())},
        "corrections": [before.get("corrections"), after.get("corrections")],
    }


def in_words(found: Mapping[str, Any]) -> list[str]:
    """One sentence for each thing that may have come."""
    (old, rows), (old_texts, texts) = found["rows"], found["texts"]
    lines = [
        f"{rows:,} rows of {texts:,} distinct texts, {rows - old:+,} and {texts - old_texts:+,} "
        "since the champion's data."
    ]
    before, after = found["corrections"]
    if after is None:
        lines.append("Corrections were not asked for.")
    else:
        known = 0 if before is None else before["texts"]
        lines.append(
            f"{after['texts']:,} texts are corrected, {after['texts'] - known:+,} since: "
            f"{after['changed']:,} of the source and {after['added']:,} that it does not have."
        )
    for names, what in ((found["new"], "new"), (found["gone"], "gone")):
        if names:
            shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
            lines.append(f"{len(names):,} {what} label{'s' * (len(names) != 1)}: {shown}.")
    return lines


def _rows(manifest: Manifest, renamed: Mapping[str, str]) -> Counter[str]:
    """Rows of every label, under its name of today; one that was dropped keeps its own."""
    found: Counter[str] = Counter()
    for name, splits in manifest["labels"].items():
        found[renamed.get(name) or name] += sum(counts["rows"] for counts in splits.values())
    return found


def _total(manifest: Manifest, what: str) -> int:
    return sum(_of(manifest, split, what) for split in SPLITS)


def _of(manifest: Manifest, split: str, what: str) -> int:
    return sum(int(counts[split][what]) for counts in manifest["labels"].values())
