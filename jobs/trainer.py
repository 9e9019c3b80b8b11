"""Training on Ray: the token store, and a TorchTrainer over data-parallel workers.

`train_worker` is where every kind of run enters the loop; it takes plain values alone, so that a
trial of a search can call it too.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster import resources, room, storage
from cluster.errors import StorageError
from cluster.resources import Plan
from cluster.session import say
from jobs import balance, tokens
from jobs.checkpoints import Shelf, best_sound, newest_sound
from jobs.classifier import loop, network, ranks
from jobs.classifier.batches import pin_for
from jobs.classifier.loop import Outcome, Report, Save, Saving, Take
from jobs.classifier.progress import Metrics, Position
from jobs.classifier.stopping import Rule
from jobs.decisions import Judge
from jobs.feed import StoreFeed
from jobs.prepared import Prepared
from jobs.pulse import observed
from jobs.saving import going_on
from jobs.training import Training, balanced_plan, loss_of, recipe_of

CHECKPOINTS = "checkpoints"
# The figures of an epoch and its confusion; whether training ends there.
Listener = Callable[[Metrics, list[list[int]]], bool]


def worker_config(
    settings: Training,
    prepared: Prepared,
    plan: Plan,
    stores: Mapping[str, str],
    *,
    run: str,
) -> dict[str, Any]:
    """The plain values that every worker gets; `run`: by what name its metrics go."""
    return {
        "run": run,
        "settings": settings.model_dump(),
        "labels": list(prepared.labels.names),
        "stores": dict(stores),
        "counts": prepared.counts("train").tolist(),
        "threads": plan.threads,
        "gpu": plan.gpu,
    }


def train_worker(
    config: Mapping[str, Any],
    report: Report,
    *,
    save: Save | None = None,
    rank: int = 0,
    world: int = 1,
    resume: Path | None = None,
    judge: Judge | None = None,
) -> Outcome:
    """One rank of a run, in whatever process it is called.

    `judge`: who judges each epoch, for callers that want more of it than figures; None: one made
    here.
    """
    settings = Training.model_validate(config["settings"])
    torch.set_num_threads(config["threads"])
    device = torch.device("cuda" if config["gpu"] else "cpu")
    seed = settings.train.seed
    folder = network.model_folder(settings.model.name)
    model = network.new_network(
        folder, config["labels"], dropout=settings.model.dropout, seed=seed
    ).to(device)
    network.freeze(model, settings.model.freeze_layers)
    counts = np.array(config["counts"], dtype=np.int64)
    balanced = balanced_plan(settings, counts)
    training_store = tokens.TokenStore(config["stores"]["train"])
    feed = StoreFeed(
        training_store,
        tokens.TokenStore(config["stores"]["validation"]),
        balance.sample(training_store, balance.sampled(settings.data.fraction, counts)),
        balanced,
        seed,
        settings.train.batch_tokens,
        int(model.config.pad_token_id or 0),
        rank,
        world,
        pin_for(device),
    )
    every = settings.checkpoint.every_steps
    with observed(feed, config["run"], rank) as counted:
        return loop.train(
            model,
            counted,
            recipe_of(settings, device, workers=world),
            report=report,
            device=device,
            seed=seed,
            **loss_of(balanced),
            judge=judge or judge_of(config),
            stop=Rule(settings.stopping.metric, settings.stopping.patience),
            saving=Saving(save, every) if save is not None and every is not None else None,
            resume=resume,
        )


def judge_of(config: Mapping[str, Any]) -> Judge:
    """Who judges the epochs of a run, from the same plain values as `train_worker`."""
    settings = Training.model_validate(config["settings"])
    counts = np.array(config["counts"], dtype=np.int64)
    prior = balanced_plan(settings, counts).prior
    return Judge(
        settings.decide, (None if prior is None else prior.tolist(), counts / counts.sum())
    )


def _ray_worker(config: dict[str, Any]) -> dict[str, Any]:
    """`train_worker` under Ray Train: rank 0 finds and writes the checkpoints of all.

    Nothing is reported to Ray: a report is a barrier of up to two seconds, and what it would be
    for, checkpoints, metrics and their order, is ours.
    """
    import ray.train
    from ray.train.collective import broadcast_from_rank_zero

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    settings = Training.model_validate(config["settings"])
    shelf = Shelf(config["checkpoints"])
    name = broadcast_from_rank_zero(newest_sound(shelf, _tell) if rank == 0 else None)
    keep, metric = settings.checkpoint.keep, settings.stopping.metric
    listener: Listener | None = config["listener"]
    judge = judge_of(config)
    with going_on(shelf, name, writes=rank == 0, keep=keep, metric=metric, tell=_tell) as (
        resume,
        save,
    ):

        def report(metrics: Metrics, take: Take) -> bool:
            if rank == 0 and listener is None:
                _tell(progress_line(metrics))
            save(take)
            if listener is None:
                return False
            return bool(ranks.from_rank_zero(rank == 0 and listener(metrics, judge.confusion)))

        outcome = train_worker(
            config, report, save=save, rank=rank, world=world, resume=resume, judge=judge
        )
    at = outcome.began_at
    return {
        "history": list(outcome.history),
        "began_at": [at.epoch, at.batch],
        "first_step_at": outcome.first_step_at,
    }


def _tell(line: str) -> None:
    # Ray Train replaces print by a logger of its own, which would say it twice.
    if line:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def progress_line(metrics: Metrics) -> str:
    """One line an epoch, for a person."""
    return (
        f"epoch {metrics['epoch']:.0f}: loss {metrics['train_loss']:.4f}, validation macro-F1 "
        f"{metrics['macro_f1']:.4f}, accuracy {metrics['accuracy']:.4f}, "
        f"{metrics['tokens_per_second']:,.0f} tokens/s, {metrics['epoch_seconds']:.1f} s"
    )


def token_stores(prepared: Prepared, settings: Training) -> dict[str, str]:
    """The stores of training and validation rows, made now if they are not there yet."""
    folder = network.model_folder(settings.model.name)
    return {
        split: tokens.ensure(prepared, split, folder, settings.model.max_tokens)
        for split in ("train", "validation")
    }


@dataclass(frozen=True)
class Fitted:
    """A finished run: the name of its best checkpoint on its shelf, the figures of that epoch and
    of all, where the last attempt at it began, and when its first step was done (time.time() where
    it trained)."""

    shelf: Shelf
    checkpoint: str
    best: Metrics
    history: tuple[Metrics, ...]
    began_at: Position
    first_step_at: float | None


def fit(
    settings: Training,
    prepared: Prepared,
    plan: Plan,
    output: str,
    stores: Mapping[str, str],
    *,
    run: str,
) -> Fitted:
    """Trains until `settings` say that it is enough; its metrics go by the name of `run`.

    A run in the same place goes on from its newest sound checkpoint, whatever ended it: whether
    that is wanted was settled before.
    """
    say(f"Training with {plan.workers} {'GPU' if plan.gpu else 'CPU'} worker(s) …")
    config = worker_config(settings, prepared, plan, stores, run=run)
    return fit_workers(config, plan, storage.join(output, CHECKPOINTS))


def fit_workers(
    config: Mapping[str, Any], plan: Plan, checkpoints: str, listener: Listener | None = None
) -> Fitted:
    """The same from what `worker_config` gives; `listener` hears of each epoch, on rank 0, in the
    place of a line on standard output."""
    from ray.train import ScalingConfig, TrainingFailedError

    from jobs import attempts
    from jobs.rendezvous import Rendezvous

    settings = Training.model_validate(config["settings"])
    failures = settings.scaling.max_failures
    timeout = room.patience(
        resources.capacity(), settings.scaling.start_timeout, fixed=room.LOST_WAIT_S
    )
    with tempfile.TemporaryDirectory(prefix="switchyard-") as unused:
        trainer = attempts.Trainer(
            _ray_worker,
            torch_config=Rendezvous(),
            train_loop_config={**config, "checkpoints": checkpoints, "listener": listener},
            scaling_config=ScalingConfig(
                num_workers=plan.workers, use_gpu=plan.gpu, resources_per_worker=plan.resources()
            ),
            # Ray keeps nothing of ours, and asks for a place nevertheless.
            run_config=attempts.run_config(failures, timeout, place=unused),
        )
        try:
            with attempts.interruptible():
                result = trainer.fit()
        except TrainingFailedError as error:
            raise attempts.told(error, plan, failures, timeout) from error
    return _fitted(result.return_value, Shelf(checkpoints), settings)


def _fitted(returned: Mapping[str, Any], shelf: Shelf, settings: Training) -> Fitted:
    found = best_sound(shelf, settings.stopping.metric, say)
    if found is None:
        raise StorageError(
            f"No checkpoint of a whole epoch in {shelf.uri} reads back as it was written; start "
            "again with a new --output."
        )
    name, progress = found
    history = tuple(returned["history"])
    began_at, first_step_at = Position(*returned["began_at"]), returned["first_step_at"]
    return Fitted(shelf, name, progress.history[-1], history, began_at, first_step_at)
