"""A training run in a folder: new or gone on with, on record, and ended by its bundle.

For whoever makes a whole run, as the commands do; a trial enters at `jobs.trainer` instead.
"""

import sys
import tempfile
from typing import Any

import psutil
from pydantic import Field
from safetensors import SafetensorError

from cluster import command, lease, resources, room, session, storage
from cluster.errors import SettingError, StorageError
from cluster.resources import GpuChoice, Plan
from cluster.session import say
from cluster.storage import OutputUri
from jobs import balance, bundles, estimate, trainer
from jobs.classifier import bundle
from jobs.data_settings import Data, PreparedData
from jobs.prepared import Prepared, open_prepared
from jobs.pulse import run_name
from jobs.trainer import Fitted
from jobs.training import Training, balanced_plan, check, ignored

RECORD = "run.json"
FREE_GROUPS = ("scaling.", "checkpoint.", "decide.", "abstain.")
FREE = ("train.epochs", "stopping.patience")  # what a resumed run may change, beside whole groups


class TrainCommand(Training):
    """Settings of `jobs.train`."""

    data: PreparedData
    output: OutputUri = Field(description="new folder for the run; the model is in its bundle/")
    resume: bool = Field(
        False, description="go on with the run in --output from its newest sound checkpoint"
    )
    dry_run: bool = Field(False, description="only say rows, steps, workers and expected time")

    def training(self) -> Training:
        """The settings that decide what comes out, without the places."""
        values = {name: getattr(self, name) for name in Training.model_fields}
        return Training(**values | {"data": Data(**self.data.model_dump(exclude={"uri"}))})


def train(settings: TrainCommand, *, run: str | None = None) -> dict[str, Any]:
    """Trains and publishes the bundle, or says what would be done.

    `run`: by what name its metrics go; None: by that of the output's folder.
    """
    prepared = open_prepared(settings.data.uri)
    _check(settings, prepared)
    session.connect()
    session.streaming_context()
    session.require_everywhere(settings.data.uri, "data")
    _say_balance(settings, prepared)
    plan = _plan(settings)
    for warning in ignored(settings, gpu=plan.gpu, workers=plan.workers):
        print(f"warning: {warning}", file=sys.stderr)
    if settings.dry_run:
        return _dry_run(settings, prepared, plan)
    with lease.held(settings.output, "output"):
        _refuse_what_others_did(settings)
        session.require_everywhere(settings.output, "output", holding=lease.SIGN)
        return _train(settings, prepared, plan, run or run_name(settings.output))


def _train(settings: TrainCommand, prepared: Prepared, plan: Plan, run: str) -> dict[str, Any]:
    training = settings.training()
    _record(settings, prepared, plan)
    stores = trainer.token_stores(prepared, training)
    # Others may have come while the texts were tokenized.
    plan = _plan(settings, before=plan)
    fitted = trainer.fit(training, prepared, plan, settings.output, stores, run=run)
    try:
        with fitted.shelf.fetch(fitted.checkpoint) as folder:
            metrics = bundles.make_bundle(
                training, prepared, folder, settings.output, prepared.rows("validation")
            )
    except (OSError, SafetensorError) as error:
        local = storage.is_local(settings.output)
        made = "" if local else f" made in {tempfile.gettempdir()} and"
        raise StorageError(
            f"The bundle cannot be{made} written to {settings.output}: {error}. Make room and go "
            f"on with --resume; the weights are kept in {fitted.shelf.uri}."
        ) from None
    return _summary(settings, plan, fitted, metrics)


def _plan(settings: TrainCommand, before: Plan | None = None) -> Plan:
    """A plan that has room now: `before`, or one of as many workers of its kind. Says what it
    leaves where that is news."""
    workers: int | None = settings.scaling.workers
    gpu: GpuChoice = settings.scaling.gpu
    if before is not None:
        workers, gpu = before.workers, "yes" if before.gpu else "no"
    plan, have = room.find(
        lambda have: resources.plan_workers(have, workers=workers, gpu=gpu),
        settings.scaling.start_timeout,
        before,
    )
    if plan is not before:
        say(room.claimed(plan, have))
    return plan


def _check(settings: TrainCommand, prepared: Prepared) -> None:
    """Everything that can be known to be wrong before a cluster is asked."""
    check(settings, prepared)
    if settings.dry_run:
        return
    if settings.resume:
        _refuse_finished(settings)
    if settings.resume and not storage.exists(storage.join(settings.output, RECORD)):
        raise SettingError(f"--resume: {settings.output} holds no run that could go on.")
    if not settings.resume:
        lease.refuse_taken(settings.output, "output")


