"""Says how a search went and why the winner won: a table, Parquet, a report, the winner's settings.

python -m tuning.analyze --experiment /runs/search
python -m tuning.analyze --experiment /runs/a --experiment /runs/b --output /runs/both

Needs no cluster, and can be run while the search runs, as often as one likes.
"""

import io
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd
from pydantic import Field

from cluster import command, storage
from cluster.errors import SettingError
from cluster.storage import OutputUri, Uri
from tuning import analysis, config_file, leaderboard, page
from tuning.analysis import OBJECTIVE
from tuning.overview import Overview, overview

FOLDER = "analysis"


class AnalyzeCommand(command.Settings):
    """Settings of `tuning.analyze`."""

    experiment: tuple[Uri, ...] = Field(
        min_length=1,
        description="experiment made by tuning.search; give it several times to read several of "
        "the same data together",
    )
    output: OutputUri | None = Field(
        None, description="folder for the files; none: analysis/ in the experiment"
    )


def analyze(settings: AnalyzeCommand) -> dict[str, Any]:
    """Reads, writes all files whole, prints."""
    places = list(dict.fromkeys(settings.experiment))
    output = _output(settings, places)
    experiments = analysis.load(places)
    analysis.refuse_mixed(analysis.trials_of(experiments))
    if sum(len(experiment.trials) for experiment in experiments) >= 100:
        print("Assessing the parameters …", file=sys.stderr)
    found = overview(experiments)
    files = _files(found)
    for name, data in files.items():
        storage.write_bytes(storage.join(output, name), data)
    print(leaderboard.table(found))
    print(f"Report: {storage.join(output, 'report.html')}")
    best = found.best
    return {
        "experiments": places,
        "best_trial": None if best is None else int(best["trial"]),
        "experiment": None if best is None else str(best["experiment"]),
        OBJECTIVE: None if best is None else float(best[OBJECTIVE]),
        "trials": analysis.counts(found.trials),
        "running": found.running,
        "files": {name: storage.join(output, name) for name in files},
    }


def _output(settings: AnalyzeCommand, places: Sequence[str]) -> str:
    if settings.output is not None:
        return settings.output
    if len(places) > 1:
        raise SettingError(
            "--output is needed where several experiments are read: it is none of theirs. Give a "
            "folder for the files."
        )
    if places[0].startswith("hf://"):
        raise SettingError(
            f"--output is needed: {places[0]} can only be read. Give a folder for the files."
        )
    return storage.join(places[0], FOLDER)


def _files(found: Overview) -> dict[str, bytes]:
    """Name → content; best.toml only where a trial has finished."""
    title = "How the search went" if len(found.experiments) == 1 else "How the searches went"
    files = {
        "trials.parquet": _parquet(analysis.trials_of(found.experiments)),
        "history.parquet": _parquet(analysis.history_of(found.experiments)),
        "report.html": page.search_html(found, title=title).encode(),
    }
    best = found.best
    if best is not None:
        files["best.toml"] = config_file.best_toml(*found.found_at(best), best).encode()
    return files


def _parquet(frame: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.to_parquet(sink, index=False)
    return sink.getvalue()


def main(argv: Sequence[str] | None = None) -> None:
    command.run(AnalyzeCommand, analyze, program="tuning.analyze", summary=str(__doc__), argv=argv)


if __name__ == "__main__":
    main()
