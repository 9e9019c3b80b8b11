"""What makes the layers of an encoder cheaper on GPUs; names and values of weights stay."""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from cluster.errors import SettingError
from jobs.classifier.optimizer import layer_of


class NormInBf16(nn.Module):
    """A LayerNorm that takes and gives bfloat16, where autocast would have float32.

    Means and variances are summed in float32 all the same (torch's kernels see to that); what
    passes from layer to layer takes half the memory, and so does what reads and writes it.
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self._shape, self._eps = norm.normalized_shape, norm.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, weight, bias = (v.to(torch.bfloat16) for v in (x, self.weight, self.bias))
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, self._shape, weight, bias, self._eps)


def use_bf16_norms(network: Any) -> None:
    """Replaces the norms of all layers, in place."""
    for layer in list(_layers(network)):
        for module in list(layer.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.LayerNorm):
                    setattr(module, name, NormInBf16(child))


def compile_layers(network: Any) -> None:
    """Each layer by itself through torch.compile, in place, for rows and lengths of any number.

    They are all the same code, so that one compilation serves them all. SettingError where torch
    finds nothing to compile with: that is Triton and a C compiler.
    """
    missing = ["Triton"] if find_spec("triton") is None else []
    missing += ["a C compiler"] if not any(map(shutil.which, ("cc", "gcc", "clang"))) else []
    if missing:
        raise SettingError(
            f"train.compile: {' and '.join(missing)} cannot be found where this worker runs. "
            "Install what is missing on every node with a GPU, or leave train.compile out."
        )
    for layer in _layers(network):
        layer.compile(dynamic=True)


def as_written() -> AbstractContextManager[None]:
    """In the block compiled layers run as they are written, and nothing is compiled for it."""
    made: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return made


def _layers(network: Any) -> Iterator[nn.Module]:
    for name, module in network.named_modules():
        if name.rpartition(".")[2].isdigit() and layer_of(f"{name}.") >= 0:
            yield module
