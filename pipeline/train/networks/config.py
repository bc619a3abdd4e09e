"""Key `network` of a model: its family, its name and what is built from them."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.core.errors import TrainError
from pipeline.core.files import sha256_of
from pipeline.core.section import Section

Dropout = Annotated[float, Field(ge=0, lt=1)]
"""The share of the features before the classifier that each training step sets to 0."""

DropPath = Annotated[float, Field(ge=0, lt=1)] | None
"""Stochastic depth: the share of images that skip the last residual block, less for those before
it, in each training step; 0 is none, null what timm has for the network (mostly none)."""


Activation = Literal["relu", "tanh", "sigmoid", "leaky_relu", "gelu", "silu"]

Pool = Literal["max", "average", "stride"]
"""How a layer's output becomes smaller: the maximum or the average of windows; or `stride`: the
convolution before it takes larger steps instead (Springenberg et al. 2015, arXiv:1412.6806)."""


class OwnNetwork(Section):
    """A network of our own, which starts from fresh weights."""

    weights: ClassVar[None] = None


class SmallNetwork(OwnNetwork):
    """A from-scratch network of our own (pipeline/train/networks/small.py)."""

    family: Literal["small"]
    name: Literal["vgg", "airbench", "resnet"]
    width: Annotated[int, Field(ge=4, le=1024)]
    """Channels of the first stage; each later stage has twice the one before."""
    stages: Annotated[int, Field(ge=1, le=7)]
    """Each stage halves height and width."""
    dropout: Dropout


SWITCHES: dict[str, tuple[str, ...]] = {
    "linear": (),
    "lenet5": ("activation", "pool", "batch_norm"),
    "alexnet": ("width", "activation", "pool", "batch_norm", "dropout"),
    "vgg11": ("width", "activation", "pool", "batch_norm", "dropout"),
    "resnet18": ("width", "activation", "pool", "batch_norm"),
}
"""Those that each classic has: params.yaml gives all of them, and no other."""


class ClassicNetwork(OwnNetwork):
    """A network by the name under which it was published (pipeline/train/networks/classic.py)."""

    family: Literal["classic"]
    name: Literal["linear", "lenet5", "alexnet", "vgg11", "resnet18"]
    width: Annotated[int, Field(ge=4, le=256)] | None = None
    """Channels of the first convolution, 64 as published; all other layers in proportion."""
    activation: Activation | None = None
    """As published: tanh for lenet5, relu for the others."""
    pool: Pool | None = None
    """As published: average for lenet5, max for the others."""
    batch_norm: bool | None = None
    """After each convolution. As published: true for resnet18, false for the others."""
    dropout: Dropout | None = None
    """After each hidden fully connected layer, 0.5 as published."""

    @model_validator(mode="after")
    def _has_its_switches(self) -> Self:
        own = SWITCHES[self.name]
        has = f"{self.name} has {', '.join(own) or 'no switches'}"
        for switch in ("width", "activation", "pool", "batch_norm", "dropout"):
            given = getattr(self, switch) is not None
            if given and switch not in own:
                raise ValueError(f"expected no `{switch}`: {has}")
            if switch in own and not given:
                raise ValueError(f"missing `{switch}`: {has}")
        return self

    @property
    def one_side(self) -> bool:
        """Whether it takes images of the one side alone that it is built for."""
        return self.name != "resnet18"


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError(f"expected an odd number, found {kernel}")
    return kernel


class SignalNetwork(OwnNetwork):
    """A network for signals (pipeline/train/networks/signal.py)."""

    family: Literal["signal"]
    name: Literal["convnet1d", "resnet1d", "filterbank1d"]
    width: Annotated[int, Field(ge=4, le=1024)]
    """Channels of the first stage; each later stage of convnet1d and resnet1d has twice the one
    before."""
    stages: Annotated[int, Field(ge=1, le=10)]
    """How often the signal becomes shorter; in filterbank1d once more before."""
    step: Annotated[int, Field(ge=2, le=16)]
    """How many samples become one in each stage."""
    kernel: Annotated[int, Field(ge=1, le=255), AfterValidator(_odd)]
    """Samples that a convolution sees, an odd number; of filterbank1d each filter."""
    activation: Activation
    pool: Pool
    """What shortens a signal; in resnet1d after the first convolution alone, as its blocks step by
    themselves."""
    batch_norm: bool
    dropout: Dropout
    """The share of the features before the classifier that each training step sets to 0."""
    differences: Annotated[int, Field(ge=0, le=2)]
    """More channels: the difference of each sample to the next one, and for 2 also theirs."""
    amplitude: Literal["linear", "logarithm"]
    """How the network takes a value x of a channel: as it is, or as sign(x) · log(1 + |x| / s), so
    that rare large values do not hide the others; s is half the median of |x| in training."""


class StartWeights(Section):
    """A local .safetensors file, and the hash of its bytes.

    DVC does not track the file, but records the hash: another file is another parameter.
    """

    file: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """As `sha256sum FILE` prints it. A training first compares it with the file."""

    @model_validator(mode="before")
    @classmethod
    def _with_a_hash(cls, value: Any) -> Any:
        file = value.get("file") if isinstance(value, dict) else value
        if not isinstance(file, str) or (isinstance(value, dict) and "sha256" in value):
            return value
        path = Path(file)
        sha256 = sha256_of(path) if path.is_file() else f"what `sha256sum {file}` prints"
        raise ValueError(f"expected {{file: {file}, sha256: {sha256}}}, found {value!r}")

    def check(self) -> None:
        """Raise TrainError unless the file is there, with this hash."""
        path = Path(self.file)
        if not path.is_file():
            raise TrainError(
                f"network.weights: {path}: no such file. Put there the one with sha256 "
                f"{self.sha256}"
            )
        if (found := sha256_of(path)) != self.sha256:
            raise TrainError(
                f"network.weights: {path}: expected the file with sha256 {self.sha256}, found one "
                f"with {found}. Put the first one back; or, to train from this one, write its "
                "sha256 into params.yaml, and run: dvc repro"
            )


class PublishedNetwork(Section):
    """A model of timm, by name, that learns from fresh or published weights on."""

    family: str
    name: Annotated[str, Field(min_length=1)]
    """A name in timm.list_models()."""
    pretrained: bool
    """True downloads timm's published weights once."""
    weights: StartWeights | None
    """A file to start from instead; its classifier may differ."""
    dropout: Dropout
    drop_path: DropPath

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.pretrained and self.weights is not None:
            raise ValueError("expected `pretrained: true` or a `weights` file, found both")
        return self


