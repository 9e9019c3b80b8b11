"""How figures are read from plain mappings and written for a person.

It knows numbers and English, and nothing of what they measure.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

MISSING = "–"


def number(found: Mapping[str, Any], name: str) -> float | None:
    """The finite number under `name`, numpy's kinds included, or None."""
    value = found.get(name)
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    finite = float(value)
    return finite if math.isfinite(finite) else None


def percent(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{value * 100:.{digits}f}%"


def decimal(value: float | None, digits: int = 3) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def whole(value: float | None) -> str:
    return MISSING if value is None else f"{int(value):,}"


def size(count: float | None) -> str:
    if count is None:
        return MISSING
    power = min((len(str(int(count))) - 1) // 3, 4)
    return f"{count / 1000**power:.{1 if power else 0}f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def share(value: float | None) -> str:
    """A share as a sentence has it: 27%, 3.1%; never 0% of something nor 100% of less than all."""
    if value is None:
        return MISSING
    if 0 < value < 0.001:
        return "less than 0.1%"
    if 0.995 <= value < 1:
        return "more than 99%"
    return f"{value * 100:.{1 if 0 < value < 0.0995 else 0}f}%"


def times(value: float | None) -> str:
    """A factor: 4.2, 40, 1,600."""
    if value is None:
        return MISSING
    return f"{value:,.1f}" if value < 10 and value % 1 else f"{value:,.0f}"


def several(count: int, one: str, many: str) -> str:
    """`count` of something in its number: 1 class, 12 classes."""
    return f"{count:,} {one if count == 1 else many}"


def listing(names: Sequence[str], count: int) -> str:
    """`names`, the first of `count`, as a sentence lists them."""
    if count > len(names):
        return f"{', '.join(names)} and {count - len(names):,} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
