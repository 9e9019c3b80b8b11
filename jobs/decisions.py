"""What is decided on the validation rows: calibration, decision offset, abstention threshold.

The settings' side of jobs.classifier.calibration and jobs.classifier.decision, and what came of it
in figures and in words. Knows answers and truth, not where they come from.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jobs import evaluation
from jobs.classifier import bundle, calibration, decision
from jobs.classifier.calibration import Calibration
from jobs.classifier.metrics import calibration_error
from jobs.classifier.predictor import Predictions, decide
from jobs.settings import Abstain, Decide

Ids = npt.NDArray[Any]

_HEADLINE = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "weighted_precision",
    "weighted_recall",
    "weighted_f1",
    "rarest_third_recall",
    "calibration_error",
)


def decided(
    choice: Decide, limits: Abstain, about: bundle.About, raw: Predictions, truth: Ids
) -> tuple[bundle.About, calibration.Floats, Predictions]:
    """Fits calibration, offset and threshold on validation rows, which `raw` are the answers of.

    `raw` is of the network as it was trained, `truth` int [n]. Gives what the bundle is to say
    of itself, the float64 [classes] that are to be folded into the last layer beside its
    temperature, and what the finished bundle answers to the same rows.
    """
    natural = np.array(about.natural_prior)
    found, strength, offset, everything = _fitted(choice, about.training_prior, natural, raw, truth)
    threshold = _threshold(limits, everything, truth)
    answers = replace(everything, abstained=everything.label_scores < np.float32(threshold))
    facts = {
        "rows": len(truth),
        "temperature": found.temperature,
        "prior_strength": found.prior_strength if about.training_prior is not None else 0.0,
        "metric": choice.metric,
        "offset_strength": strength,
        "abstention_threshold": threshold,
        **_worth(raw, answers, truth, found),
    }
    about = replace(
        about,
        temperature=found.temperature,
        decision_offset=offset.tolist(),
        abstention_threshold=threshold,
        calibration=facts,
    )
    return about, found.correction + offset, answers


def _fitted(
    choice: Decide,
    training_prior: Sequence[float] | None,
    natural: calibration.Floats,
    raw: Predictions,
    truth: Ids,
) -> tuple[Calibration, float, calibration.Floats, Predictions]:
    """Calibration, strength of the offset and the offset itself as fitted on validation rows, and
    the answers to these under them, none abstained on."""
    found = calibration.fit(raw.logits, truth, training_prior=training_prior, natural_prior=natural)
    log_scores = found.log_scores(raw.logits)
    strength = decision.offset_strength(log_scores, truth, natural, choice.metric)
    offset = decision.offset(strength, natural)
    logits = torch.from_numpy(log_scores + offset.astype(np.float32))
    return found, strength, offset, decide(logits, raw.truncated, offset.tolist(), 0.0)


class Judge:
    """Figures of validation rows as the finished bundle would answer them, for every epoch.

    What a run, its early stopping and a search are judged by is what is served: calibrated, and
    with the decision offset. `priors`: the training prior (None where a balance has none) and
    float64 [classes], the natural one.
    """

    def __init__(
        self, choice: Decide, priors: tuple[Sequence[float] | None, calibration.Floats]
    ) -> None:
        self._choice = choice
        self._training_prior, self._natural = priors
        self.confusion: list[list[int]] = []  # [truth, predicted, rows] of the rows judged last

    def __call__(self, logits: calibration.Logits, truth: Ids) -> dict[str, float]:
        """The headline figures, and the log-loss of the calibrated scores; `logits` [n, classes]
        of the network itself, `truth` int [n]."""
        raw = decide(torch.from_numpy(logits), np.zeros(len(truth), np.bool_), [0.0], 0.0)
        found, *_, answers = _fitted(self._choice, self._training_prior, self._natural, raw, truth)
        loss = calibration.negative_log_likelihood(found.log_scores(logits), truth)
        pairs, rows = np.unique(np.stack([truth, answers.labels]), axis=1, return_counts=True)
        self.confusion = np.vstack([pairs, rows]).T.tolist()
        names = [str(c) for c in range(len(self._natural))]
        figures = evaluation.figures(truth, answers, names, self._natural.tolist())
        kept = {name: figures[name] for name in _HEADLINE if figures[name] is not None}
        return kept | {"calibrated_loss": loss}


def _threshold(limits: Abstain, answers: Predictions, truth: Ids) -> float:
    """The abstention threshold; warns where the precision that is asked for cannot be had."""
    scores, right = answers.label_scores, answers.labels == truth
    found = decision.abstention(scores, right, precision=limits.precision, coverage=limits.coverage)
    if not found.reached:
        kept = right[scores >= np.float32(found.value)]
        print(
            f"warning: abstain.precision = {limits.precision:g} is not reached on the "
            f"{len(truth)} validation rows at any threshold that leaves enough of them. The one "
            f"with the highest precision is taken: {kept.mean() if kept.size else 0:.4f} on the "
            f"{found.answered} rows with a score of at least {found.value:.4f}.",
            file=sys.stderr,
            flush=True,
        )
    return found.value


def _worth(
    raw: Predictions, answers: Predictions, truth: Ids, found: Calibration
) -> dict[str, Any]:
    """Figures on the validation rows before (the network's own answers) and after."""
    right, answered = answers.labels == truth, ~answers.abstained
    return {
        "nll_before": calibration.negative_log_likelihood(raw.logits, truth),
        "nll_after": calibration.negative_log_likelihood(found.log_scores(raw.logits), truth),
        "calibration_error_before": _error(raw, truth),
        "calibration_error": _error(answers, truth),
        "coverage": float(answered.mean()) if len(truth) else 0.0,
        "answered_accuracy": float(right[answered].mean()) if answered.any() else None,
    }


def _error(answers: Predictions, truth: Ids) -> float:
    return calibration_error(answers.label_scores.astype(np.float64), answers.labels == truth)


def in_words(about: bundle.About) -> str:
    """What was fitted on the validation rows, as a line of text."""
    found = about.calibration
    line = (
        f"Scores: temperature {about.temperature:.3f}, prior correction "
        f"{found['prior_strength']:.2f}; calibration error {found['calibration_error_before']:.4f} "
        f"before, {found['calibration_error']:.4f} after. Decision offset "
        f"{found['offset_strength']:.2f} for {found['metric']}. "
    )
    if about.abstention_threshold == 0:
        return line + "No abstention threshold."
    return line + (
        f"Abstains below {about.abstention_threshold:.4f}: answers {found['coverage']:.1%} of the "
        f"validation rows, {found['answered_accuracy']:.1%} of these right."
    )
