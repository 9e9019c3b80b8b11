"""How a search comes along, for a person: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from typing import Any

from ray.tune import Callback
from rich.console import Console
from rich.live import Live
from rich.table import Table

from cluster.session import say
from tuning.experiment import Folder, Trial
from tuning.proposer import NUMBER, score_of
from tuning.winner import leaders

_SHOWN = 12  # trials in the live table


class Progress(Callback):  # type: ignore[misc]  # Ray has no types
    """Told by Tune of every report and every end; writes to standard error.

    `ended`: what earlier searches in the same folder ended, by number; `limit`: trials wanted;
    `until`: time.monotonic() at which the time is over.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        ended: Sequence[Trial],
        metric: Any,
        limit: int | None,
        until: float | None,
    ) -> None:
        self._folder, self._limit, self._until = folder, limit, until
        self._ended = {trial.number: trial.state for trial in ended}
        ranked = leaders(ended, metric)
        self._best: tuple[float, int] | None = (
            None if not ranked else (ranked[0][0], ranked[0][1].number)
        )
        self._rows: dict[int, dict[str, Any]] = {}
        self._began = time.monotonic()
        self._ended_here = 0
        console = Console(stderr=True)
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number = int(trial.config[NUMBER])
        self._rows[number] = {"state": "running", "point": trial.config}
        self._draw("")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        number = int(trial.config[NUMBER])
        row = self._rows.setdefault(number, {"state": "running", "point": trial.config})
        row |= {"percent": result.get("percent"), "macro_f1": result.get("macro_f1")}
        score = score_of(result)
        row["score"] = None if score is None else score.value
        self._draw("")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number = int(trial.config[NUMBER])
        self._draw(f"trial {number} ended without a word; it starts again from its checkpoint")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number = int(trial.config[NUMBER])
        found = self._folder.trial(number)
        if found is not None and not found.end:
            self._draw(f"trial {number} could not go on, through no fault of its point: --resume")
        self._end(trial)

    def _end(self, trial: Any) -> None:
        number = int(trial.config[NUMBER])
        found = self._folder.trial(number)
        row = self._rows.setdefault(number, {"point": trial.config})
        if found is None or not found.end:
            row["state"] = "unfinished"
            return
        row["state"] = self._ended[number] = found.state
        self._ended_here += 1
        figure, score = row.get("macro_f1"), row.get("score")
        if found.state == "finished" and score is not None:
            better = self._best is None or score > self._best[0]
            self._best = (float(score), number) if better else self._best
        said = f"trial {number} {found.state}"
        if found.state == "failed":
            said += f": {found.end['reason'][:200]}"
        elif figure is not None:
            said += f" at macro-F1 {figure:.4f}, {row.get('percent', 0):.0f}% of its schedule"
        self._draw(f"{said}; {self._totals()}")

    def _totals(self) -> str:
        wanted = "" if self._limit is None else f" of {self._limit}"
        best = "none yet" if self._best is None else f"{self._best[0]:.4f} (trial {self._best[1]})"
        left = self._seconds_left()
        time_left = "" if left is None else f", about {_duration(left)} left"
        return f"{len(self._ended)}{wanted} ended, best so far {best}{time_left}"

    def _seconds_left(self) -> float | None:
        """Until the time is over, or all trials will have ended at the present pace."""
        now = time.monotonic()
        found = [] if self._until is None else [max(0.0, self._until - now)]
        if self._limit is not None and self._ended_here:
            each = (now - self._began) / self._ended_here
            found.append(each * max(0, self._limit - len(self._ended)))
        return min(found, default=None)

    def _draw(self, line: str) -> None:
        if self._live is None:
            if line:
                say(line)
            return
        if line:
            self._live.console.print(line, markup=False, highlight=False)
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        table = Table(title=f"Search: {self._totals()}", title_justify="left")
        for name in ("trial", "state", "of its schedule", "macro-F1", "point"):
            table.add_column(name, overflow="fold")
        for number, row in sorted(self._rows.items())[-_SHOWN:]:
            percent, figure = row.get("percent"), row.get("macro_f1")
            table.add_row(
                str(number),
                row["state"],
                "" if percent is None else f"{percent:.0f}%",
                "" if figure is None else f"{figure:.4f}",
                in_words(row["point"]),
            )
        return table


def in_words(point: dict[str, Any]) -> str:
    """A point in one line."""
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in point.items()
        if key != NUMBER
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else (
        f"{rest} s"
    )  # fmt: skip
