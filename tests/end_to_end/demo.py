"""The whole road in a few minutes, every step a submitted job: `make demo`.

Starts a local cluster, writes an incident desk, prepares, trains, evaluates, deploys, and asks the
endpoint. What is there already is used again; `make stop` ends what was started. Everything lies
below `.switchyard/demo`.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from cluster.state import answers, read_state
from jobs import balance, evaluation
from jobs.prepared import open_prepared
from jobs.settings import Balance

HOME = Path(".switchyard").absolute() / "demo"
ROWS = 4000
STRATEGY = "undersample"
EPOCHS = 4
TICKETS = [
    "Cannot log in since this morning, it says my password has expired and the code never comes",
    "Printer on the third floor eats the paper and then shows an error",
    "The nightly backup of the database server failed again with no space left on the volume",
    "My headset is dead and callers cannot hear me",
]


def main() -> None:
    began = time.monotonic()
    os.chdir(Path(__file__).resolve().parents[2])
    HOME.mkdir(parents=True, exist_ok=True)
    heading("Cluster")
    run("cluster.local", "up")
    for name in ("desk", "prepared", "run", "test"):
        step(name)
    port, key = deploy()
    url = f"http://127.0.0.1:{port}"
    show_data()
    show_figures()
    show_answers(url, key)
    state = read_state()
    assert state is not None, "the cluster was up a moment ago"
    heading("Where to look")
    print(f"Page       {url}/   (key: {key})")
    print(f"Dashboard  {state['dashboard']}   (token: {state['token']})")
    print(f"Reports    {HOME}/prepared/report.html  {HOME}/test/report.html")
    print(f"\nDone in {time.monotonic() - began:.0f} s. The endpoint goes on; `make stop` ends it.")


def step(name: str) -> None:
    """One submitted job, unless its output is there already."""
    out = {n: str(HOME / n) for n in ("desk", "prepared", "run", "test")}
    jobs = {
        "desk": ["jobs.synthesize", "--rows", str(ROWS), "--output", out["desk"]],
        "prepared": [
            "jobs.prepare", "--source", out["desk"], "--output", out["prepared"],
            "--columns.text", "title", "--columns.text", "body", "--columns.id", "id",
        ],
        "run": [
            "jobs.train", "--data", out["prepared"], "--output", out["run"],
            "--balance.strategy", STRATEGY, "--train.epochs", str(EPOCHS),
        ],
        "test": [
            "jobs.evaluate", "--bundle", f"{out['run']}/bundle",
            "--source", f"{out['prepared']}/test", "--output", out["test"],
        ],
    }  # fmt: skip
    heading(" ".join(["python -m", *jobs[name]]))
    finished = HOME / name / ("bundle" if name == "run" else "")
    if finished.exists():
        print(f"There already: {finished}")
        return
    interrupted = name == "run" and (HOME / name / "run.json").exists()
    resume = ["--resume"] if interrupted else []
    run("cluster.submit", "--", "python", "-m", *jobs[name], *resume)


def deploy() -> tuple[int, str]:
    """The port and key of the endpoint, deployed now unless it answers already."""
    heading("Endpoint")
    remembered, keys = HOME / "endpoint.json", HOME / "keys.txt"
    if not keys.exists():
        keys.touch(mode=0o600)
        keys.write_text(f"sy_{secrets.token_urlsafe(24)}\n")
    key = keys.read_text().strip()
    if remembered.exists():
        port = int(json.loads(remembered.read_text())["port"])
        if is_ready(port, key):
            print("The endpoint is up already.")
            return port, key
    port = free_port(8000)
    run(
        "cluster.submit", "--", "python", "-m", "serve.deploy", "--bundle",
        str(HOME / "run" / "bundle"), "--keys", str(keys), "--port", str(port),
    )  # fmt: skip
    remembered.write_text(json.dumps({"port": port}))
    return port, key


def show_data() -> None:
    heading("Classes before and after balancing")
    prepared = open_prepared(str(HOME / "prepared"))
    before = prepared.counts("train")
    after = balance.plan(Balance(strategy=STRATEGY), before).rows_per_class
    print(balance.histogram(list(prepared.labels.names), before, np.asarray(after)))


def show_figures() -> None:
    heading("On the test rows, which training never saw")
    print(evaluation.table(json.loads((HOME / "test" / "metrics.json").read_text())))


def show_answers(url: str, key: str) -> None:
    heading(f"POST {url}/v1/classify")
    reply = ask(url, key, {"texts": TICKETS, "top_k": 3})
    for ticket, answer in zip(TICKETS, reply["predictions"], strict=True):
        others = ", ".join(
            f"{other['label']} {other['score']:.0%}" for other in answer["alternatives"][1:]
        )
        print(f"{ticket}\n  -> {answer['label']} {answer['score']:.0%}   ({others})")


def ask(url: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/v1/classify",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return dict(json.load(reply))


def is_ready(port: int, key: str) -> bool:
    state = read_state()
    if state is None or not answers(state):
        return False
    try:
        ask(f"http://127.0.0.1:{port}", key, {"texts": ["ready?"]})
    except (urllib.error.URLError, OSError):
        return False
    return True


def free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RuntimeError("no port is free on 127.0.0.1")


def run(module: str, *arguments: str) -> None:
    """A command in a process of its own; its failure ends the demo."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], check=False)
    if done.returncode != 0:
        sys.exit(f"python -m {module} {' '.join(arguments)} ended with {done.returncode}.")


def heading(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n=== {text}", flush=True)


if __name__ == "__main__":
    main()
