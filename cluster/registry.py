"""A registry: folders by name and version, and aliases that say which version is meant.

    REGISTRY/NAME/versions/0001/…     published folders, whole or not to be seen
    REGISTRY/NAME/claims/0001.json    who took the number, and the file that makes its folder whole
    REGISTRY/NAME/aliases.json        alias → version, and every change of it with its reason
    REGISTRY/_uses/KEY/0001.json      one for each use of something that wears out by being used

Any number of processes on any number of machines may write at once: a number is given once, an
alias changes only from what the writer believed it to be, and a writer that dies in between leaves
a number that nobody serves and that is in nobody's way. A reader needs one small file to know
which folder an alias means. Knows nothing of what is in the folders.
"""

import json
import re
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from cluster import claims, conditional, publishing, storage
from cluster.errors import ChangedError, SettingError, StorageError

CHAMPION = "champion"
FORMAT_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(name: str, key: str = "name") -> str:
    """The name; SettingError if a folder should not be called so."""
    if not _NAME.fullmatch(name):
        raise SettingError(
            f"--{key} {name!r} is not allowed: at most 100 letters (a to z), digits, dots, dashes "
            "and underscores, the first of them a letter or a digit."
        )
    return name


class Registry:
    """The registry at a URI; nothing is made before something is written."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def names(self) -> list[str]:
        """All names that something was ever registered under."""
        found = storage.entries(self.uri)
        folders = (entry.base_name for entry in found if entry.type == pafs.FileType.Directory)
        return sorted(name for name in folders if _NAME.fullmatch(name))

    def versions(self, name: str) -> list[str]:
        """The versions of a name that are whole, the oldest first."""
        numbers = range(1, claims.highest(self._place(name, "claims")) + 1)
        found = [f"{number:04d}" for number in numbers]
        with ThreadPoolExecutor(8) as pool:
            whole = pool.map(lambda version: self._is_whole(name, version), found)
            return [version for version, there in zip(found, whole, strict=True) if there]

    def folder(self, name: str, version: str) -> str:
        """Where a version lies, or would."""
        return self._place(name, "versions", version)

    def publish(self, name: str, folder: Path, commit: str) -> str:
        """Copies a finished local folder into the registry as a new version, and returns that.

        `commit` is the file in it that makes it whole. No alias means the new version yet.
        """
        if not (folder / commit).is_file():
            raise StorageError(f"{folder} cannot be registered: it has no {commit}.")
        taken = {"commit": commit, "at": _now()}
        version = f"{claims.claim(self._place(name, 'claims'), taken):04d}"
        publishing.remove_abandoned(self._place(name, "versions"))
        publishing.publish(folder, self.folder(name, version), commit)
        return version

    def aliases(self, name: str) -> dict[str, str]:
        """Alias → version; empty for a name that is not there."""
        return dict(_state(conditional.read(self._aliases(name)))["aliases"])

    def history(self, name: str) -> list[dict[str, Any]]:
        """Every change of an alias, the oldest first: alias, version, was, reason, at."""
        return list(_state(conditional.read(self._aliases(name)))["history"])

    def earlier(self, name: str, alias: str = CHAMPION) -> list[str]:
        """The versions that an alias meant before the present one, the newest first."""
        return _past(self.history(name), alias)[-2::-1]

    def resolve(self, name: str, alias: str = CHAMPION) -> tuple[str, str]:
        """(version, URI of its folder) that an alias means; StorageError if there is none."""
        aliases = self.aliases(name)
        if alias not in aliases:
            known = self.names()
            there = f"it has {', '.join(known[:5])}{' …' * (len(known) > 5)}" if known else "empty"
            missing = f"no {alias} of {name}" if name in known else f"no {name} ({there})"
            raise StorageError(f"The registry {self.uri} has {missing}.")
        return aliases[alias], self.folder(name, aliases[alias])

    def point(
        self, name: str, alias: str, version: str, *, expected: str | None, reason: str
    ) -> None:
        """Makes an alias mean a version that is whole.

        ChangedError unless it meant `expected` before (None: there was no such alias): whoever
        decided on that ground has to decide again.
        """
        self._require_whole(name, version)
        change = {"alias": check_name(alias, "alias"), "version": version, "was": expected}
        self._change(name, change | {"reason": reason, "rolled_back": False})

    def roll_back(self, name: str, alias: str, *, reason: str) -> tuple[str, str]:
        """Makes an alias mean what it meant before; (version that it meant, that it means now).

        Again and it goes back one more: what was rolled back is not come back to.
        """
        now, _ = self.resolve(name, alias)
        past = _past(self.history(name), alias)
        if len(past) < 2 or past[-1] != now:
            raise StorageError(
                f"The {alias} of {name} in the registry {self.uri} is version {now}, and there is "
                "none before it to go back to."
            )
        before = past[-2]
        self._require_whole(name, before)
        change = {"alias": alias, "version": before, "was": now, "reason": reason}
        self._change(name, change | {"rolled_back": True})
        return now, before

    def count_use(self, key: str, facts: dict[str, Any]) -> int:
        """Writes down one more use of `key`, under any name; how many there are with it."""
        return claims.claim(self._uses(key), {**facts, "at": _now()})

    def uses(self, key: str) -> int:
        return claims.highest(self._uses(key))

    def _change(self, name: str, change: dict[str, Any]) -> None:
        """Writes a change of an alias down, if the alias still is what it was."""
        place, alias = self._aliases(name), change["alias"]
        entry = {**change, "at": _now(), "change": uuid.uuid4().hex}
        while True:
            seen = conditional.read(place)
            state = _state(seen)
            if any(past["change"] == entry["change"] for past in state["history"]):
                return  # it was written, the answer got lost, and others went on from there
            now = state["aliases"].get(alias)
            if now != change["was"]:
                raise ChangedError(
                    f"The {alias} of {name} in the registry {self.uri} is {_version(now)} now and "
                    f"no longer {_version(change['was'])}: another run changed it meanwhile. "
                    "Nothing was changed here; look at it and run this again."
                )
            state["aliases"][alias] = change["version"]
            state["history"].append(entry)
            data = json.dumps(state, ensure_ascii=False, indent=1) + "\n"
            # Another alias of the same name may change at the same time: then once more.
            if conditional.put(place, data.encode(), seen):
                return

    def _is_whole(self, name: str, version: str) -> bool:
        taken = claims.facts(self._place(name, "claims"), int(version))
        place = self.folder(name, version)
        return taken is not None and storage.is_file(storage.join(place, str(taken["commit"])))

    def _require_whole(self, name: str, version: str) -> None:
        if not version.isdecimal() or not self._is_whole(name, version):
            raise StorageError(f"The registry {self.uri} has no version {version} of {name}.")

    def _place(self, name: str, *parts: str) -> str:
        return storage.join(self.uri, check_name(name), *parts)

    def _aliases(self, name: str) -> str:
        return self._place(name, "aliases.json")

    def _uses(self, key: str) -> str:
        return storage.join(self.uri, "_uses", check_name(key, "key"))


def _state(seen: conditional.Seen | None) -> dict[str, Any]:
    if seen is None:
        return {"format_version": FORMAT_VERSION, "aliases": {}, "history": []}
    found: dict[str, Any] = json.loads(seen.data)
    if found.get("format_version") != FORMAT_VERSION:
        raise StorageError(
            f"The aliases in the registry are of format {found.get('format_version')}; this "
            f"version reads {FORMAT_VERSION}."
        )
    return found


def _past(history: Sequence[dict[str, Any]], alias: str) -> list[str]:
    """The versions that an alias meant, the present one last, without those rolled back."""
    past: list[str] = []
    for entry in history:
        if entry["alias"] == alias and entry["rolled_back"]:
            past.pop()
        elif entry["alias"] == alias and entry["version"] not in past[-1:]:
            past.append(entry["version"])
    return past


def _version(version: str | None) -> str:
    return "no version" if version is None else f"version {version}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
