"""`jobs.train` whose workers write down every step, and do harm where they are told to.

    OBSERVED='{"log": "/tmp/steps", "at": [1, 8], "harm": "kill-worker"}' \\
        python -m tests.integration.observed --data … --output …
"""

import functools
import json
import os

import ray

from cluster import session
from jobs import train, trainer
from tests.integration import harm


def main() -> None:
    plan = json.loads(os.environ["OBSERVED"]) | {"driver": os.getpid()}
    if plan.get("harm") == "kill-node":
        session.connect()
        plan["node"] = ray.get_runtime_context().get_node_id()
    trainer._ray_worker = functools.partial(harm.observed_worker, plan)  # type: ignore[assignment]
    train.main()


if __name__ == "__main__":
    main()
