"""The optimizer, its schedule, and the moving average of the weights."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.train import ModelConfig


def build_optimizer(model: nn.Module, config: ModelConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101) without decay on biases and norms."""
    parameters = [value for value in model.parameters() if value.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [value for value in parameters if value.ndim > 1]},
        {"params": [value for value in parameters if value.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=config.lr,
        weight_decay=config.weight_decay,
        fused=parameters[0].device.type != "mps",
    )


def learning_rate(config: ModelConfig, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up to the peak, then half a cosine that ends at zero after the last step."""
    steps = config.epochs * steps_per_epoch
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


class MovingAverage:
    """Exponential moving average of a model's floating-point state, kept in a second model.

    The decay grows to its final value as min(decay, (1 + steps) / (10 + steps)), so that the
    random first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, average: nn.Module, decay: float) -> None:
        """average: a copy of the model; decay in [0, 1), per step; 0 follows the model."""
        self._decay = decay
        self._pairs = [
            (into, of)
            for into, of in zip(_state(average), _state(model), strict=True)
            if into.is_floating_point()
        ]
        self._counters = [
            (into, of)
            for into, of in zip(_state(average), _state(model), strict=True)
            if not into.is_floating_point()
        ]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the model's state after that many steps."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        averages = [into for into, _ in self._pairs]
        torch._foreach_lerp_(averages, [of for _, of in self._pairs], 1 - decay)
        for into, of in self._counters:
            into.copy_(of)


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
