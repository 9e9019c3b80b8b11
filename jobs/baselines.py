"""What a fine-tuned model must beat: the majority, TF-IDF, and the encoder left frozen.

Each is fitted on the training rows that the model saw (a seeded sample of at most 20,000, so that
the comparison costs a minute at any size) and asked the same questions as the model. The
regularisation is fixed beforehand, not chosen on anything.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from cluster import storage
from jobs import comparison
from jobs.classifier import metrics
from jobs.classifier.encoding import Encoder, pad
from jobs.classifier.labels import Labels

SAMPLE_ROWS = 20_000
INVERSE_REGULARISATION = 10.0
_FORWARD_ROWS = 64


def measure(
    prepared_uri: str, names: Sequence[str], model_name: str, max_tokens: int, asked: str, seed: int
) -> dict[str, dict[str, Any]]:
    """name → accuracy, macro_f1, macro_recall, per_class, fitted_on, mcnemar.

    `asked` is a Parquet file with the columns text, label and predicted: the rows to be judged on,
    and the answers of the model, against which McNemar's test holds those of each baseline.
    """
    labels = Labels(tuple(names))
    texts, truth_names = _sample(prepared_uri, seed)
    train = labels.encode(truth_names, where="the training split")
    fs, path = storage.filesystem(asked)
    read = ["text", "label", "predicted"]
    questions = pq.read_table(path, columns=read, filesystem=fs).to_pydict()
    truth = labels.encode(questions["label"], where="the source")
    right = labels.encode(questions["predicted"], where="the predictions") == truth
    majority = np.full(len(truth), int(np.bincount(train).argmax()))
    found = {
        "majority": majority,
        "TF-IDF + logistic regression": _tfidf(texts, train, questions["text"]),
        "frozen encoder + logistic regression": frozen(
            texts, train, questions["text"], model_name, max_tokens
        ),
    }
    return {
        name: _figures(truth, predicted, names, len(train))
        | {"mcnemar": comparison.mcnemar(right, predicted == truth)}
        for name, predicted in found.items()
    }


def _figures(
    truth: npt.NDArray[Any], predicted: npt.NDArray[Any], names: Sequence[str], rows: int
) -> dict[str, Any]:
    counts = metrics.counts(truth, predicted, len(names))
    headline = metrics.from_counts(counts)
    kept = {k: headline[k] for k in ("accuracy", "macro_f1", "macro_recall")}
    return kept | {"fitted_on": rows, "per_class": metrics.class_table(counts, names)}


def _sample(prepared_uri: str, seed: int) -> tuple[list[str], list[str]]:
    uri = storage.join(prepared_uri, "train")
    fs, path = storage.filesystem(uri)
    table = pq.read_table(path, columns=["text", "label", "text_id"], filesystem=fs)
    if table.num_rows > SAMPLE_ROWS:
        rng = np.random.default_rng(seed)
        table = table.take(np.sort(rng.choice(table.num_rows, SAMPLE_ROWS, replace=False)))
    return table["text"].to_pylist(), table["label"].to_pylist()


def _tfidf(texts: list[str], labels: npt.NDArray[Any], questions: list[str]) -> npt.NDArray[Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=200_000),
        LogisticRegression(C=INVERSE_REGULARISATION, max_iter=200),
    )
    return np.asarray(model.fit(texts, labels).predict(questions))


def frozen(
    texts: list[str],
    labels: npt.NDArray[Any],
    questions: list[str],
    model_name: str,
    max_tokens: int,
) -> npt.NDArray[Any]:
    """The class id of each question [n], by logistic regression on the frozen encoder."""
    from sklearn.linear_model import LogisticRegression

    from jobs.classifier.network import model_folder

    folder = model_folder(model_name)
    known = embed(folder, texts, max_tokens)
    model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=500)
    return np.asarray(model.fit(known, labels).predict(embed(folder, questions, max_tokens)))


def embed(folder: Path, texts: Sequence[str], max_tokens: int) -> npt.NDArray[np.float32]:
    """float32 [rows, hidden]: the mean of the last layer over each text's tokens, of length 1."""
    import torch

    from jobs.classifier.network import encoder_only
    from jobs.classifier.precision import resolve

    network = encoder_only(folder)
    tokens = Encoder(folder, max_tokens).encode(texts).tokens
    order = np.argsort([-len(ids) for ids in tokens], kind="stable")
    out = np.zeros((len(texts), int(network.config.hidden_size)), np.float32)
    dtype = resolve("auto", torch.device("cpu"))
    mixed = dtype is not torch.float32
    with torch.inference_mode(), torch.autocast("cpu", dtype=dtype, enabled=mixed):
        for start in range(0, len(order), _FORWARD_ROWS):
            rows = order[start : start + _FORWARD_ROWS]
            ids, mask = (torch.from_numpy(a) for a in pad([tokens[r] for r in rows], 0))
            hidden = network(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            weight = mask.unsqueeze(-1).float()
            mean = (hidden * weight).sum(1) / weight.sum(1)
            out[rows] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    return out
