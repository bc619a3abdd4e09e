"""Section `train`: the networks, and how each is trained."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from pipeline.core.section import NAMES_A_FILE, Section
from pipeline.train.augment.names import find_fault
from pipeline.train.networks.config import (
    FAMILIES,
    ClassicNetwork,
    OfSignals,
    OwnNetwork,
    ProbeNetwork,
    PublishedNetwork,
    SignalNetwork,
    SmallNetwork,
    SpectrogramNetwork,
    TimmNetwork,
)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=40), NAMES_A_FILE]
"""A label that becomes a folder and a DVC stage; nothing is ever parsed out of it."""

Precision = Literal["auto", "float32", "bfloat16", "float16"]


class LastEpoch(Section):
    """The number of epochs is fixed in advance; the last one predicts."""

    rule: Literal["last"]


class InnerEpoch(Section):
    """The epoch with the lowest loss on an inner split of the training folds predicts.

    The inner rows (one of `folds` parts, whole groups) are not trained on. The fold
    that is scored has no part in the choice.
    """

    rule: Literal["inner"]
    folds: Annotated[int, Field(ge=2, le=50)]
    patience: Annotated[int, Field(ge=1, le=10_000)] | None
    """Training ends when the lowest inner loss is so many epochs old; null trains all epochs. The
    learning rate falls to zero over all of them, so that a training that ends sooner ends at a
    higher rate."""


class Mix(Section):
    """Each image mixed with another of its batch, and their labels in the same shares."""

    kind: Literal["mixup", "cutmix"]
    """mixup: the weighted mean of both images; cutmix: a rectangle is cut from the other one, of a
    signal a window of time."""
    alpha: Annotated[float, Field(gt=0, le=100)]
    """The shares are drawn from Beta(alpha, alpha): about 0.2 for mixup, 1 for cutmix."""
    p: Annotated[float, Field(ge=0, le=1)]
    """The probability that an image is mixed."""


class AdamWConfig(Section):
    """Loshchilov and Hutter 2017 (arXiv:1711.05101), for all weights."""

    kind: Literal["adamw"]


class MuonConfig(Section):
    """Orthogonal steps for the filters of convolutions, AdamW for all other weights.

    For fresh networks with batch normalisation, which learn in half the epochs.
    """

    kind: Literal["muon"]
    lr: Annotated[float, Field(gt=0, le=1)]
    """Peak length of a step as a share of the filters' norm; its schedule is that of the model's
    `lr`, which is AdamW's. About 0.03."""
    momentum: Annotated[float, Field(ge=0, lt=1)]
    """The share of the last step's direction in the next one. About 0.6."""


