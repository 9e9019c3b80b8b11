"""The model card of a bundle: data, balance, figures, scores and limits, as Markdown.

For whoever finds the folder without us. Knows what a bundle says of itself, and English.
"""

from collections.abc import Mapping
from typing import Any

from jobs.classifier.bundle import About

_METADATA = "pipeline_tag: text-classification\nlibrary_name: transformers\ntags: [switchyard]"
_HEADLINE = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1")
_LIMITS = (
    "The model knows these labels and the texts they came with, and nothing else: a text of "
    "another kind still gets one of them. Scores hold for texts like those of the validation rows, "
    "in the same mix of classes. Check figures per class, not accuracy alone."
)


def card(about: About, metrics: Mapping[str, Any], *, title: str) -> str:
    """README.md; `metrics` are those on the validation rows, and may lack any figure."""
    parts = [
        f"---\n{_METADATA}\n---\n\n# {title}",
        "\n".join(_facts(about)),
        "## On the validation rows",
        "\n".join(_figures(metrics)),
        "\n".join(_classes(about, metrics)),
        "## Scores",
        "\n".join(_scores(about)),
        "## Limits",
        _LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _facts(about: About) -> list[str]:
    strategy = about.configuration.get("balance.strategy", "none")
    fraction = about.configuration.get("data.fraction", 1.0)
    part = "" if fraction == 1 else f", on {fraction:g} of the training rows"
    return [
        f"- Base model: {about.configuration.get('model.name', 'unknown')}, softmax head on [CLS]",
        f"- Classes: {len(about.labels)}; reads at most {about.max_tokens} tokens, the rest is cut",
        f"- Text columns, joined by a newline: {', '.join(about.text_columns)}",
        f"- Training data: manifest {about.manifest_digest or 'unknown'}; "
        f"balance: {strategy}{part}",
        f"- Made: {about.created}; " + ", ".join(f"{k} {v}" for k, v in about.versions.items()),
    ]


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    found = [
        f"| {name.replace('_', ' ')} | {metrics[name]:.4f} |"
        for name in _HEADLINE
        if name in metrics
    ]
    return ["| figure | value |", "|---|---|", *found]


def _classes(about: About, metrics: Mapping[str, Any]) -> list[str]:
    felt, figures = about.training_prior, metrics.get("per_class", {})
    lines = [
        "| class | share of the data | share in training | precision | recall | F1 | rows |",
        "|---|---|---|---|---|---|---|",
    ]
    for c, name in enumerate(about.labels):
        if name in figures:
            own = figures[name]
            cells = [name.replace("|", "/"), f"{about.natural_prior[c]:.4f}"]
            cells.append("none" if felt is None else f"{felt[c]:.4f}")
            cells += [f"{own[k]:.3f}" for k in ("precision", "recall", "f1")]
            lines.append(f"| {' | '.join(cells)} | {own['support']} |")
    return lines


def _scores(about: About) -> list[str]:
    """How the label and its score come about, and what they were worth."""
    found = about.calibration
    if not found:
        return ["Scores are those of the network: they were not calibrated."]
    corrected = (
        "no prior correction, as the loss was that of no prior"
        if about.training_prior is None
        else f"{found['prior_strength']:.2f} · log(share of the data / share in training) added"
    )
    lines = [
        f"- Logits were divided by {about.temperature:.3f}, {corrected}; fitted on "
        f"{found['rows']:,} validation rows",
        f"- Expected calibration error (15 bins) {found['calibration_error_before']:.4f} before, "
        f"{found['calibration_error']:.4f} after, on the rows it was fitted on: on others expect "
        "somewhat more",
        f"- The label is the argmax of log-scores - {found['offset_strength']:.2f} · log(share of "
        f"the data), chosen for {found['metric'].replace('_', ' ')}; its score is the calibrated "
        "probability without that. All is folded into the last layer: the argmax of the logits is "
        "the label, and softmax(logits - decision_offset of bundle.json) the scores",
    ]
    if about.abstention_threshold == 0:
        return [*lines, "- Every text is answered: no abstention threshold"]
    worth = found["answered_accuracy"]
    return [
        *lines,
        f"- Below a score of {about.abstention_threshold:.4f} a human is asked: "
        f"{found['coverage']:.1%} of the validation rows are answered, {worth:.1%} of these right",
    ]
