"""The optimizers, their schedule, and the moving average of the weights."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import TrainError
from pipeline.train.config import ModelConfig, MuonConfig
from pipeline.train.head import find_head
from pipeline.train.models import Classifier
from pipeline.train.muon import Muon


def build_optimizers(model: Classifier, config: ModelConfig) -> list[torch.optim.Optimizer]:
    """AdamW for the groups of parameter_groups, and before it Muon for filters, if asked for.

    Raises TrainError where there is no filter, or no batch normalisation, which alone makes the
    norm of filters meaningless that Muon holds; or as parameter_groups does.
    """
    groups = parameter_groups(model, config)
    optimizers: list[torch.optim.Optimizer] = []
    if isinstance(config.optimizer, MuonConfig):
        of_time = {id(each.weight) for each in model.modules() if isinstance(each, nn.Conv1d)}
        filters, others = [], []
        for group in groups:
            moved = [each for each in group["params"] if each.ndim == 4 or id(each) in of_time]
            kept = {id(each) for each in moved}
            rest = [each for each in group["params"] if id(each) not in kept]
            filters += moved
            others.append(group | {"params": rest})
        groups = others
        if not filters:
            raise TrainError(
                f"optimizer: muon moves the filters of convolutions, and "
                f"{type(model.backbone).__name__} has none. Set optimizer: {{kind: adamw}}"
            )
        if not any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in model.modules()):
            raise TrainError(
                "optimizer: muon holds the norm of filters, which batch normalisation makes "
                f"meaningless, and {config.network.name} has none. Set batch_norm: true, "
                "where the network has that switch, or optimizer: {kind: adamw}"
            )
        optimizers = [Muon(filters, config.optimizer.lr, config.optimizer.momentum)]
        optimizers[0].param_groups[0]["lr_scale"] = config.optimizer.lr / config.lr
    fused = next(model.parameters()).device.type != "mps"
    adamw = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=fused)
    return [*optimizers, adamw]


def parameter_groups(model: Classifier, config: ModelConfig) -> list[dict[str, Any]]:
    """All parameters, in groups for an optimizer: biases and normalisation layers do not decay.

    A group's `lr_scale`, 1 where it has none, is its share of the scheduled rate: by its layer,
    where `layer_decay` is set, and for the classifier `head_lr` / `lr`, where that is set.
    Raises TrainError where timm knows no layers or no classifier of the network.
    """
    if config.layer_decay is not None:
        groups = _group_by_layer(model.backbone, config.layer_decay, config.weight_decay)
    else:
        parameters = [value for value in model.parameters() if value.requires_grad]
        groups = [
            {"params": [value for value in parameters if value.ndim > 1]},
            {"params": [value for value in parameters if value.ndim <= 1], "weight_decay": 0.0},
        ]
    if config.head_lr is None:
        return groups
    head = {id(value) for value in find_head(model.backbone, "head_lr").parameters()}
    split = []
    for group in groups:
        for of_head, scale in ((False, {}), (True, {"lr_scale": config.head_lr / config.lr})):
            chosen = [value for value in group["params"] if (id(value) in head) == of_head]
            if chosen:
                split.append(group | {"params": chosen} | scale)
    return split


def _group_by_layer(
    network: nn.Module, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """timm's layers, from the stem up; lr_scale is layer_decay ** (number of layers above).

    After BEiT (Bao et al. 2021, arXiv:2106.08254). The same parameters decay as without layers.
    """
    import timm.optim  # 4.5 s with timm: only for those who use it

    groups: list[dict[str, Any]] = timm.optim.param_groups_layer_decay(  # type: ignore[attr-defined]
        network, weight_decay=weight_decay, layer_decay=layer_decay
    )
    if layer_decay < 1 and len({group["lr_scale"] for group in groups}) == 1:
        raise TrainError(
            f"layer_decay: timm does not know the layers of {type(network).__name__}, so all "
            f"would learn at one rate. Set layer_decay: null (now {layer_decay})"
        )
    return groups


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
        averages, values = _state(average), _state(model)
        self._averages = [value for value in averages if value.is_floating_point()]
        self._values = [value for value in values if value.is_floating_point()]
        self._counters = [value for value in averages if not value.is_floating_point()]
        self._counts = [value for value in values if not value.is_floating_point()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Average the model's state after that many steps into it."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self._averages, self._values, 1 - decay)
        if self._counters:
            torch._foreach_copy_(self._counters, self._counts)


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
