"""From answers to the shapes that clients speak. Plain functions, no HTTP."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.classifier.predictor import Predictions
from serve.errors import Empty, RequestError, TooLarge
from serve.schema import LabelScore, Prediction
from serve.settings import Limits


def check_texts(texts: Sequence[str], limits: Limits) -> None:
    """Refuses what is empty (400) or too large (413)."""
    if not texts:
        raise Empty("texts is empty: send at least one text.")
    if len(texts) > limits.texts:
        raise TooLarge(f"{len(texts)} texts were sent, and {limits.texts} are allowed at once.")
    for number, text in enumerate(texts):
        if not text.strip():
            raise Empty(f"Text {number} is empty.")
        if len(text) > limits.characters:
            raise TooLarge(
                f"Text {number} has {len(text)} characters, and {limits.characters} are allowed."
            )


def tei_texts(inputs: str | Sequence[Sequence[str]]) -> list[str]:
    """The texts of a `/predict` request; a pair of texts is what this model cannot read."""
    if isinstance(inputs, str):
        return [inputs]
    for number, item in enumerate(inputs):
        if len(item) != 1:
            raise RequestError(
                f"inputs[{number}] has {len(item)} texts: this model labels one text at a time, "
                'so a batch is [["first"], ["second"]].'
            )
    return [item[0] for item in inputs]


def predictions(
    found: Predictions, labels: Sequence[str], *, top_k: int, min_score: float
) -> list[Prediction]:
    """The answers of `/v1/classify`."""
    return [
        Prediction(
            label=labels[found.labels[row]],
            score=float(found.scores[row, found.labels[row]]),
            abstained=bool(found.abstained[row]),
            truncated=bool(found.truncated[row]),
            alternatives=[
                LabelScore(label=labels[c], score=float(found.scores[row, c]))
                for c in _ranked(found, row, top_k)
                if c == found.labels[row] or found.scores[row, c] >= min_score
            ],
        )
        for row in range(len(found.labels))
    ]


def tei_scores(
    found: Predictions, labels: Sequence[str], *, raw_scores: bool
) -> list[list[dict[str, Any]]]:
    """The answers of `/predict`: every label, the decision first."""
    values = found.logits if raw_scores else found.scores
    return [
        [
            {"label": labels[c], "score": float(values[row, c])}
            for c in _ranked(found, row, len(labels))
        ]
        for row in range(len(found.labels))
    ]


def _ranked(found: Predictions, row: int, top_k: int) -> list[int]:
    """Class ids by falling score, the label before all others even where its score is lower."""
    order = np.argsort(-found.scores[row], kind="stable").tolist()
    label = int(found.labels[row])
    return [label, *(c for c in order if c != label)][:top_k]
