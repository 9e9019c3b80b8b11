"""What telemetry costs a replica at 500 requests a second, with Ray's own metrics underneath.

    python -m tests.benchmarks.telemetry [--requests 500] [--seconds 10] [--classes 77]

Every request has one text; a turn of the model answers eight. Starts a Ray of one CPU and ends it.
"""

import argparse
import json
import threading
import time

import numpy as np

from cluster import session
from serve.exporter import ray_telemetry
from serve.telemetry import Telemetry

TURN = 8


def one_turn(telemetry: Telemetry, labels: list[str], scores: np.ndarray, no: np.ndarray) -> None:
    """All that is said about TURN requests."""
    for label in labels[:TURN]:
        telemetry.waiting(1, 20)
        telemetry.stage("tokenize", 0.0003)
        telemetry.stage("queue", 0.002)
        telemetry.answers([label], scores, no, no)
        telemetry.request("/v1/classify", 200, None, 0.012)
    telemetry.batch(TURN, 20 * TURN)
    telemetry.waiting(0, 0)
    telemetry.stage("infer", 0.01)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500, help="requests a second")
    parser.add_argument("--seconds", type=int, default=10, help="seconds of traffic")
    parser.add_argument("--classes", type=int, default=77, help="labels of the model")
    chosen = parser.parse_args(arguments)
    session.connect(cpus=1)
    telemetry = ray_telemetry()
    labels = [f"team-{number}" for number in range(chosen.classes)]
    telemetry.model("router", "1", labels, [1 / chosen.classes] * chosen.classes)
    drawn = np.random.default_rng(0).permutation(np.arange(chosen.classes).repeat(TURN))
    scores, no = np.array([0.9], dtype=np.float32), np.array([False])
    turns = chosen.requests // TURN
    saying, begun = 0.0, time.process_time()
    for second in range(chosen.seconds):
        before = time.thread_time()
        for turn in range(turns):
            at = (second * turns + turn) * TURN % (len(drawn) - TURN)
            one_turn(telemetry, [labels[k] for k in drawn[at : at + TURN]], scores, no)
        saying += time.thread_time() - before
        threading.Event().wait(1)  # the exporter's second
    telemetry.close()
    spent = time.process_time() - begun
    import ray

    ray.shutdown()
    said = chosen.seconds * turns * (5 * TURN + 3)
    print(
        json.dumps(
            {
                "microseconds_to_say": round(saying / said * 1e6, 2),
                "said_per_second": round(said / chosen.seconds),
                "share_of_a_core": round(spent / chosen.seconds, 4),
            }
        )
    )


if __name__ == "__main__":
    main()
