"""Prepares labelled records for training: checks, splits, counts.

    python -m jobs.prepare --source /data/tickets --output /data/prepared \\
        --columns.text title --columns.text body --columns.label team
"""

from collections.abc import Sequence

from cluster import command
from jobs.preparer import Prepare, prepare


def main(argv: Sequence[str] | None = None) -> None:
    command.run(Prepare, prepare, program="jobs.prepare", summary=str(__doc__), argv=argv)


if __name__ == "__main__":
    main()
