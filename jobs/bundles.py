"""From trained weights to a published bundle: calibrated, decided and measured on the way.

All three happen on the validation rows, which are answered once, by the network as it was trained.
What folding does to those answers is arithmetic; that the folded network does the same is checked
on a few rows.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cluster import command, publishing, resources, storage
from cluster.errors import BundleError
from cluster.session import say
from jobs import decisions, evaluation
from jobs.classifier import bundle, folding, network
from jobs.classifier.card import card
from jobs.classifier.checkpoint import weights
from jobs.classifier.predictor import Predictions, Predictor
from jobs.prepared import Prepared
from jobs.training import Training, balanced_plan

DRAFTS = ".bundle"  # in a local run folder, while its bundle is made
_CHECKED_ROWS = 32


def make_bundle(
    settings: Training,
    prepared: Prepared,
    weights_folder: Path,
    output: str,
    validation: tuple[list[str], list[str]],
) -> dict[str, Any]:
    """Calibrates, measures and publishes the bundle of a run, whose folder `output` no other
    process works in; gives its metrics.

    They are those of the finished decision on the validation rows, `calibration` among them.
    """
    folder = network.model_folder(settings.model.name)
    names = prepared.labels.names
    model = network.new_network(folder, names, dropout=settings.model.dropout, seed=0)
    model.load_state_dict(weights(weights_folder))
    write = partial(bundle.write, network=model, tokenizer_folder=folder)
    texts, labels = validation
    truth = prepared.labels.encode(labels, where="the validation split")
    about = _about(settings, prepared)
    with _workshop(output) as workshop:
        draft, finished = workshop / "draft", workshop / "bundle"
        write(draft, about=about, metrics={}, card="")
        raw = _predictor(draft).predict(texts)
        shutil.rmtree(draft)
        about, bias, answers = decisions.decided(
            settings.decide, settings.abstain, about, raw, truth
        )
        folding.fold(model, temperature=about.temperature, bias=bias)
        metrics = evaluation.figures(truth, answers, names, about.natural_prior)
        metrics |= {
            "calibration_error_before": about.calibration["calibration_error_before"],
            "calibration": about.calibration,
        }
        text = card(about, metrics, title="Ticket router")
        write(finished, about=about, metrics=metrics, card=text)
        _check_folded(finished, texts, answers)
        publishing.publish(finished, storage.join(output, "bundle"), bundle.COMMIT)
    say(decisions.in_words(about))
    return metrics


@contextmanager
def _workshop(output: str) -> Iterator[Path]:
    """A folder that lasts as long as the block: for a local run within its own, where there is room
    for the bundle if anywhere; what a killed attempt left in it is removed."""
    if not storage.is_local(output):
        with tempfile.TemporaryDirectory(prefix="switchyard-") as temporary:
            yield Path(temporary)
        return
    folder = Path(output, DRAFTS)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _predictor(folder: Path) -> Predictor:
    return Predictor(folder, threads=resources.threads_per_node())


def _about(settings: Training, prepared: Prepared) -> bundle.About:
    """What is known before any row is answered: temperature 1, no offset, no threshold."""
    counts = prepared.counts("train")
    prior = balanced_plan(settings, counts).prior
    return bundle.About(
        labels=list(prepared.labels.names),
        max_tokens=settings.model.max_tokens,
        text_columns=prepared.text_columns,
        training_prior=None if prior is None else prior.tolist(),
        natural_prior=(counts / counts.sum()).tolist(),
        decision_offset=[0.0] * len(counts),
        configuration=command.dotted(settings),
        data={"uri": prepared.uri, "labels_map": prepared.manifest["labels_map"]},
        manifest_digest=prepared.digest,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=bundle.versions(),
    )


def _check_folded(folder: Path, texts: Sequence[str], answers: Predictions) -> None:
    """That the bundle in `folder` gives the answers that were measured; BundleError if not."""
    few = slice(0, _CHECKED_ROWS)
    logits = _predictor(folder).predict(texts[few]).logits
    if not np.allclose(logits, answers.logits[few], rtol=1e-3, atol=1e-2):
        raise BundleError(
            "The network with its calibration folded in does not give the scores that were "
            "measured: its logits are not what its last linear layer gives. Use a model of the "
            "kind of BERT, RoBERTa, DistilBERT or ELECTRA as model.name."
        )
