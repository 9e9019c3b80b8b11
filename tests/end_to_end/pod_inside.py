"""Run inside what test_read_only.py makes of a pod: starts Ray as KubeRay does, deploys, asks.

    python pod_inside.py FOLDER

Prints one JSON object: what answered, and which ports listen where.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

LIMIT_S = 120


def ask(url: str, body: dict[str, Any] | None = None, key: str = "") -> int | None:
    """The status of the reply, or none if nobody answers."""
    data = json.dumps(body).encode() if body is not None else None
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {key}"} if key else {}
    )
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data, headers), timeout=30
        ) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def until(url: str) -> None:
    began = time.monotonic()
    while ask(url) != 200:
        if time.monotonic() - began > LIMIT_S:
            raise TimeoutError(f"{url} did not answer within {LIMIT_S} s")
        time.sleep(0.2)


def listening() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for each in psutil.net_connections("tcp"):
        if each.status == psutil.CONN_LISTEN:
            found.setdefault(each.laddr.port, []).append(each.laddr.ip)
    return found


def writable(place: str) -> bool:
    try:
        Path(place, f"written-{os.getpid()}").write_text("")
    except OSError:
        return False
    return True


def main(folder: str) -> None:
    given = json.loads(Path(folder, "given.json").read_text())
    ray = subprocess.Popen(["bash", "-c", given["start"]], stdout=sys.stderr)
    try:
        for url in given["probes"]["node"]:
            until(url)
        subprocess.run(given["deploy"], check=True, stdout=sys.stderr)
        for url in (*given["probes"]["front"], given["ready"]):
            until(url)
        body = {"texts": ["my printer is down"]}
        print(json.dumps({
            "answers": [ask(given["url"], body), ask(given["url"], body, given["key"])],
            "jobs_without_a_token": ask("http://127.0.0.1:8265/api/jobs/"),
            "listening": listening(),
            "writable": {place: writable(place) for place in given["places"]},
            "user": [os.getuid(), os.getgid()],
        }))  # fmt: skip
    finally:
        ray.terminate()
        ray.wait(60)


if __name__ == "__main__":
    main(sys.argv[1])
