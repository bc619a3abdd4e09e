"""Networks of our own by plain name: the classics as published, the others as in profiles."""

from typing import Any

from pipeline.train.networks.config import ClassicNetwork, SignalNetwork, SmallNetwork

_AS_PUBLISHED: dict[str, dict[str, Any]] = {
    "linear": {},
    "lenet5": {"activation": "tanh", "pool": "average", "batch_norm": False},
    "alexnet": {"width": 64, "activation": "relu", "pool": "max", "batch_norm": False,
                "dropout": 0.5},
    "vgg11": {"width": 64, "activation": "relu", "pool": "max", "batch_norm": False,
              "dropout": 0.5},
    "resnet18": {"width": 64, "activation": "relu", "pool": "max", "batch_norm": True},
}  # fmt: skip
_SMALL = {"width": 16, "stages": 4, "dropout": 0.1}
_SIGNAL = {"width": 16, "stages": 4, "step": 4, "kernel": 7, "activation": "relu", "pool": "max",
           "batch_norm": True, "dropout": 0.1, "differences": 0, "amplitude": "linear"}  # fmt: skip

NAMED: dict[str, SmallNetwork | ClassicNetwork | SignalNetwork] = {
    **{
        name: SmallNetwork.model_validate({"family": "small", "name": name, **_SMALL})
        for name in ("vgg", "airbench", "resnet")
    },
    **{
        name: ClassicNetwork.model_validate({"family": "classic", "name": name, **switches})
        for name, switches in _AS_PUBLISHED.items()
    },
    **{
        name: SignalNetwork.model_validate({"family": "signal", "name": name, **_SIGNAL})
        for name in ("convnet1d", "resnet1d", "filterbank1d")
    },
}
"""What `describe NAME` shows."""
