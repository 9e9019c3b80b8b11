"""From trained weights to a published bundle, measured on the validation rows on the way."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster import command, publishing, resources, storage
from jobs import evaluation
from jobs.classifier import bundle, network
from jobs.classifier.checkpoint import weights
from jobs.classifier.predictor import Predictor
from jobs.prepared import Prepared
from jobs.trainer import Training, balanced_plan


def make_bundle(
    settings: Training,
    prepared: Prepared,
    weights_folder: Path,
    output: str,
    validation: tuple[list[str], list[str]],
) -> dict[str, Any]:
    """Builds, measures on the validation rows, and publishes the bundle; its metrics.

    The bundle is made twice: once to answer the validation rows as users will see it answer,
    and then with the figures of those answers.
    """
    names = prepared.labels.names
    folder = network.model_folder(settings.model.name)
    model = network.new_network(folder, names, dropout=settings.model.dropout, seed=0)
    model.load_state_dict(weights(weights_folder))
    counts = prepared.counts("train")
    prior = balanced_plan(settings, counts).prior
    about = bundle.About(
        labels=list(names),
        max_tokens=settings.model.max_tokens,
        text_columns=prepared.text_columns,
        training_prior=None if prior is None else prior.tolist(),
        natural_prior=(counts / counts.sum()).tolist(),
        decision_offset=[0.0] * len(names),
        configuration=command.dotted(settings),
        data={"uri": prepared.uri, "labels_map": prepared.manifest["labels_map"]},
        manifest_digest=prepared.digest,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=bundle.versions(),
    )
    with tempfile.TemporaryDirectory() as temporary:
        draft = Path(temporary) / "draft"
        bundle.write(
            draft, network=model, tokenizer_folder=folder, about=about, metrics={}, card=""
        )
        texts, labels = validation
        answers = Predictor(draft, threads=resources.threads_per_node()).predict(texts)
        truth = prepared.labels.encode(labels, where="the validation split")
        metrics = evaluation.figures(truth, answers, names)
        finished = Path(temporary) / "bundle"
        card = bundle.card(about, metrics, labels=names, title="Ticket router")
        bundle.write(
            finished,
            network=model,
            tokenizer_folder=folder,
            about=about,
            metrics=metrics,
            card=card,
        )
        publishing.publish(finished, storage.join(output, "bundle"), bundle.COMMIT)
    return metrics
