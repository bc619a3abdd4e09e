"""The forward half of a training step, as it stands or compiled.

On a GPU a small network's step is made of hundreds of kernels that take less time than their
launch. Compiled, neighbours become one, and on CUDA the whole is a graph that is launched at once.
"""

from collections.abc import Callable
from functools import wraps

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional

from pipeline.core.errors import TrainError
from pipeline.train.device import Compute
from pipeline.train.models import Classifier, Logits

Forward = Callable[[Classifier, Tensor, Tensor, float, Compute], tuple[Tensor, Tensor]]


def score_batch(
    model: Classifier,
    images: Num[Tensor, "batch 3 height width"],
    targets: Tensor,
    label_smoothing: float,
    compute: Compute,
) -> tuple[Float[Tensor, ""], Logits]:
    """The mean cross-entropy of a batch, and its logits. targets: classes, or shares of each."""
    with compute.autocast():
        logits = model(images)
    loss = functional.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing)
    return loss, logits


def compile_step(forward: Forward, compute: Compute) -> Forward:
    """The same function, compiled at its first call, once for each of the two sizes of batches.

    What it returns on CUDA is overwritten by its next call. Raises TrainError, when it is called,
    where nothing can be compiled, as without a C++ compiler.
    """
    mode = "reduce-overhead" if compute.device.type == "cuda" else "default"
    compiled = torch.compile(forward, mode=mode, dynamic=False, fullgraph=True)

    @wraps(forward)
    def call(
        model: Classifier, images: Tensor, targets: Tensor, smoothing: float, compute: Compute
    ) -> tuple[Tensor, Tensor]:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        try:
            return compiled(model, images, targets, smoothing, compute)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise TrainError(
                f"compiled: true: torch.compile failed: {type(error).__name__}: {reason}. "
                "It needs a C++ compiler (on a GPU also Triton). Set compiled: false"
            ) from error

    return call
