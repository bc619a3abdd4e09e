"""Batch normalisation over all parts of a batch that several processes have.

PyTorch's own, SyncBatchNorm, computes on GPUs only.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.train.world import World


def synchronise(network: nn.Module, world: World) -> None:
    """Replace all batch normalisation in a network; its tensors keep their names."""
    for name, layer in network.named_children():
        if isinstance(layer, _BatchNorm):
            setattr(network, name, SyncedBatchNorm(layer, world))
        else:
            synchronise(layer, world)


class SyncedBatchNorm(_BatchNorm):
    """A layer of batch normalisation, of PyTorch or of timm, which may have an activation in it."""

    def __init__(self, layer: _BatchNorm, world: World) -> None:
        """Take over a layer's parameters, buffers and settings, all of them."""
        super().__init__(layer.num_features)
        self.__dict__.update(layer.__dict__)
        self._world = world

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes."""

    def forward(self, input: Tensor) -> Tensor:
        """As the layer's, with the mean and the variance of all parts."""
        output: Tensor = self._normalise(input) if self.training else super().forward(input)
        for name in ("drop", "act"):  # timm's
            if hasattr(self, name):
                output = getattr(self, name)(output)
        return output

    def _normalise(self, input: Float[Tensor, "part channels *axes"]) -> Tensor:
        rows = input.float()
        axes = [axis for axis in range(rows.ndim) if axis != 1]
        shape = [1, -1] + [1] * (rows.ndim - 2)
        count = rows.new_full((self.num_features,), rows.numel() / self.num_features)
        own = torch.stack([count, rows.mean(axes), rows.var(axes, correction=0)])
        counts, means, variances = _Gathered.apply(own, self._world).unbind(1)
        total = counts.sum(0)
        shares = counts / total
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean) ** 2)).sum(0)
        if self.running_mean is not None and self.running_var is not None:
            share = self._share_of_this_batch()
            with torch.no_grad():
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * total / (total - 1), share)
        output: Tensor = (rows - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            output = output * self.weight.view(shape) + self.bias.view(shape)
        return output.to(input.dtype)

    def _share_of_this_batch(self) -> float:
        """The share of this batch in the mean and the variance of evaluation."""
        if self.num_batches_tracked is None:
            return self.momentum or 0.0
        self.num_batches_tracked.add_(1)
        return 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum


class _Gathered(torch.autograd.Function):
    """The statistics of all processes, by their rank."""

    @staticmethod
    def forward(context: Any, own: Float[Tensor, "*any"], world: World) -> Tensor:
        context.rank = world.rank
        found = own.new_zeros((world.size, *own.shape))
        found[world.rank] = own
        dist.all_reduce(found)
        return found

    @staticmethod
    def backward(context: Any, gradient: Float[Tensor, "world *any"]) -> tuple[Tensor, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        own: Tensor = gradient[context.rank]
        return own, None
