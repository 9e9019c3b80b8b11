"""From requests to texts, and from answers to the shapes that clients speak. Plain functions, no
HTTP.

In every shape the decision heads the list, even where another label's score is higher; the others
follow by falling score.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.classifier.predictor import Predictions
from serve.errors import Empty, RequestError, TooLarge, shown
from serve.feedback import Correction
from serve.schema import FeedbackRequest, LabelScore, ModelName, Prediction
from serve.settings import Limits

Values = npt.NDArray[np.floating[Any]]


def check_texts(texts: Sequence[str], limits: Limits) -> None:
    """Refuses what is empty (400) or too large (413)."""
    if not texts:
        raise Empty("texts is empty: send at least one text.")
    if len(texts) > limits.texts:
        raise TooLarge(f"{len(texts)} texts were sent, and {limits.texts} are allowed at once.")
    for number, text in enumerate(texts):
        _check_text(f"Text {number}", text, limits)


def _check_text(name: str, text: str, limits: Limits) -> None:
    if not text.strip():
        raise Empty(f"{name} is empty.")
    if len(text) > limits.characters:
        raise TooLarge(f"{name} has {len(text)} characters, and {limits.characters} are allowed.")


def tei_texts(inputs: str | Sequence[str] | Sequence[Sequence[str]]) -> tuple[list[str], bool]:
    """The texts of a `/predict` request, and whether it is one text, answered with a flat list.

    A pair of texts is what this model cannot read: it is refused, and so is a flat list, which
    text-embeddings-inference takes for a pair.
    """
    if isinstance(inputs, str):
        return [inputs], True
    texts = [item for item in inputs if isinstance(item, str)]
    if texts:
        _check_single("inputs", len(texts))
        return texts, True
    for number, item in enumerate(inputs):
        _check_single(f"inputs[{number}]", len(item))
    return [item[0] for item in inputs], False


def _check_single(name: str, texts: int) -> None:
    if texts != 1:
        raise RequestError(
            f"{name} is a list of {texts} texts: this model labels one text at a time, so a batch "
            'is [["first"], ["second"]].'
        )


def predictions(
    found: Predictions, labels: Sequence[str], *, top_k: int, min_score: float
) -> list[Prediction]:
    """The answers of `/v1/classify`.

    `min_score` abstains where the bundle's own threshold does not, never the other way round.
    """
    least = np.float32(min_score)  # so that a score that was answered reaches itself
    sure = found.label_scores >= least
    return [
        Prediction(
            label=labels[found.labels[row]],
            score=float(found.scores[row, found.labels[row]]),
            abstained=bool(found.abstained[row]) or not bool(sure[row]),
            truncated=bool(found.truncated[row]),
            alternatives=[
                LabelScore(label=labels[c], score=float(found.scores[row, c]))
                for c in _ranked(found.scores[row], int(found.labels[row]), top_k)
                if c == found.labels[row] or found.scores[row, c] >= least
            ],
        )
        for row in range(len(found.labels))
    ]


def tei_scores(
    found: Predictions, labels: Sequence[str], *, raw_scores: bool
) -> list[list[dict[str, Any]]]:
    """The answers of `/predict`: every label."""
    return _listed(found, found.logits if raw_scores else found.scores, labels, len(labels))


def inference_scores(
    found: Predictions, labels: Sequence[str], *, top_k: int | None, function: str | None
) -> list[list[dict[str, Any]]]:
    """The answers of `/models/{name}`: a list for each text, also where there is but one.

    Without `top_k` every label is given, as the interface's description has it. Without a
    function, or with softmax, the scores are the calibrated ones of every other route.
    """
    values: Values
    if function == "none":
        values = found.logits
    elif function == "sigmoid":  # in a form that overflows nowhere
        values = 0.5 * (1 + np.tanh(found.logits.astype(np.float64) / 2))
    else:
        values = found.scores
    return _listed(found, values, labels, len(labels) if top_k is None else top_k)


def _listed(
    found: Predictions, values: Values, labels: Sequence[str], top_k: int
) -> list[list[dict[str, Any]]]:
    return [
        [
            {"label": labels[c], "score": float(values[row, c])}
            for c in _ranked(values[row], int(found.labels[row]), top_k)
        ]
        for row in range(len(found.labels))
    ]


def _ranked(values: Values, label: int, top_k: int) -> list[int]:
    """Class ids by falling value, the label before all others even where its value is lower."""
    order = np.argsort(-values, kind="stable").tolist()
    return [label, *(c for c in order if c != label)][:top_k]


def correction(
    body: FeedbackRequest,
    *,
    request_id: str,
    model: ModelName,
    labels: Sequence[str],
    limits: Limits,
) -> Correction:
    """What is stored of a correction that came with the request `request_id`.

    Empty, TooLarge, or RequestError for a label that the model does not have. Bad surrogates in
    the text are replaced, as they are where it is labelled: nothing can write them down.
    """
    _check_text("text", body.text, limits)
    if body.label not in labels:
        raise RequestError(
            f'"{shown(body.label, 100)}" is none of the {len(labels)} labels of this model; '
            "GET /info lists them."
        )
    return Correction(
        text=body.text.encode("utf-8", "replace").decode("utf-8"),
        label=body.label,
        request_id=request_id if body.request_id is None else body.request_id,
        model_name=model.name,
        model_version=model.version,
    )
