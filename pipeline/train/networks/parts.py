"""Parts of the classics and of networks for signals, in one or two dimensions."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from pipeline.train.networks.config import ClassicNetwork, SignalNetwork

Switched = ClassicNetwork | SignalNetwork

ACTIVATIONS: dict[str | None, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
_CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d}
_NORMS: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_POOLS: dict[tuple[str | None, int], Any] = {
    ("max", 1): nn.MaxPool1d,
    ("max", 2): nn.MaxPool2d,
    ("average", 1): nn.AvgPool1d,
    ("average", 2): nn.AvgPool2d,
}


def convolve(
    network: Switched,
    dims: int,
    channels: int,
    out: int,
    kernel: int,
    stride: int = 1,
    padding: int | None = None,
) -> list[nn.Module]:
    """A convolution, and batch normalisation, which makes its bias superfluous.

    padding: at both ends; by default the output of stride 1 is as large as the input.
    """
    padding = kernel // 2 if padding is None else padding
    bias = not network.batch_norm
    layers = [_CONVOLUTIONS[dims](channels, out, kernel, stride, padding, bias=bias)]
    return layers if bias else [*layers, _NORMS[dims](out)]


def activate(network: Switched) -> nn.Module:
    """Its activation."""
    return ACTIVATIONS[network.activation]()


def pool(network: Switched, dims: int, kernel: int, step: int, padding: int = 0) -> list[nn.Module]:
    """Windows of which one value each is left; none where the convolution before steps instead."""
    if network.pool == "stride":
        return []
    return [_POOLS[network.pool, dims](kernel, step, padding)]


def stride_for(network: Switched, step: int) -> int:
    """The step of a convolution that a pooling by `step` follows, or would."""
    return step if network.pool == "stride" else 1


class BasicBlock(nn.Module):
    """Two convolutions, and a shortcut around them (He et al. 2016, arXiv:1512.03385)."""

    def __init__(
        self, network: Switched, dims: int, channels: int, out: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *convolve(network, dims, channels, out, kernel, stride),
            activate(network),
            *convolve(network, dims, out, out, kernel),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(*convolve(network, dims, channels, out, 1, stride))
        self.activation = activate(network)

    def forward(self, features: Tensor) -> Tensor:
        """The activated sum of both ways."""
        return self.activation(self.body(features) + self.shortcut(features))  # type: ignore[no-any-return]


def initialise(network: nn.Module, activation: str | None) -> None:
    """Draw first weights that keep the spread of what passes (He et al. 2015, arXiv:1502.01852).

    The gain is that of the activation (of ReLU for GELU and SiLU), and 1 in the last layer.
    """
    gain: Any = {"gelu": "relu", "silu": "relu", None: "linear"}.get(activation, activation)
    layers = [
        each for each in network.modules() if isinstance(each, nn.Conv1d | nn.Conv2d | nn.Linear)
    ]
    for layer in layers:
        nn.init.kaiming_normal_(
            layer.weight, nonlinearity="linear" if layer is layers[-1] else gain
        )
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
