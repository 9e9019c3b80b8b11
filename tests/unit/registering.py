"""Processes that write to one registry at once: what tests of it run, locally and on S3."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster import storage
from cluster.errors import ChangedError
from cluster.registry import CHAMPION, Registry

COMMIT = "bundle.json"
ROOT = Path(__file__).resolve().parents[2]


def folder_of(path: Path, text: str) -> Path:
    """A finished folder whose files all say who wrote it."""
    path.mkdir(parents=True)
    (path / "weights").write_text(text * 1000)
    (path / COMMIT).write_text(text)
    return path


@contextmanager
def crew(size: int) -> Iterator[Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Any]]:
    """A function (work, tasks) → results, for `size` tasks begun together, in a process each."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(size) as pool:
        barrier = manager.Barrier(size)

        def at_once(work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
            calls = [pool.apply_async(_together, (work, task, barrier)) for task in tasks]
            return [call.get(timeout=120) for call in calls]

        yield at_once


def _together(work: Callable[..., Any], task: tuple[Any, ...], barrier: Any) -> Any:
    barrier.wait(60)
    return work(*task)


def promote(uri: str, folder: str, expected: str | None) -> tuple[str, str]:
    """(version, why it did not become champion), as a promotion does it that saw `expected`."""
    registry = Registry(uri)
    version = registry.publish("router", Path(folder), COMMIT)
    try:
        registry.point("router", CHAMPION, version, expected=expected, reason=folder)
    except ChangedError as error:
        return version, str(error)
    return version, ""


def use(uri: str, times: int) -> list[int]:
    return [Registry(uri).count_use("0123abcd", {"name": "router"}) for _ in range(times)]


def check_promotions_at_once(uri: str, folder: Path, rounds: int, writers: int) -> None:
    """Several promotions at once, round after round, each on top of what was champion before."""
    registry, champion = Registry(uri), None
    written: dict[str, str] = {}
    with crew(writers) as at_once:
        for number in range(rounds):
            texts = [f"{number}-{writer} " for writer in range(writers)]
            made = [folder_of(folder / text.strip(), text) for text in texts]
            found = at_once(promote, [(uri, str(path), champion) for path in made])
            (champion,) = [version for version, lost in found if not lost]
            told = [lost for _, lost in found if lost]
            assert all(f"is version {champion} now" in lost for lost in told)
            written |= {version: text for (version, _), text in zip(found, texts, strict=True)}
            assert registry.resolve("router") == (champion, registry.folder("router", champion))
    # None was lost, none given twice, and each holds what its writer wrote.
    assert registry.versions("router") == [f"{n:04d}" for n in range(1, rounds * writers + 1)]
    assert sorted(written) == registry.versions("router")
    for version, text in written.items():
        place = registry.folder("router", version)
        assert storage.read_bytes(f"{place}/{COMMIT}").decode() == text
        assert storage.read_bytes(f"{place}/weights").decode() == text * 1000
    assert [entry["version"] for entry in registry.history("router")][-1] == champion
    assert len(registry.history("router")) == rounds


def run(program: str, *arguments: str) -> "subprocess.Popen[str]":
    """A Python program in a process of its own, which may be killed or kill itself."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