def _say_balance(settings: TrainCommand, prepared: Prepared) -> None:
    """Which rows of each class an epoch takes, and what of the settings is of no use."""
    chosen = settings.balance
    for key in balance.idle(chosen):
        print(
            f"warning: balance.{key} is given, and the strategy {chosen.strategy} does not use it.",
            file=sys.stderr,
        )
    names, before = list(prepared.labels.names), prepared.counts("train")
    plan = balanced_plan(settings, before)
    print(balance.histogram(names, before, plan.rows_per_class), flush=True)
    if plan.whole:
        print(balance.kept_whole(chosen, [names[c] for c in plan.whole]), flush=True)


def _refuse_what_others_did(settings: TrainCommand) -> None:
    """What was new or unfinished before there was room may be used or finished by now."""
    if settings.resume:
        _refuse_finished(settings)
    elif storage.exists(storage.join(settings.output, RECORD)):
        raise StorageError(
            f"--output {settings.output}: another run was begun in it while this one waited. Give "
            "a new folder, or go on with that one by --resume."
        )


def _refuse_finished(settings: TrainCommand) -> None:
    if storage.exists(storage.join(settings.output, "bundle", bundle.COMMIT)):
        raise SettingError(f"--resume: the run in {settings.output} is finished; see its bundle/.")


def _record(settings: TrainCommand, prepared: Prepared, plan: Plan) -> None:
    """Writes down what the run is; SettingError if a resumed one would become another.

    More epochs or other workers of the same kind are allowed: they change how far and where, not
    what; and so is what is saved on the way, and what is decided at the end.
    """
    place = storage.join(settings.output, RECORD)
    now = {"data": prepared.digest, "gpu": plan.gpu} | command.dotted(settings.training())
    if settings.resume and storage.exists(place):
        before = storage.read_json(place)
        if before.get("gpu", plan.gpu) != plan.gpu:
            kinds = ("CPUs", "GPUs")
            raise SettingError(
                f"--resume: the run in {settings.output} was trained on {kinds[before['gpu']]} and "
                f"would now be on {kinds[plan.gpu]}, which keep other states and round otherwise. "
                "Wait for such nodes (scaling.gpu), or give a new --output."
            )
        for key, value in now.items():
            free = key in FREE or key.startswith(FREE_GROUPS)
            if not free and before.get(key) != value:
                raise SettingError(
                    f"--resume: {key} is {value!r}, and the run in {settings.output} was started "
                    f"with {before.get(key)!r}. Give the same settings, or a new --output."
                )
    storage.write_json(place, now)


def _dry_run(settings: TrainCommand, prepared: Prepared, plan: Plan) -> dict[str, Any]:
    found = estimate.estimate(settings.training(), prepared, plan)
    print(f"Rows an epoch     {found['rows_per_epoch']:>12,}")
    print(f"Steps             {found['steps']:>12,}  in {settings.train.epochs} epochs")
    print(
        f"Workers           {plan.workers:>12,}  "
        f"{'one GPU each' if plan.gpu else f'{plan.threads} CPU threads each'}"
    )
    print(
        f"Expected time     {found['expected_seconds']:>12,.0f}  s, of which "
        f"{estimate.OVERHEAD_S:.0f} s to start; measured on {found['measured_steps']} steps"
    )
    return {"dry_run": True, "workers": plan.workers, "gpu": plan.gpu, **found}


def _summary(
    settings: TrainCommand, plan: Plan, fitted: Fitted, metrics: dict[str, Any]
) -> dict[str, Any]:
    best, done, began_at = fitted.best, len(fitted.history), fitted.began_at
    place = storage.join(settings.output, "bundle")
    headline = {k: metrics[k] for k in ("accuracy", "macro_f1", "macro_recall")}
    early = "" if done == settings.train.epochs else f", stopped early of {settings.train.epochs}"
    print(
        f"Best epoch {best['epoch']:.0f} of {done}{early}; on the validation rows: "
        + ", ".join(f"{k} {v:.4f}" for k, v in headline.items())
    )
    print(f"Bundle: {place}")
    return {
        "bundle": place,
        "epoch": int(best["epoch"]),
        "epochs": done,
        "resumed_after_epoch": began_at.epoch,
        "resumed_at": {"epoch": began_at.epoch, "batch": began_at.batch},
        "workers": plan.workers,
        "gpu": plan.gpu,
        "tokens_per_second": best["tokens_per_second"],
        "first_step_seconds": _since_start(fitted.first_step_at),
        "validation": headline,
    }


def _since_start(moment: float | None) -> float | None:
    """Seconds from the start of this program to a moment of time.time()."""
    return None if moment is None else round(moment - psutil.Process().create_time(), 1)
