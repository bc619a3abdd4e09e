"""Section `train`: the networks, and how each is trained."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.core.section import Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=40)]
"""A label that becomes a folder and a DVC stage; nothing is ever parsed out of it."""


class SmallNetwork(Section):
    """A from-scratch network of our own (pipeline/train/models.py)."""

    family: Literal["small"]
    name: Literal["vgg", "resnet"]
    width: Annotated[int, Field(ge=4, le=1024)]
    """Channels of the first stage; each later stage has twice the one before."""
    stages: Annotated[int, Field(ge=1, le=7)]
    """Each stage halves height and width."""
    dropout: Annotated[float, Field(ge=0, lt=1)]


class TimmNetwork(Section):
    """Any model of timm, by name."""

    family: Literal["timm"]
    name: Annotated[str, Field(min_length=1)]
    pretrained: bool
    """True fetches timm's published weights, once, over the network."""
    weights: str | None
    """A local .safetensors file to start from instead; its classifier may differ."""
    dropout: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.pretrained and self.weights is not None:
            raise ValueError("expected `pretrained: true` or a `weights` file, found both")
        return self


class LastEpoch(Section):
    """The number of epochs is fixed in advance."""

    rule: Literal["last"]


class InnerEpoch(Section):
    """The epoch with the lowest loss on an inner split of the training folds.

    The inner rows (one of `folds` parts, whole groups) are not trained on. The fold
    that is scored takes no part in the choice.
    """

    rule: Literal["inner"]
    folds: Annotated[int, Field(ge=2, le=50)]


class Mix(Section):
    """Each image mixed with another of its batch, and their labels in the same shares."""

    kind: Literal["mixup", "cutmix"]
    """mixup: the weighted mean of both; cutmix: a rectangle of the other."""
    alpha: Annotated[float, Field(gt=0, le=100)]
    """The shares are drawn from Beta(alpha, alpha): about 0.2 for mixup, 1 for cutmix."""
    p: Annotated[float, Field(ge=0, le=1)]
    """The chance of an image to be mixed."""


class ModelConfig(Section):
    """One network and everything that decides its weights."""

    network: Annotated[SmallNetwork | TimmNetwork, Field(discriminator="family")]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    epoch: Annotated[LastEpoch | InnerEpoch, Field(discriminator="rule")]
    batch_size: Annotated[int, Field(ge=2, le=65_536)]
    lr: Annotated[float, Field(gt=0, le=10)]
    """Peak learning rate of AdamW, reached after the warm-up, then down a cosine to zero."""
    warmup_epochs: Annotated[float, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None
    """For fine-tuning: each layer learns at this share of the rate of the layer after it, the
    classifier at `lr`; null is one rate for all. About 0.65 to 0.9; densely connected networks
    count tens of layers."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    ema: Annotated[float, Field(ge=0, lt=1)]
    """Decay, per step, of the moving average of the weights that predicts; 0 is none."""
    clip_norm: Annotated[float, Field(gt=0)] | None
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    """`auto`: bfloat16 where the device has it in hardware, else float16 on CUDA, else float32."""
    compiled: bool
    """Compile the step with torch.compile, on CUDA into CUDA graphs: for small networks on a GPU.
    It costs tens of seconds at the start and needs a C++ compiler; on a CPU it does not pay."""
    tta: bool
    """Predict the mean over the square's eight symmetries."""
    augment: list[dict[str, Any]]
    """What albumentations knows: each item `{op: NAME, …its arguments}`, in order."""
    engine: Literal["albumentations", "batched"]
    """What applies `augment`. albumentations: image by image, in worker processes, all that it
    knows. batched: whole batches on the device that trains, several times faster, with the
    operations of pipeline/train/augment/batched.py."""
    mix: Mix | None
    """After `augment`; null leaves each image its own."""

    @field_validator("augment")
    @classmethod
    def _each_names_an_op(cls, augment: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for place, item in enumerate(augment):
            if not isinstance(item.get("op"), str):
                raise ValueError(f"item {place}: expected a key `op` with a name, found {item}")
        return augment

    @model_validator(mode="after")
    def _layers_have_learned(self) -> Self:
        if self.layer_decay is None:
            return self
        if isinstance(self.network, SmallNetwork):
            raise ValueError(
                f"expected `layer_decay: null` for {self.network.name}, a network of our own that "
                f"starts from fresh weights, found {self.layer_decay}"
            )
        if not self.network.pretrained and self.network.weights is None:
            raise ValueError(
                f"expected `layer_decay: null`, or a network with `pretrained: true` or a "
                f"`weights` file, found {self.layer_decay} for fresh weights, which would slow "
                f"down the first layers for nothing"
            )
        return self

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"expected warmup_epochs below epochs, found {self.warmup_epochs} of {self.epochs}"
            )
        return self


class TrainConfig(Section):
    """Which models train on which folds, and where."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: Annotated[int, Field(ge=1, le=1024)]
    """What one training computes with on the CPU: decides the last bits, so that it stands here.
    `make run` trains as many folds side by side as there are cores for it: the cores divided by
    the number of folds is a good choice, 1 on a laptop."""
    members: Annotated[list[Name], Field(min_length=1)]
    """The models that are trained and enter the ensemble: keys of `models`."""
    folds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """The folds to train, all of them for a result; [0] for a quick look."""
    models: dict[Name, ModelConfig]

    @model_validator(mode="after")
    def _members_known(self) -> Self:
        for name, items in (("members", self.members), ("folds", self.folds)):
            if len(set(map(str, items))) != len(items):
                raise ValueError(f"expected distinct {name}, found {items}")
        unknown = [member for member in self.members if member not in self.models]
        if unknown:
            raise ValueError(f"member {unknown[0]!r} is not among the models {sorted(self.models)}")
        return self
