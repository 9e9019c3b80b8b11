"""Searches the settings of training with Ray Tune, balancing included.

    python -m tuning.search --data /data/prepared --output /searches/first --trials 40
    python -m tuning.search --data /data/prepared --output /searches/first --trials 60 --resume
    python -m tuning.search --data /data/prepared --output /searches/second --time-budget 2h \\
        --space space.toml --model.max_tokens 64

Every setting that is given is taken as it is; the rest of the space is searched. Read the result
with python -m tuning.analyze --experiment OUTPUT, also while the search runs.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel, Field, field_validator

from cluster import command, lease, room, session
from cluster.errors import SettingError, StorageError, SwitchyardError
from cluster.resources import Plan
from cluster.session import say
from cluster.storage import OutputUri
from jobs import trainer
from jobs.data_settings import Data, PreparedData
from jobs.prepared import Prepared, open_prepared
from jobs.pulse import run_name
from jobs.training import Training, check, ignored
from tuning import space, study
from tuning.crowd import plan_trials
from tuning.experiment import FORMAT_VERSION, Folder, now
from tuning.halving import GRACE_PERCENT, REDUCTION_FACTOR
from tuning.proposer import Algorithm
from tuning.space import Space
from tuning.study import Scheduler
from tuning.winner import leaders, winning_bundle

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
DEFAULT_TRIALS = 30
# What a resumed search may change: how long and where, not what.
_FREE = ("created", "trials", "time_budget_s", "epoch_budget", "plan", "data")
_FREE_SETTINGS = ("scaling.", "checkpoint.")


class SearchCommand(Training):
    """Settings of `tuning.search`."""

    data: PreparedData
    output: OutputUri = Field(description="new folder for the experiment")
    trials: int | None = Field(
        None,
        ge=1,
        description=f"trials in all, those before --resume included; none: {DEFAULT_TRIALS}, or as "
        "many as a budget of time or epochs allows",
    )
    time_budget: float | None = Field(
        None,
        gt=0,
        description="time after which trials are ended, such as 90s, 30m or 1h30m; --resume goes "
        "on with them; none: no limit",
    )
    epoch_budget: int | None = Field(
        None,
        ge=1,
        description="epochs trained in all trials together, those before --resume included, after "
        "which trials are ended; --resume with more goes on with them; none: no limit",
    )
    space: str | None = Field(
        None,
        description="TOML file with what is searched, also one of the folder that a job is sent "
        "with, or a URI; none: tuning/spaces/default.toml",
    )
    algorithm: Algorithm = Field("tpe", description="who proposes: Optuna's TPE, or chance")
    scheduler: Scheduler = Field(
        "asha", description="asha: trials that fall behind are stopped early; none: none is"
    )
    at_once: int | None = Field(
        None, ge=1, description="trials that run together; none: as many as find room"
    )
    seed: int = Field(0, ge=0, description="seed of the proposals (train.seed is that of training)")
    resume: bool = Field(False, description="go on with the experiment in --output")

    @field_validator("time_budget", mode="before")
    @classmethod
    def _duration(cls, value: object) -> object:
        if not isinstance(value, str) or value == "none":
            return value
        found = _DURATION.fullmatch(value.strip())
        if not value.strip() or found is None:
            raise ValueError("give a duration such as 90s, 30m, 1h30m or 2d")
        days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds

    def training(self) -> Training:
        """The settings of all trials, before a point changes them."""
        values = {name: getattr(self, name) for name in Training.model_fields}
        return Training(**values | {"data": Data(**self.data.model_dump(exclude={"uri"}))})


def search(settings: SearchCommand) -> dict[str, Any]:
    """Searches, and makes the bundle of the best trial."""
    prepared, training = open_prepared(settings.data.uri), settings.training()
    check(training, prepared)
    found = space.read(settings.space, training, given(settings))
    folder = Folder(settings.output)
    if settings.resume and not folder.exists():
        raise SettingError(f"--resume: {settings.output} holds no experiment that could go on.")
    if layers := found.parameters.get("model.freeze_layers"):
        check(space.settings_with(training, {"model.freeze_layers": layers.edges()[-1]}), prepared)
    if not settings.resume:
        lease.refuse_taken(settings.output, "output")
    session.connect()
    session.streaming_context()
    session.require_everywhere(settings.data.uri, "data")
    plan_for = partial(
        plan_trials,
        workers=training.scaling.workers,
        gpu=training.scaling.gpu,
        at_once=settings.at_once,
    )
    plan, have = room.find(lambda have: plan_for(have)[0], training.scaling.start_timeout)
    at_once = plan_for(have)[1]
    say(room.claimed(plan, have, at_once))
    for warning in ignored(training, gpu=plan.gpu, workers=plan.workers):
        say(f"warning: {warning}")
    with lease.held(settings.output, "output"):
        if not settings.resume and folder.exists():
            raise StorageError(
                f"--output {settings.output}: another search was begun in it while this one "
                "waited. Give a new folder, or go on with that one by --resume."
            )
        session.require_everywhere(settings.output, "output", holding=lease.SIGN)
        _record(settings, folder, prepared, found, plan, at_once)
        _run(settings, folder, prepared, found, plan, at_once)
        return _summary(settings, folder)


def given(settings: BaseModel, prefix: str = "") -> list[str]:
    """Dotted keys of what was said, by file, environment or flag, and is no default."""
    return [key for key in _given(settings, prefix) if "." in key]


def _given(settings: BaseModel, prefix: str) -> Iterator[str]:
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _given(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _run(
    settings: SearchCommand,
    folder: Folder,
    prepared: Prepared,
    found: Space,
    plan: Plan,
    at_once: int,
) -> None:
    training = settings.training()
    stores = trainer.token_stores(prepared, training)
    limit = settings.trials
    if limit is None and settings.time_budget is None and settings.epoch_budget is None:
        limit = DEFAULT_TRIALS
    say(
        f"Searching {len(found.parameters)} settings, {at_once} "
        f"{'trial' if at_once == 1 else 'trials'} at once, each with {plan.workers} "
        f"{'GPU' if plan.gpu else 'CPU'} {'worker' if plan.workers == 1 else 'workers'} …"
    )
    try:
        study.run(
            study.Search(
                space=found,
                algorithm=settings.algorithm,
                scheduler=settings.scheduler,
                seed=settings.seed,
                limit=limit,
                seconds=settings.time_budget,
                epochs=settings.epoch_budget,
                plan=plan,
                at_once=at_once,
                metric=training.stopping.metric,
            ),
            folder,
            trainer.worker_config(training, prepared, plan, stores, run=run_name(settings.output)),
        )
    except KeyboardInterrupt:
        say(f"Interrupted. What is done is kept: {_counted(folder)}. Go on with --resume.")
        raise


def _record(
    settings: SearchCommand,
    folder: Folder,
    prepared: Prepared,
    found: Space,
    plan: Plan,
    at_once: int,
) -> None:
    """Writes down what is searched; SettingError if a resumed search would become another."""
    asha = {"grace_percent": GRACE_PERCENT, "reduction_factor": REDUCTION_FACTOR}
    record: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "created": now(),
        "data": {"uri": prepared.uri, "digest": prepared.digest},
        "labels": list(prepared.labels.names),
        "rows": {name: int(prepared.counts(name).sum()) for name in ("train", "validation")},
        "settings": command.dotted(settings.training()),
        "space": found.plain(),
        "points": list(found.points),
        "objective": {"metric": "macro_f1", "mode": "max"},
        "algorithm": settings.algorithm,
        "scheduler": {"kind": settings.scheduler} | (asha if settings.scheduler == "asha" else {}),
        "plan": {
            "workers": plan.workers,
            "gpu": plan.gpu,
            "threads": plan.threads,
            "cpus_per_worker": plan.cpus_per_worker,
            "at_once": at_once,
        },
        "seed": settings.seed,
        "trials": settings.trials,
        "time_budget_s": settings.time_budget,
        "epoch_budget": settings.epoch_budget,
    }
    if settings.resume:
        before = folder.record()
        _refuse_another(settings.output, before, record)
        record["created"] = before["created"]
    folder.write_record(record)


def _refuse_another(output: str, before: dict[str, Any], now_: dict[str, Any]) -> None:
    pairs = [(key, before[key], now_[key]) for key in now_ if key not in (*_FREE, "settings")]
    pairs.append(("data", before["data"]["digest"], now_["data"]["digest"]))
    pairs += [
        (key, before["settings"].get(key), value)
        for key, value in now_["settings"].items()
        if not key.startswith(_FREE_SETTINGS)
    ]
    pairs.append(("scaling.gpu", before["plan"]["gpu"], now_["plan"]["gpu"]))
    for key, old, new in pairs:
        if old != new:
            raise SettingError(
                f"--resume: {key} is {new!r}, and the experiment in {output} was begun with "
                f"{old!r}. Give the same, or a new --output."
            )


def _counted(folder: Folder) -> str:
    states = Counter(trial.state for trial in folder.trials())
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no trial"


def _summary(settings: SearchCommand, folder: Folder) -> dict[str, Any]:
    trials = folder.trials()
    ranked = leaders(trials, settings.stopping.metric)
    said = {
        "experiment": folder.uri,
        "trials": dict(Counter(trial.state for trial in trials)),
    }
    print(f"Trials: {_counted(folder)}")
    if not ranked:
        failed = next((t.end["reason"] for t in trials if t.state == "failed"), None)
        if failed is not None:
            raise SwitchyardError(f"No trial finished; the first that failed: {failed}", **said)
        print("No trial finished within the budget: go on with --resume and a larger one")
        return said | {"best_trial": None, "macro_f1": None, "bundle": None}
    value, best = ranked[0]
    place = winning_bundle(folder.uri)
    print(f"Best: trial {best.number}, macro-F1 {value:.4f} on the validation rows")
    for key, chosen in best.parameters.items():
        print(f"  {key:<24} {chosen}")
    print(f"Bundle: {place}")
    print(f"The analysis: python -m tuning.analyze --experiment {folder.uri}")
    return said | {"best_trial": best.number, "macro_f1": value, "bundle": place}


def main(argv: Sequence[str] | None = None) -> None:
    command.run(SearchCommand, search, program="tuning.search", summary=str(__doc__), argv=argv)


if __name__ == "__main__":
    main()
