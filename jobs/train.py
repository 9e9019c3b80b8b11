"""Fine-tunes BERT on prepared data, data-parallel, and writes a bundle.

python -m jobs.train --data /data/prepared --output /runs/first
python -m jobs.train --data /data/prepared --output /runs/first --resume
python -m jobs.train --data /data/prepared --output /runs/first --dry-run
"""

from collections.abc import Sequence

from cluster import command
from jobs.training_run import TrainCommand, train


def main(argv: Sequence[str] | None = None) -> None:
    command.run(TrainCommand, train, program="jobs.train", summary=str(__doc__), argv=argv)


if __name__ == "__main__":
    main()
