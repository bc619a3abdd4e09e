"""The device that computes, and its precision."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.core.competition import Decoding
from pipeline.core.errors import TrainError
from pipeline.train.kinds import blank

MOST_DEPTHWISE = 0.0015
"""With more outputs of depthwise convolutions for each multiplication a CPU is faster in float32:
`python -m benchmarks.precision` measures it, and docs/TRAINING.md has the figures."""


@dataclass(frozen=True)
class Compute:
    """A device, and the number type of its convolutions and matrix products."""

    device: torch.device
    dtype: torch.dtype

    @property
    def kind(self) -> str:
        """The device by its make, and the type: others may give other bits."""
        on_cuda = self.device.type == "cuda"
        make = torch.cuda.get_device_name(self.device) if on_cuda else self.device.type
        return f"{make}, {self.dtype}"

    def autocast(self) -> torch.autocast:
        """Mixed precision where the type is not float32."""
        return torch.autocast(
            self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32
        )


def choose_compute(device: str, precision: str) -> Compute:
    """Resolve `train.device` and a model's `precision`.

    auto: CUDA, else Apple's MPS, else the CPU; bfloat16 where the device has it in hardware,
    else float16 on CUDA, else float32.
    Raises TrainError for a device that is not there or float16 on a CPU.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.mps.is_available(), "cpu": True}
    there = [name for name, is_there in available.items() if is_there]
    if device != "auto" and device not in there:
        raise TrainError(
            f"train.device: {device} is not available here (available: {', '.join(there)}). "
            "Set train.device: auto"
        )
    chosen = torch.device(there[0] if device == "auto" else device)
    if precision == "float16" and chosen.type == "cpu":
        raise TrainError("precision: float16 needs a GPU: on a CPU use bfloat16, float32 or auto")
    if precision == "auto":
        return Compute(chosen, _fastest_dtype(chosen))
    return Compute(chosen, getattr(torch, precision))


def suit_network(
    compute: Compute, precision: str, network: nn.Module, decoding: Decoding
) -> Compute:
    """What `precision: auto` means for one network, which is still on the CPU.

    bfloat16 makes a CPU's dense layers faster, and its depthwise convolutions slower.
    """
    if (
        precision == "auto"
        and compute == Compute(torch.device("cpu"), torch.bfloat16)
        and depthwise_rate(network, decoding) > MOST_DEPTHWISE
    ):
        return Compute(compute.device, torch.float32)
    return compute


@torch.no_grad()
def depthwise_rate(network: nn.Module, decoding: Decoding) -> float:
    """The outputs of depthwise convolutions for each multiplication, for one row."""
    outputs = 0

    def count(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal outputs
        outputs += output.numel()

    hooks = [
        layer.register_forward_hook(count)
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
    ]
    if not hooks:
        return 0.0
    was_training = network.training
    with FlopCounterMode(display=False) as counted:
        network.eval()(blank(decoding))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    operations: int = counted.get_total_flops()  # a multiplication and an addition each
    return 2 * outputs / operations


def deterministic(threads: int) -> None:
    """Make two runs on one machine give the same bits, on a GPU too.

    threads: of the CPU. Their number decides how sums are split, and so the last bits of the
    weights; it is a parameter, not a property of the machine.
    """
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(True)
    # A debugging aid that fills every new tensor: it takes a sixth of a ResNet-18's CPU step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def describe_indeterminism(error: Exception) -> str | None:
    """A sentence for an operation that a GPU cannot repeat bit for bit; None for other errors."""
    operation, found, _ = str(error).partition(" does not have a deterministic implementation")
    if not found:
        return None
    return (
        f"{operation} in this network gives other bits in each run on a GPU. Choose another "
        "network, or set train.device: cpu"
    )


def _fastest_dtype(device: torch.device) -> torch.dtype:
    match device.type:
        case "cuda":
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if has_bf16 else torch.float16
        case "cpu" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
            return torch.bfloat16
        case _:
            return torch.float32
