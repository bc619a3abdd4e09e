"""Muon for the filters of convolutions that batch normalisation follows.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), in the form of cifar10-airbench
(arXiv:2404.00498): a layer's filters move by an orthogonal matrix, which turns all of them by about
as much, and their norm is held, since batch normalisation makes it meaningless. timm's Muon does
not hold norms, PyTorch's refuses convolutions.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""The polynomial of odd powers that brings all singular values towards 1."""
_ITERATIONS = 3


class Muon(torch.optim.Optimizer):
    """Momentum after Nesterov, made orthogonal, for parameters of two or more dimensions."""

    def __init__(self, filters: Iterable[Tensor], lr: float, momentum: float) -> None:
        """lr: the length of a step as a share of the filters' norm; momentum in [0, 1)."""
        super().__init__(filters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move all filters that have a gradient."""
        for group in self.param_groups:
            for filters in group["params"]:
                if filters.grad is not None:
                    self._move(filters, group["lr"], group["momentum"])

    def _move(self, filters: Tensor, lr: float, momentum: float) -> None:
        state = self.state[filters]
        if not state:
            state["momentum"] = torch.zeros_like(filters)
        state["momentum"].mul_(momentum).add_(filters.grad)
        direction = filters.grad.add(state["momentum"], alpha=momentum)  # type: ignore[union-attr]
        filters.mul_(len(filters) ** 0.5 / filters.norm().clamp_min(1e-7))
        filters.sub_(orthogonal(direction.flatten(1)).view(filters.shape), alpha=lr)


def orthogonal(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """About the nearest matrix whose singular values are all 1: here from 0.5 to 1.5 or so."""
    tall = matrix.shape[0] > matrix.shape[1]
    found: Tensor = matrix.T if tall else matrix
    found = found / (found.norm() + 1e-7)
    first, third, fifth = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = found @ found.T
        found = first * found + torch.addmm(square, square, square, beta=third, alpha=fifth) @ found
    return found.T if tall else found