class ModelConfig(Section):
    """One network and everything that decides its weights."""

    network: Annotated[
        SmallNetwork | ClassicNetwork | SignalNetwork | TimmNetwork | SpectrogramNetwork,
        Field(discriminator="family"),
    ]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    """Decides the first weights, the order of the images, their augmentation and the dropout."""
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    """The number of times that each training image is seen."""
    epoch: Annotated[LastEpoch | InnerEpoch, Field(discriminator="rule")]
    """The rule that chooses the epoch whose weights predict."""
    batch_size: Annotated[int, Field(ge=2, le=65_536)]
    """Images a step, at most: an epoch's batches are of nearly equal size."""
    sizes_px: Annotated[list[Annotated[int, Field(ge=8, le=4096)]], Field(min_length=1)] | None
    """Sides to which training images are shrunk, each for an equal part of the epochs, in order:
    [48, 64, 64] spends the first third at 48 px. None is above prepare.size_px, and the last is
    that size, at which the network predicts; null trains at it throughout, as signals always do."""
    optimizer: Annotated[AdamWConfig | MuonConfig, Field(discriminator="kind")]
    """The rule by which gradients move weights."""
    lr: Annotated[float, Field(gt=0, le=10)]
    """Peak learning rate of AdamW, reached after the warm-up, then down a cosine to zero."""
    warmup_epochs: Annotated[float, Field(ge=0)]
    """Epochs, whole or in part, in which the learning rate rises linearly to `lr`."""
    weight_decay: Annotated[float, Field(ge=0)]
    """AdamW's decay of the weights; biases and normalisation layers have none."""
    l1: Annotated[float, Field(ge=0, le=1e6)]
    """The strength of the penalty on the mean absolute weight, which is added to the loss that is
    learned by, and not to the one that is reported; biases and normalisation layers have none. 0
    is none; about 1 to 100."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None
    """For fine-tuning: each layer learns at this share of the rate of the layer after it, the
    classifier at `lr`; null is one rate for all. About 0.65 to 0.9; densely connected networks
    count tens of layers."""
    head_lr: Annotated[float, Field(gt=0, le=10)] | None
    """For fine-tuning: the peak rate of the classifier, on the same schedule as `lr`, which is then
    that of the body; null is `lr` for both."""
    freeze_epochs: Annotated[int, Field(ge=0)]
    """For fine-tuning: in so many epochs at the start only the classifier learns, and the body
    keeps its weights and the statistics of its batch normalisation; 0 is none."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    """The share of each label that is spread evenly over all classes; 0 is none."""
    ema: Annotated[float, Field(ge=0, lt=1)]
    """Decay, per step, of the moving average of the weights that predicts; 0 is none."""
    clip_norm: Annotated[float, Field(gt=0)] | None
    """The largest norm of a step's gradient, scaled down to it where it is larger; null is any."""
    precision: Precision
    """`auto`: bfloat16 where the device has it in hardware, else float16 on CUDA, else float32."""
    compiled: bool
    """Compile the step with torch.compile, on CUDA into CUDA graphs: for small networks on a GPU.
    It costs tens of seconds at the start and needs a C++ compiler; on a CPU it does not pay."""
    tta: bool
    """Predict the mean over the square's eight symmetries; of signals over five small shifts."""
    augment: list[dict[str, Any]]
    """Augmentations of albumentations: each item `{op: NAME, …its arguments}`, in order. Signals
    have those of pipeline/train/augment/signal.py."""
    engine: Literal["albumentations", "batched"]
    """The code that applies `augment`. albumentations: image by image, in worker processes, any
    operation of that library. batched: whole batches on the device that trains, several times
    faster, the operations of pipeline/train/augment/batched.py."""
    mix: Mix | None
    """Applied after `augment`; null mixes nothing."""

    @property
    def spare_memory(self) -> str:
        """What to change where memory runs out, as a part of a sentence."""
        less = f"lower batch_size (now {self.batch_size})"
        if self.engine == "albumentations":
            less += ", or set engine: batched, which has no loader processes"
        return less

    @field_validator("network", mode="before")
    @classmethod
    def _of_a_family(cls, network: Any) -> Any:
        if isinstance(network, dict) and "family" in network:
            family = network["family"]
            if family not in FAMILIES:
                known = ", ".join(map(repr, FAMILIES))
                raise ValueError(f"'family': expected one of {known}, found {family!r}")
        return network

    @field_validator("augment")
    @classmethod
    def _each_names_an_op(cls, augment: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for position, item in enumerate(augment):
            if not isinstance(item.get("op"), str):
                raise ValueError(f"item {position}: expected a key `op` with a name, found {item}")
        return augment

    @model_validator(mode="after")
    def _operations_exist(self) -> Self:
        for position, item in enumerate(self.augment):
            if fault := find_fault(item, "signals" if is_for_signals(self) else self.engine):
                raise ValueError(f"augment: item {position}: {fault}")
        return self

    @model_validator(mode="after")
    def _signals_are_no_images(self) -> Self:
        if is_for_signals(self):
            if self.engine != "batched":
                raise ValueError(f"expected `engine: batched` for signals, found {self.engine}")
            if self.sizes_px is not None:
                raise ValueError(f"expected `sizes_px: null` for signals, found {self.sizes_px}")
        return self

    @model_validator(mode="after")
    def _fine_tuning_needs_trained_layers(self) -> Self:
        for name, off in (("layer_decay", None), ("head_lr", None), ("freeze_epochs", 0)):
            if (found := getattr(self, name)) == off:
                continue
            expected = f"expected `{name}: {'null' if off is None else off}`"
            if isinstance(self.network, OwnNetwork):
                raise ValueError(
                    f"{expected} for {self.network.name}, a network of our own that starts from "
                    f"fresh weights, found {found}"
                )
            if not self.network.pretrained and self.network.weights is None:
                raise ValueError(
                    f"{expected}, or a network with `pretrained: true` or a `weights` file, found "
                    f"{found} for fresh weights, which have learned nothing that it would keep"
                )
        return self

    @model_validator(mode="after")
    def _one_side_where_layers_need_it(self) -> Self:
        network = self.network
        if isinstance(network, ClassicNetwork) and network.one_side and self.sizes_px is not None:
            raise ValueError(
                f"expected `sizes_px: null` for {network.name}, whose first fully connected layer "
                f"takes images of one side, found {self.sizes_px}"
            )
        return self

    @model_validator(mode="after")
    def _each_size_has_an_epoch(self) -> Self:
        if self.sizes_px is not None and len(self.sizes_px) > self.epochs:
            raise ValueError(
                f"expected at most as many sizes_px as epochs, which are {self.epochs}, found "
                f"{self.sizes_px}"
            )
        return self

    @model_validator(mode="after")
    def _the_body_learns(self) -> Self:
        if self.freeze_epochs >= self.epochs:
            raise ValueError(
                f"expected freeze_epochs below epochs, found {self.freeze_epochs} of {self.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _muon_is_for_fresh_weights(self) -> Self:
        network = self.network
        has_learned = isinstance(network, PublishedNetwork) and (
            network.pretrained or network.weights is not None
        )
        if has_learned and isinstance(self.optimizer, MuonConfig):
            raise ValueError(
                "expected `optimizer: {kind: adamw}` for weights that have learned, found muon, "
                "which sets the norm of all filters anew"
            )
        return self

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"expected warmup_epochs below epochs, found {self.warmup_epochs} of {self.epochs}"
            )
        return self


class ProbeConfig(Section):
    """A network that stays as it is, and a linear classifier that scikit-learn fits on top.

    Classes: logistic regression, for several labels one each. Numbers: ridge regression.
    """

    network: ProbeNetwork
    l2: Annotated[float, Field(gt=0, le=1e9)]
    """The strength of the penalty on the squared weights, beside the mean loss of the training
    rows; the features are standardised. From 0.001 to 1 where there are thousands of images."""
    precision: Precision
    """As ModelConfig's, of the features."""

    # A probe is one fit, without random numbers, of each image once.
    seed: ClassVar[int] = 0
    epochs: ClassVar[int] = 1
    epoch: ClassVar[LastEpoch] = LastEpoch(rule="last")
    tta: ClassVar[bool] = False
    spare_memory: ClassVar[str] = "choose a smaller network, or fewer of its `stages`"
    sizes_px: ClassVar[None] = None


def is_for_signals(model: ModelConfig | ProbeConfig) -> bool:
    """Whether a model's network takes signals; all others take images."""
    return isinstance(model.network, OfSignals)


def _type_of(model: Any) -> str:
    """The class of a model's parameters, by its network's family."""
    network = model.get("network") if isinstance(model, dict) else getattr(model, "network", None)
    probed = isinstance(network, ProbeNetwork) or (
        isinstance(network, dict) and network.get("family") == "probe"
    )
    return "ProbeConfig" if probed else "ModelConfig"


AnyModel = Annotated[
    Annotated[ModelConfig, Tag("ModelConfig")] | Annotated[ProbeConfig, Tag("ProbeConfig")],
    Discriminator(_type_of),
]


class TrainConfig(Section):
    """The models, the folds that they train on, and the device."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    """`auto`: CUDA, else Apple's MPS, else the CPU."""
    threads: Annotated[int, Field(ge=1, le=1024)]
    """CPU threads of one training. Their number decides the last bits of the weights, so it is a
    parameter. `make run` trains as many folds side by side as there are cores for it: the cores
    divided by the number of folds is a good choice, 1 on a laptop."""
    world: Annotated[int, Field(ge=1, le=64)]
    """Processes that train one network together, each on a GPU of its own, or on the CPU with
    `threads`. Each takes a part of every batch, so that their number decides the weights, and is a
    parameter like `threads`. 1 for a network that one GPU trains soon enough: several folds side by
    side lose nothing."""
    sync_batch_norm: bool
    """Whether batch normalisation sees the whole batch where `world` is above 1, and not the part
    of its process: for parts of few images."""
    members: Annotated[list[Name], Field(min_length=1)]
    """The models that are trained and enter the ensemble: keys of `models`."""
    folds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """The folds to train, all of them for a result; [0] for a quick look."""
    models: dict[Name, AnyModel]
    """All models by name; one that is not among `members` is kept for later."""

    @model_validator(mode="after")
    def _members_known(self) -> Self:
        for name, items in (("members", self.members), ("folds", self.folds)):
            if len({str(item).lower() for item in items}) != len(items):  # folders, on any disk
                raise ValueError(f"expected distinct {name}, found {items}")
        unknown = [member for member in self.members if member not in self.models]
        if unknown:
            raise ValueError(f"member {unknown[0]!r} is not among the models {sorted(self.models)}")
        return self

    @model_validator(mode="after")
    def _each_process_has_a_part(self) -> Self:
        for name in self.members:
            model = self.models[name]
            if self.world == 1 or not isinstance(model, ModelConfig):
                continue
            if model.batch_size < 2 * self.world:
                raise ValueError(
                    f"expected a batch_size of member {name!r} of at least {2 * self.world}, two "
                    f"images for each process of `world: {self.world}`, found {model.batch_size}"
                )
            if model.compiled and self.sync_batch_norm:
                raise ValueError(
                    f"expected `compiled: false` of member {name!r} with `sync_batch_norm: true`, "
                    "which waits for other processes within a step, found true"
                )
        return self