class TimmNetwork(PublishedNetwork):
    """Any model of timm, for images."""

    family: Literal["timm"]


class SpectrogramNetwork(PublishedNetwork):
    """Any model of timm, on spectrograms of signals (pipeline/train/networks/spectrogram.py)."""

    family: Literal["spectrogram"]
    window: Annotated[int, Field(ge=8, le=65_536)]
    """Samples of which each frame of the picture has the power."""
    step: Annotated[int, Field(ge=1, le=65_536)]
    """Samples from a frame to the next one."""
    bands: Annotated[int, Field(ge=2, le=1024)]
    """Bands of frequency, from 0 to half the rate: the height of the picture."""
    scale: Literal["mel", "linear"]
    """mel: bands as wide as an ear's, which needs files that say how many samples a second has;
    linear: all as wide."""
    bands_masked: Annotated[int, Field(ge=0)]
    """The most neighbouring bands that each training step hides in a picture, from none to so many
    (SpecAugment, Park et al. 2019, arXiv:1904.08779); 0 hides none."""

    @model_validator(mode="after")
    def _nothing_is_passed_over(self) -> Self:
        if self.step > self.window:
            raise ValueError(
                f"expected a step of at most the window, {self.window} samples, else some are in "
                f"no frame, found {self.step}"
            )
        if self.bands_masked >= self.bands:
            raise ValueError(
                f"expected bands_masked below bands, found {self.bands_masked} of {self.bands}"
            )
        return self


class ProbeNetwork(Section):
    """A linear classifier on what the stages of a trained network of timm give."""

    family: Literal["probe"]
    name: Annotated[str, Field(min_length=1)]
    """A name in timm.list_models()."""
    pretrained: bool
    """True downloads timm's published weights once."""
    weights: StartWeights | None
    """A file to take the network from instead."""
    stages: Annotated[int, Field(ge=1, le=1000)]
    """The last so many of what timm calls the network's intermediate features: of a convolutional
    network usually five, one for each halving of the image; of a transformer its blocks. Of each
    channel the mean and the maximum over the image are a feature."""

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.pretrained == (self.weights is not None):
            found = "both" if self.pretrained else "neither: fresh weights have learned no features"
            raise ValueError(f"expected `pretrained: true` or a `weights` file, found {found}")
        return self

    @property
    def backbone(self) -> TimmNetwork:
        """The network that gives the features."""
        return TimmNetwork(
            family="timm",
            name=self.name,
            pretrained=self.pretrained,
            weights=self.weights,
            dropout=0.0,
            drop_path=None,
        )


Network = Annotated[
    SmallNetwork | ClassicNetwork | SignalNetwork | TimmNetwork | SpectrogramNetwork | ProbeNetwork,
    Field(discriminator="family"),
]
FAMILIES = ("small", "classic", "signal", "timm", "spectrogram", "probe")

OfSignals = SignalNetwork | SpectrogramNetwork
"""Networks for signals; all others are for images."""
