"""A probe: a trained network of timm that stays as it is, and one linear layer on its features."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.core.competition import Decoding
from pipeline.core.errors import TrainError
from pipeline.train.kinds import blank
from pipeline.train.networks.config import ProbeNetwork
from pipeline.train.sizes import MISFIT


class Probe(nn.Module):
    """The network that gives outputs for normalised images; its classifier is zero until fitted."""

    def __init__(
        self, network: Any, config: ProbeNetwork, outputs: int, decoding: Decoding
    ) -> None:
        """network: timm's, built for images decoded so; what follows its last stage is removed.

        Raises TrainError where timm cannot give so many stages of it.
        """
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self._stages = config.stages
        try:
            network.prune_intermediate_layers(config.stages, prune_head=True)
            with torch.no_grad():
                features = self.features(blank(decoding)).shape[1]
        except MISFIT as error:
            reason = " ".join(str(error).split())[:200]
            raise TrainError(
                f"network: {config.name}: timm does not give the features of its last "
                f"{config.stages} stages ({type(error).__name__}: {reason}). Lower `stages`, or "
                "choose another network"
            ) from error
        self.classifier = nn.Linear(features, outputs)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def features(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch features"]:
        """The mean and the maximum of each channel of each stage."""
        stages: list[Tensor] = self.network.forward_intermediates(
            images, indices=self._stages, intermediates_only=True
        )
        pooled = [each for maps in stages for each in (maps.mean((2, 3)), maps.amax((2, 3)))]
        return torch.cat(pooled, dim=1)

    def forward(self, images: Tensor) -> Float[Tensor, "batch outputs"]:
        """The outputs for normalised images."""
        return self.classifier(self.features(images))  # type: ignore[no-any-return]
