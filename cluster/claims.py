"""Numbered files that only ever get more: each number is given once, whoever asks at once.

    FOLDER/0001.json  FOLDER/0002.json  …

A number that was given to a process which then died stays given. Knows nothing of what is claimed.
"""

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from cluster import conditional, storage

_CLAIM = re.compile(r"(\d{4,})\.json")


def claim(folder: str, facts: Mapping[str, Any]) -> int:
    """Takes the next number of a folder, counted from 1, and writes `facts` down under it."""
    # Who wrote it can be told from two that say the same.
    told = json.dumps({**facts, "claim": uuid.uuid4().hex}, ensure_ascii=False, indent=1)
    number = highest(folder) + 1
    while not conditional.put(_place(folder, number), f"{told}\n".encode(), None):
        number += 1
    return number


def highest(folder: str) -> int:
    """The highest number that was given; 0 where there is none."""
    matches = (_CLAIM.fullmatch(entry.base_name) for entry in storage.entries(folder))
    return max((int(match[1]) for match in matches if match), default=0)


def facts(folder: str, number: int) -> dict[str, Any] | None:
    """What was written down under a number; None if that was not given."""
    seen = conditional.read(_place(folder, number))
    return None if seen is None else dict(json.loads(seen.data))


def _place(folder: str, number: int) -> str:
    return storage.join(folder, f"{number:04d}.json")
