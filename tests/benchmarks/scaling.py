"""Whether Ray's scheduling and transfers stay small beside the work on 1, 2 and 4 nodes.

    python -m tests.benchmarks.scaling --folder NEW_FOLDER

Computing is replaced by waits of the seconds that it was measured to take, which need no core: the
nodes are raylets on one machine, whose own limit shows as the share of its cores that is busy. A
preparation goes through the real passes and ranges of keys in size (20 chunks of 262,144 rows and
5 ranges a node), and replicas answer behind the real HAProxy. Training is left out: what limits it
is the network between machines, and here is none.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import lines, load
from tests.benchmarks.lines import ROOT, Line
from tests.conftest import last_json
from tests.end_to_end.conftest import run_module
from tests.end_to_end.endpoints import QUICK

CPUS_PER_NODE = 2
NODES = (1, 2, 4)


def measure(home: Path, nodes: int) -> Line:
    """What a cluster of so many nodes gives, which is up only for that."""
    home.mkdir(parents=True, exist_ok=True)
    size = ("--nodes", str(nodes), "--cpus-per-node", str(CPUS_PER_NODE))
    up = run_module("cluster.local", "up", *size, cwd=home, environment=QUICK)
    if up.returncode:
        (home / f"{nodes}.log").write_text(up.stdout + up.stderr)
        return {"nodes": nodes, "failed": f"see {home / f'{nodes}.log'}"}
    try:
        done = run_module(
            "cluster.submit", "--working-dir", str(ROOT), "--", "python", "-m",
            "tests.benchmarks.scaling_waits", "--folder", str(home), cwd=home,
        )  # fmt: skip
        (home / f"{nodes}.log").write_text(done.stdout + done.stderr)
        if done.returncode:
            return {"nodes": nodes, "failed": f"see {home / f'{nodes}.log'}"}
        return {"nodes": nodes, **last_json(done.stdout)}
    finally:
        run_module("cluster.local", "down", cwd=home)


def table(found: Sequence[Line]) -> str:
    """The figures, as SCALING.md has them."""
    rows = [
        "| nodes | preparation: seconds, of them waits | share | 40 MB from another node, ms "
        "| replicas: requests/s, aimed at | share | cores busy |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for line in found:
        if "failed" in line:
            rows.append(f"| {line['nodes']} | failed: {line['failed']} | | | | | |")
            continue
        tasks = line["tasks"]
        for number, side in enumerate(line["replicas"]):
            left = (
                [line["nodes"], f"{tasks['seconds']:.1f}, {tasks['waits']:.1f}",
                 f"{tasks['waits'] / tasks['seconds']:.0%}", line["transfer_ms"] or ""]
                if number == 0 else ["", "", "", ""]
            )  # fmt: skip
            rate, aim = side["requests_per_second"], side["aim"]
            right = [f"{rate:.0f}, {aim:.0f}", f"{rate / aim:.0%}", f"{side['busy']:.0%}"]
            rows.append("| " + " | ".join(map(str, [*left, *right])) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.benchmarks.scaling", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for the figures and logs")
    parser.add_argument("--nodes", type=int, nargs="+", default=NODES, help="sizes of the cluster")
    asked = parser.parse_args()
    load.require()
    place = asked.folder.resolve() / "scaling.jsonl"
    known = {line["nodes"]: line for line in lines.read(place) if "failed" not in line}
    for nodes in asked.nodes:
        if nodes not in known:
            known[nodes] = measure(asked.folder.resolve() / f"nodes-{nodes}", nodes)
            lines.append(place, known[nodes])
    found = [known[nodes] for nodes in asked.nodes]
    print(table(found))
    print(json.dumps({"lines": found}))


if __name__ == "__main__":
    main()
