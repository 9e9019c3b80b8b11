"""An experiment's folder: what a search writes down, and what anyone can read of it.

    experiment.json            what is searched: data, settings, space, plan (`Experiment`)
    trials/0001/trial.json     number, parameters, origin, started: written before it starts
    trials/0001/history.json   the figures of each epoch so far, a list
    trials/0001/confusion.json of the best epoch so far: [truth, predicted, rows] class ids
    trials/0001/end.json       state (finished, stopped, failed), reason, ended
    trials/0001/checkpoints/   of trials that may still go on or be the winner
    trials/0001/bundle/        of the winner

Plain JSON, one writer a file, each written whole: it can be read while the search runs, and a
search that was killed goes on from it. Nothing of Ray's is needed. Knows nothing of how trials run.
"""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow.fs as pafs

from cluster import lease, storage
from cluster.errors import DataError, StorageError

FORMAT_VERSION = 1
RECORD = "experiment.json"
TRIALS = "trials"
STATES = ("finished", "stopped", "failed", "running", "unfinished")

State = Literal["finished", "stopped", "failed"]
_NUMBER = re.compile(r"\d{4,}")


@dataclass(frozen=True)
class Trial:
    """What is known of one trial; `end` is empty until it ended."""

    number: int
    parameters: dict[str, Any]  # dotted key → value, of the keys that are searched and in force
    origin: str  # known: a point that was given; searched: proposed by the search
    started: str  # ISO 8601, UTC
    history: tuple[dict[str, float], ...]
    end: dict[str, Any]

    @property
    def state(self) -> str:
        """finished, stopped (early, by the scheduler), failed; unfinished before that."""
        return str(self.end.get("state", "unfinished"))


class Folder:
    """Reads and writes an experiment's folder at a URI."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def exists(self) -> bool:
        return storage.is_file(storage.join(self.uri, RECORD))

    def write_record(self, record: Mapping[str, Any]) -> None:
        storage.write_json(storage.join(self.uri, RECORD), dict(record))

    def record(self) -> dict[str, Any]:
        """experiment.json; DataError if the folder is no experiment of this format."""
        try:
            found: dict[str, Any] = storage.read_json(storage.join(self.uri, RECORD))
        except StorageError:
            there = "holds no" if storage.exists(self.uri) else "does not exist: there is no"
            raise DataError(
                f"--experiment {self.uri} {there} {RECORD}. Make an experiment with python -m "
                "tuning.search --data URI --output URI."
            ) from None
        if found.get("format_version") != FORMAT_VERSION:
            raise DataError(
                f"--experiment {self.uri} is of format {found.get('format_version')}; this version "
                f"reads {FORMAT_VERSION}."
            )
        return found

    def numbers(self) -> list[int]:
        """Of all trials that were begun, ascending."""
        found = storage.entries(storage.join(self.uri, TRIALS))
        names = (info.base_name for info in found if info.type == pafs.FileType.Directory)
        return sorted(int(name) for name in names if _NUMBER.fullmatch(name))

    def trials(self) -> list[Trial]:
        """All that were begun, by number; one whose record is not there yet is left out."""
        with ThreadPoolExecutor(8) as pool:
            return [found for found in pool.map(self.trial, self.numbers()) if found is not None]

    def trial(self, number: int) -> Trial | None:
        begun = self._read(number, "trial.json")
        if begun is None:
            return None
        history = self._read(number, "history.json") or []
        end = self._read(number, "end.json") or {}
        return Trial(
            number, begun["parameters"], begun["origin"], begun["started"], tuple(history), end
        )

    def confusion(self, number: int) -> list[list[int]]:
        """[truth, predicted, rows] of the trial's best epoch, class ids; empty before the first."""
        return list(self._read(number, "confusion.json") or [])

    def is_running(self) -> bool:
        """Whether a search is at work in the folder now, by its sign of life."""
        return lease.last_sign_of_life(self.uri) is not None

    def begin(self, number: int, parameters: Mapping[str, Any], origin: str) -> None:
        self._write(
            number,
            "trial.json",
            {
                "number": number,
                "parameters": dict(parameters),
                "origin": origin,
                "started": now(),
            },
        )

    def write_history(self, number: int, history: list[dict[str, float]]) -> None:
        self._write(number, "history.json", history)

    def write_confusion(self, number: int, cells: list[list[int]]) -> None:
        self._write(number, "confusion.json", cells)

    def finish(self, number: int, state: State, reason: str = "", **facts: Any) -> None:
        """Writes down how a trial ended; what ended stays as it ended first."""
        if self._read(number, "end.json") is None:
            end = {"state": state, "reason": reason, "ended": now(), **facts}
            self._write(number, "end.json", end)

    def place(self, number: int, *parts: str) -> str:
        """The URI of a trial's folder, or of something in it."""
        return storage.join(self.uri, TRIALS, f"{number:04d}", *parts)

    def _read(self, number: int, name: str) -> Any:
        place = self.place(number, name)
        return storage.read_json(place) if storage.is_file(place) else None

    def _write(self, number: int, name: str, value: Any) -> None:
        storage.write_json(self.place(number, name), value)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested mappings."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
