"""Calibration folded into a network: its last layer is changed, so that its own logits are decided.

What other programs load (plain transformers, other servers) then needs to know nothing of it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cluster.errors import BundleError


def fold(network: Any, *, temperature: float, bias: npt.NDArray[np.float64]) -> None:
    """Makes the network's own logits z / temperature + bias, by changing its last layer in place.

    `bias` is of shape [classes]. BundleError as of `last_linear`.
    """
    last = last_linear(network, len(bias))
    with torch.no_grad():
        last.weight.copy_(last.weight.double() / temperature)
        moved = torch.from_numpy(bias).to(last.bias.device)
        last.bias.copy_(last.bias.double() / temperature + moved)


def last_linear(network: Any, classes: int) -> torch.nn.Linear:
    """The layer whose outputs are the logits: the last linear one of the head.

    BundleError where there is none with a bias: nothing can be folded into it then.
    """
    encoder = f"{getattr(network, 'base_model_prefix', '')}."
    found = [
        module
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear)
        and not name.startswith(encoder)
        and module.out_features == classes
    ]
    if not found or found[-1].bias is None:
        raise BundleError(
            f"{type(network).__name__} has no last linear layer with a bias that gives its "
            f"{classes} logits, so that calibration cannot be folded into it. Use a model of the "
            "kind of BERT, RoBERTa, DistilBERT or ELECTRA as model.name."
        )
    return found[-1]
