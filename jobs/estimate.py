"""What a run would cost, measured on a few real steps with a sample of the rows.

The steps run in a task with the resources of one worker, so that a cluster with GPUs is measured
on a GPU. Knows nothing of what is trained afterwards.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from cluster import storage
from cluster.resources import Plan
from jobs.classifier.encoding import TokenIds
from jobs.prepared import Prepared
from jobs.training import Training, balanced_plan

SAMPLE_ROWS = 2000
STEPS = 6
WARM = 2  # of them are not counted
# From the command to the first step and from the last to the bundle, measured on two cores.
OVERHEAD_S = 30.0


@dataclass(frozen=True)
class _Sample:
    """Tokenized rows in memory, as jobs.classifier.batches.Tokens wants them."""

    shard_rows: list[int]
    lengths: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]
    text_ids: npt.NDArray[np.uint64]
    tokens: list[TokenIds]

    def read(self, rows: npt.NDArray[np.int64]) -> list[TokenIds]:
        return [self.tokens[row] for row in rows]


def estimate(settings: Training, prepared: Prepared, plan: Plan) -> dict[str, Any]:
    """Rows, steps and seconds of the run that `settings` describe."""
    import ray

    measure = ray.remote(num_cpus=plan.cpus_per_worker, num_gpus=1 if plan.gpu else 0)(_measure)
    texts, labels = _sample(prepared)
    seconds_per_token, steps_per_row, tokens_per_row = ray.get(
        measure.remote(
            settings.model_dump(),
            list(prepared.labels.names),
            texts,
            labels,
            plan,
        )
    )
    balanced = balanced_plan(settings, prepared.counts("train"))
    rows = balanced.rows * settings.train.epochs
    training = rows * tokens_per_row * seconds_per_token / plan.workers
    return {
        "rows_per_epoch": balanced.rows,
        "steps": max(settings.train.epochs, round(rows * steps_per_row)),
        "expected_seconds": round(training + OVERHEAD_S, 1),
        "measured_steps": STEPS - WARM,
    }


def _sample(prepared: Prepared) -> tuple[list[str], list[str]]:
    uri = storage.join(prepared.uri, "train")
    fs, _ = storage.filesystem(uri)
    texts: list[str] = []
    labels: list[str] = []
    for path, _ in storage.list_files(uri, ".parquet"):
        with pq.ParquetFile(path, filesystem=fs) as file:
            for batch in file.iter_batches(SAMPLE_ROWS, columns=["text", "label"]):
                texts += batch["text"].to_pylist()
                labels += batch["label"].to_pylist()
                if len(texts) >= SAMPLE_ROWS:
                    return texts[:SAMPLE_ROWS], labels[:SAMPLE_ROWS]
    return texts, labels


def _measure(
    values: dict[str, Any],
    names: list[str],
    texts: list[str],
    labels: list[str],
    plan: Plan,
) -> tuple[float, float, float]:
    """(seconds a real token, steps a row, tokens a row) on one worker."""
    import torch

    from jobs.classifier import network
    from jobs.classifier.batches import batches, pin_for, plan_epoch
    from jobs.classifier.encoding import Encoder
    from jobs.classifier.labels import Labels
    from jobs.classifier.step import step_for_timing
    from jobs.classifier.text import text_ids
    from jobs.training import recipe_of

    settings = Training.model_validate(values)
    torch.set_num_threads(plan.threads)
    device = torch.device("cuda" if plan.gpu else "cpu")
    folder = network.model_folder(settings.model.name)
    encoded = Encoder(folder, settings.model.max_tokens).encode(texts)
    sample = _Sample(
        [len(texts)],
        encoded.lengths,
        Labels(tuple(names)).encode(labels, where="the sample"),
        text_ids(texts),
        encoded.tokens,
    )
    epoch = list(plan_epoch(sample, seed=0, epoch=0, batch_tokens=settings.train.batch_tokens))
    model = network.new_network(folder, names, dropout=settings.model.dropout, seed=0).to(device)
    network.freeze(model, settings.model.freeze_layers)
    recipe = recipe_of(settings, device, workers=plan.workers)
    step = step_for_timing(model, recipe, device)
    seconds, tokens = 0.0, 0
    few = [epoch[k % len(epoch)] for k in range(STEPS)]
    # Graphs and compiled layers are made when a shape comes, or comes back.
    turns = 3 if recipe.packed or recipe.compiled else 1
    for number, batch in enumerate(batches(sample, few * turns, pad_id=0, pin=pin_for(device))):
        began = time.monotonic()
        step(batch)
        if number >= (turns - 1) * STEPS + WARM:
            seconds += time.monotonic() - began
            tokens += batch.real_tokens
    per_row = float(encoded.lengths.mean())
    return seconds / max(1, tokens), len(epoch) / len(texts), per_row
