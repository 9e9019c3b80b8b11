"""`tuning.search` whose trials write down every step, and do harm where they are told to.

    OBSERVED='{"log": "/tmp/steps", "trial": 2, "at": [1, 4], "harm": "kill-driver"}' \\
        python -m tests.integration.observed_search --data … --output …
"""

import functools
import json
import os

from tests.integration import harm
from tuning import search, trial


def main() -> None:
    plan = json.loads(os.environ["OBSERVED"]) | {"driver": os.getpid()}
    trial._call = functools.partial(harm.observed_trial, plan)
    search.main()


if __name__ == "__main__":
    main()
