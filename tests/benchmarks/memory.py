"""The memory of everything that a program started, while it runs.

Proportional set sizes: a page that several processes share counts once. Pages of shared memory
count for those who have them mapped, so that Ray's object store is in it. The processes are found
by a mark in their environment, and their descendants with them: a process that writes its own
title over its environment, as Ray's workers do, has a parent that did not.
"""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil

EVERY_SECONDS = 0.5
MIB = 1 << 20


class Watch(threading.Thread):
    """Samples the processes of `program` until it ends, and ends them when they go too far."""

    def __init__(
        self,
        program: "subprocess.Popen[str]",
        mark: str,
        *,
        seconds: float,
        leave: int,
    ) -> None:
        """`seconds`: the time-out. `leave`: bytes of this machine's memory that must stay free."""
        super().__init__(daemon=True)
        self.program, self.mark = program, mark.encode()
        self.seconds, self.leave = seconds, leave
        self.until = time.monotonic() + seconds
        self.peak = 0
        self.failed: str | None = None
        self._done = threading.Event()

    def run(self) -> None:
        took = 0.0
        # A look at many processes costs a part of a core: it shall not slow down what it watches.
        while not self._done.wait(max(EVERY_SECONDS, 30 * took)):
            began = time.monotonic()
            self.peak = max(self.peak, self.total())
            took = time.monotonic() - began
            if time.monotonic() > self.until:
                self.failed = f"not done after {self.seconds:.0f} s"
            elif psutil.virtual_memory().available < self.leave:
                self.failed = f"it took the machine's memory ({self.peak / MIB:,.0f} MiB)"
            if self.failed:
                self.kill()
                return

    def idle(self) -> int:
        """Bytes just now, the smallest of a few looks; the peak and the time start anew."""
        looks = []
        for _ in range(5):
            time.sleep(EVERY_SECONDS)
            looks.append(self.total())
        self.peak, self.until = 0, time.monotonic() + self.seconds
        return min(looks)

    def stop(self) -> None:
        """Ends the watching, and whatever the program has left behind."""
        self._done.set()
        self.join()
        self.kill()

    def total(self) -> int:
        return sum(pss(pid) for pid in family(self.mark))

    def kill(self) -> None:
        for pid in family(self.mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def family(mark: bytes) -> set[int]:
    """The processes with the mark in their environment, and all that come of them."""
    parents = {process.pid: process.info["ppid"] for process in psutil.process_iter(["ppid"])}
    found = {pid for pid in parents if mark in _environment(pid)}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def pss(pid: int) -> int:
    """Bytes of a process; 0 where it is gone or not ours to see."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    kib = next((line.split()[1] for line in text.splitlines() if line.startswith("Pss:")), "0")
    return int(kib) * 1024
