"""Old names of labels and their new ones, for teams that were renamed, merged or closed."""

import csv
import io
import json

from cluster import storage
from cluster.errors import DataError


def read_label_map(uri: str | None) -> dict[str, str]:
    """Old name → new name, empty for labels to drop; no entry keeps a name.

    A JSON object (null drops), or CSV of two columns, with or without a first line `old,new`. A
    name is looked up once: new names are not looked up again. DataError for anything else.
    """
    if uri is None:
        return {}
    try:
        text = storage.read_bytes(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"--labels.map {uri} is not UTF-8: {error}.") from None
    return _json(uri, text) if text.lstrip().startswith("{") else _csv(uri, text)


def _json(uri: str, text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(f"--labels.map {uri} is not valid JSON: {error}.") from None
    for old, new in found.items():
        if new is not None and not isinstance(new, str):
            raise DataError(
                f"--labels.map {uri}: the new name of {old!r} is {new!r}; give a string, or null "
                "to drop its rows."
            )
    return {old: new or "" for old, new in found.items()}


def _csv(uri: str, text: str) -> dict[str, str]:
    rows = [row for row in csv.reader(io.StringIO(text), skipinitialspace=True) if row]
    if rows and [cell.strip().lower() for cell in rows[0]] == ["old", "new"]:
        rows = rows[1:]
    found: dict[str, str] = {}
    for row in rows:
        if len(row) != 2:
            raise DataError(
                f"--labels.map {uri}: {','.join(row)!r} has {len(row)} columns; give two, the old "
                "name and the new one (empty to drop its rows)."
            )
        if found.setdefault(row[0], row[1]) != row[1]:
            raise DataError(f"--labels.map {uri} gives {row[0]!r} two new names.")
    return found
