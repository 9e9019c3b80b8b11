"""The loss as a sum over rows, so that its gradient does not depend on how rows are shared out."""

import torch
import torch.nn.functional as F


def cross_entropy_sum(
    logits: torch.Tensor,
    labels: torch.Tensor,
    rows: torch.Tensor,
    *,
    class_weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Σ over rows of weight(label) · cross-entropy, in float32.

    `logits` [n, classes], `labels` int64 [n], `rows` float [n]: 0 for rows that do not count.
    `class_weights` [classes] has mean 1 over the training rows (jobs.balance sees to that), so
    that a sum divided by the number of rows keeps its scale. Label smoothing: Szegedy et al.,
    Rethinking the Inception architecture, 2016; a smoothed row carries the weight of its own
    label whole, where torch would weigh each class's part.
    """
    losses = F.cross_entropy(
        logits.float(), labels, reduction="none", label_smoothing=label_smoothing
    )
    if class_weights is not None:
        losses = losses * class_weights[labels]
    return (losses * rows).sum()
