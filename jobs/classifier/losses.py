"""Losses as sums over rows, so that their gradients do not depend on how rows are shared out."""

import torch
import torch.nn.functional as F


def cross_entropy_sum(
    logits: torch.Tensor,
    labels: torch.Tensor,
    rows: torch.Tensor,
    *,
    class_weights: torch.Tensor | None = None,
    logit_offsets: torch.Tensor | None = None,
    focal_gamma: float = 0.0,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Σ over rows of weight(label) · (1 - p(label))^γ · cross-entropy, in float32.

    `logits` [n, classes], `labels` int64 [n], `rows` float [n]: 0 for rows that do not count.
    `class_weights` [classes] has mean 1 over the training rows (jobs.balance sees to that), so
    that a sum divided by the number of rows keeps its scale. `logit_offsets` [classes] is added
    to the logits before anything else: Menon et al., Long-tail learning via logit adjustment,
    2021. `focal_gamma` is γ of Lin et al., Focal loss for dense object detection, 2017, with the
    softmax instead of their sigmoid; 0 is plain cross-entropy. Label smoothing: Szegedy et al.,
    Rethinking the Inception architecture, 2016. A smoothed row is weighed and modulated as a
    whole, by the weight and the probability of its own label, where torch would weigh each
    class's part.
    """
    logits = logits.float()
    if logit_offsets is not None:
        logits = logits + logit_offsets
    losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    if focal_gamma > 0:
        log_p = F.log_softmax(logits, dim=-1).gather(1, labels.unsqueeze(1)).squeeze(1)
        # 1 - p without cancellation; not 0, where a power below 1 has no finite slope.
        missing = -torch.expm1(log_p)
        losses = losses * missing.clamp_min(torch.finfo(torch.float32).eps) ** focal_gamma
    if class_weights is not None:
        losses = losses * class_weights[labels]
    return (losses * rows).sum()


def disagreement_sum(one: torch.Tensor, other: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Σ over rows of the mean of the two Kullback-Leibler divergences between two answers.

    `one`, `other` [n, classes]: logits for the same texts under two draws of dropout. Liang et
    al., R-Drop: regularized dropout for neural networks, 2021.
    """
    p, q = F.log_softmax(one.float(), dim=-1), F.log_softmax(other.float(), dim=-1)
    # KL(p|q) + KL(q|p) = Σ (p - q) · (log p - log q)
    return (((p.exp() - q.exp()) * (p - q)).sum(dim=-1) / 2 * rows).sum()
