"""params.yaml: a mistake is one line that names its path, never a silent default."""

import hashlib
import re
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.params import read_config

ROOT = Path(__file__).parent.parent
PROFILE = (ROOT / "profiles" / "synthetic.yaml").read_text()
PARAMS = PROFILE[PROFILE.index("download:") :]  # without its header: mistakes name their lines


NETWORK = "network: {family: small, name: vgg, width: 16, stages: 4, dropout: 0.1}"
TIMM = "network: {family: timm, name: resnet18, pretrained: false, weights: null, dropout: 0.0, drop_path: null}"
MUON, ADAMW = "{kind: muon, lr: 0.03, momentum: 0.6}", "{kind: adamw}"
FOLDS = "folds: [0, 1, 2, 3, 4]"
GROUPS = "{source: file, file: auto}"
VGG = "train.models.vgg"


def read(tmp_path: Path, *changes: tuple[str, str]) -> list[str]:
    """The mistakes that are found after each old text was replaced by a new one, once."""
    text = PARAMS
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


MISTAKES = [
    ("fit: stretch", "fit: stretch\n  classes: [a]", "prepare.classes: expected at least 2 items, found ['a']"),
    ("fit: stretch", "fit: stretch\n  classes: [0, 1]", "prepare.classes.1: expected a valid string, found 1"),
    ("bits: null", "bits: 7", "prepare.bits: expected greater than or equal to 8, found 7"),
    ("bits: null", "bits: 17", "prepare.bits: expected less than or equal to 16, found 17"),
    ("epochs: ", "epochs: 0.5 #", f"{VGG}.epochs: expected a valid integer, found 0.5"),
    ("epochs: ", "epochs: '6' #", f"{VGG}.epochs: expected a valid integer, found '6'"),
    ("epochs: ", "epochs: 0 #", f"{VGG}.epochs: expected greater than or equal to 1, found 0"),
    ("epochs: ", "epochs: 1 #", f"{VGG}: expected warmup_epochs below epochs, found 1.0 of 1"),
    ("seed: 1\n      epochs", "seed: -1\n      epochs", f"{VGG}.seed: expected greater than or equal to 0, found -1"),
    ("{rule: last}", "{}", f"{VGG}.epoch: missing the key 'rule' that says which kind this is"),
    ("{rule: last}", "{rule: best}", f"{VGG}.epoch: 'rule': expected one of 'last', 'inner', found 'best'"),
    ("{rule: last}", "{rule: inner, patience: null}", f"{VGG}.epoch.folds: missing: every parameter stands in params.yaml"),
    ("{rule: last}", "{rule: inner, folds: 1, patience: null}", f"{VGG}.epoch.folds: expected greater than or equal to 2, found 1"),
    ("batch_size: 32", "batch_size: 1", f"{VGG}.batch_size: expected greater than or equal to 2, found 1"),
    ("lr: 0.004", "lr: .nan #", f"{VGG}.lr: expected a finite number, found nan"),
    ("lr: 0.004", "lr: 0 #", f"{VGG}.lr: expected greater than 0, found 0"),
    ("weight_decay: 0.05", "weight_decay: -1.0", f"{VGG}.weight_decay: expected greater than or equal to 0, found -1.0"),
    ("layer_decay: null", "layer_decay: 0.0", f"{VGG}.layer_decay: expected greater than 0, found 0.0"),
    ("layer_decay: null", "layer_decay: 1.1", f"{VGG}.layer_decay: expected less than or equal to 1, found 1.1"),
    ("layer_decay: null", "layer_decay: 0.7", f"{VGG}: expected `layer_decay: null` for vgg, a network of our own that starts from fresh weights, found 0.7"),
    ("head_lr: null", "head_lr: 0", f"{VGG}.head_lr: expected greater than 0, found 0"),
    ("head_lr: null", "head_lr: 0.01", f"{VGG}: expected `head_lr: null` for vgg, a network of our own that starts from fresh weights, found 0.01"),
    ("freeze_epochs: 0", "freeze_epochs: -1", f"{VGG}.freeze_epochs: expected greater than or equal to 0, found -1"),
    ("freeze_epochs: 0", "freeze_epochs: 1", f"{VGG}: expected `freeze_epochs: 0` for vgg, a network of our own that starts from fresh weights, found 1"),
    (NETWORK, TIMM.replace("drop_path: null", "drop_path: 1.0"), f"{VGG}.network.drop_path: expected less than 1, found 1.0"),
    (NETWORK, NETWORK.replace("dropout", "drop_path: 0.1, dropout"), f"{VGG}.network.drop_path: unknown parameter; did you mean 'dropout'?"),
    ("label_smoothing: 0.1", "label_smoothing: 1.0", f"{VGG}.label_smoothing: expected less than 1, found 1.0"),
    ("ema: 0.98", "ema: 1.0", f"{VGG}.ema: expected less than 1, found 1.0"),
    ("clip_norm: 1.0", "clip_norm: 0.0", f"{VGG}.clip_norm: expected greater than 0, found 0.0"),
    ("precision: auto", "precision: half", f"{VGG}.precision: expected 'auto', 'float32', 'bfloat16' or 'float16', found 'half'"),
    ("tta: true", "tta: 1", f"{VGG}.tta: expected a valid boolean, found 1"),
    ("{op: SquareSymmetry, ", "{", f"{VGG}.augment: item 0: expected a key `op` with a name, found {{'p': 1.0}}"),
    ("SquareSymmetry", "SquareSymetry", f"{VGG}: augment: item 0: the batched engine has no operation 'SquareSymetry'; close names: SquareSymmetry"),
    ("SquareSymmetry", "OneOf", f"{VGG}: augment: item 0: OneOf holds other operations, and `augment` is one list of operations: write those of it one after the other, each with its own `p`"),
    ("op: SquareSymmetry, ", "op: Affine, rotat: 3, ", f"{VGG}: augment: item 0: Affine: the batched engine has no argument 'rotat'; close names: rotate"),
    ("engine: batched", "engine: batchd", f"{VGG}.engine: expected 'albumentations' or 'batched', found 'batchd'"),
    ("mix: null", "mix: {kind: blend, alpha: 1.0, p: 1.0}", f"{VGG}.mix.kind: expected 'mixup' or 'cutmix', found 'blend'"),
    ("mix: null", "mix: {kind: mixup, alpha: 0.0, p: 1.0}", f"{VGG}.mix.alpha: expected greater than 0, found 0.0"),
    ("mix: null", "mix: {kind: cutmix, alpha: 1.0, p: 1.1}", f"{VGG}.mix.p: expected less than or equal to 1, found 1.1"),
    ("mix: null", "mix: {kind: cutmix, alpha: 1.0}", f"{VGG}.mix.p: missing: every parameter stands in params.yaml"),
    (NETWORK, TIMM.replace("pretrained: false, weights: null", "pretrained: true, weights: {file: w, sha256: " + "a" * 64 + "}"), f"{VGG}.network: expected `pretrained: true` or a `weights` file, found both"),
    (NETWORK, TIMM.replace("resnet18", "''"), f"{VGG}.network.name: expected at least 1 character, found ''"),
    (NETWORK, TIMM.replace("name", "depth: 18, name"), f"{VGG}.network.depth: unknown parameter; known: drop_path, dropout, family, name, pretrained, weights"),
    (NETWORK, NETWORK.replace("small", "large"), f"{VGG}.network: 'family': expected one of 'small', 'classic', 'signal', 'timm', 'spectrogram', 'probe', found 'large'"),
    (NETWORK, NETWORK.replace("vgg", "vit"), f"{VGG}.network.name: expected 'vgg', 'airbench' or 'resnet', found 'vit'"),
    (NETWORK, NETWORK.replace("dropout: 0.1", "dropout: 1.0"), f"{VGG}.network.dropout: expected less than 1, found 1.0"),
    ("    vgg:\n", "    vgg-16:\n", "train.models.vgg-16: expected text that matches '^[A-Za-z0-9_]+$', found 'vgg-16'"),
    ("members: [vgg]", "members: [vg]", "train: member 'vg' is not among the models ['vgg']"),
    ("members: [vgg]", "members: [vgg, vgg]", "train: expected distinct members, found ['vgg', 'vgg']"),
    ("members: [vgg]", "members: []", "train.members: expected at least 1 item, found []"),
    (FOLDS, "folds: [0, 0]", "train: expected distinct folds, found [0, 0]"),
    (FOLDS, "folds: [-1]", "train.folds.0: expected greater than or equal to 0, found -1"),
    (FOLDS, "folds: [5]", "train.folds: fold 5 does not exist: split.folds × split.seeds makes 5 folds, numbered from 0"),
    ("device: auto", "device: gpu", "train.device: expected 'auto', 'cpu', 'cuda' or 'mps', found 'gpu'"),
    ("threads: 1", "threads: 0", "train.threads: expected greater than or equal to 1, found 0"),
    ("source: synthetic", "source: kagle", "download: 'source': expected one of 'synthetic', 'local', 'rebuild', 'kaggle', found 'kagle'"),
    ("  fit: stretch", "  fit: stretch\n  channels: 2", "prepare.channels: expected auto, 1, 3 or a list of one to three names, found 2"),
    ("  fit: stretch", "  fit: stretch\n  channels: null", "prepare.channels: expected auto, 1, 3 or a list of one to three names, found None"),
    ("seeds: [1]", "seeds: [1, 1]", "split.seeds: expected distinct seeds, found [1, 1]"),
    (GROUPS, "{source: name, pattern: 'x('}", "prepare.groups.pattern: not a regular expression: missing ), unterminated subpattern at position 1"),
    (GROUPS, "{source: name, pattern: x}", "prepare.groups.pattern: expected exactly one (capture group), found 0"),
    ("  seeds: [1]", "  folds: 3\n  seeds: [1]", 'line 26: found duplicate key "folds" with value "3" (original value: "5")'),
    ("split:", "split: [", "line 26: expected ',' or ']', but got ':'"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "mistake"), MISTAKES)
def test_a_mistake_is_one_sentence_with_its_path(
    tmp_path: Path, old: str, new: str, mistake: str
) -> None:
    assert read(tmp_path, (old, new))[-1] == mistake


ALBUMENTATIONS = ("engine: batched", "engine: albumentations")


@pytest.mark.parametrize(
    ("item", "mistake"),
    [
        ("op: horizontalflip, ", "the albumentations engine has no operation 'horizontalflip'; close names: HorizontalFlip"),
        ("op: OneOf, transforms: [{op: Normalize}], ", "OneOf holds other operations, and `augment` is one list of operations: write those of it one after the other, each with its own `p`"),
        ("op: BasicTransform, ", "the albumentations engine has no operation 'BasicTransform'; close names: ElasticTransform"),
        ("op: zzz, ", "the albumentations engine has no operation 'zzz'; none of its 118 names is close"),
        ("op: Affine, rotates: 3, ", "Affine: the albumentations engine has no argument 'rotates'; close names: rotate"),
        ("op: ToGray, zzz: 3, ", "ToGray: the albumentations engine has no argument 'zzz'; known: num_output_channels, method, p"),
    ],
)  # fmt: skip
def test_a_wrong_name_in_a_policy_is_said_when_the_parameters_are_read(
    tmp_path: Path, item: str, mistake: str
) -> None:
    (said,) = read(tmp_path, ALBUMENTATIONS, ("op: SquareSymmetry, ", item))
    assert said.startswith(f"{VGG}: augment: item 0: {mistake}")


def test_a_start_from_a_file_needs_its_hash_and_the_error_says_it(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    for sha256 in (f"what `sha256sum {file}` prints", hashlib.sha256(b"weights").hexdigest()):
        for written in (str(file), f"{{file: {file}}}"):
            network = TIMM.replace("weights: null", f"weights: {written}")
            (said,) = read(tmp_path, (NETWORK, network))
            expected = f"{VGG}.network.weights: expected {{file: {file}, sha256: {sha256}}}, found "
            assert said.startswith(expected)
        file.write_bytes(b"weights")
    network = TIMM.replace("weights: null", f"weights: {{file: {file}, sha256: ABC}}")
    (said,) = read(tmp_path, (NETWORK, network))
    assert said.startswith(f"{VGG}.network.weights.sha256: expected text that matches ")


@pytest.mark.parametrize(
    ("off", "found"), [("layer_decay: null", 0.7), ("head_lr: null", 0.01), ("freeze_epochs: 0", 1)]
)
def test_fine_tuning_needs_a_body_that_has_learned(tmp_path: Path, off: str, found: float) -> None:
    """With such a body, each of them is read."""
    on = f"{off.partition(':')[0]}: {found}"
    assert read(tmp_path, (NETWORK, TIMM), (off, on)) == [
        f"{VGG}: expected `{off}`, or a network with `pretrained: true` or a `weights` file, found "
        f"{found} for fresh weights, which have learned nothing that it would keep"
    ]
    pretrained = TIMM.replace("pretrained: false", "pretrained: true")
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.replace(NETWORK, pretrained).replace(off, on).replace(MUON, ADAMW))
    assert getattr(read_config(path).train.models["vgg"], on.partition(":")[0]) == found


def test_the_body_learns_in_one_epoch_at_least(tmp_path: Path) -> None:
    pretrained = TIMM.replace("pretrained: false", "pretrained: true")
    changes = (
        (NETWORK, pretrained),
        (MUON, ADAMW),
        ("epochs: 8", "epochs: 2"),
        ("freeze_epochs: 0", "freeze_epochs: 2"),
    )
    assert read(tmp_path, *changes) == [f"{VGG}: expected freeze_epochs below epochs, found 2 of 2"]


def test_each_size_has_an_epoch_so_that_the_last_one_is_that_of_the_images(tmp_path: Path) -> None:
    sizes = ("sizes_px: null", "sizes_px: [32, 48, 64]")
    assert read(tmp_path, ("epochs: 8", "epochs: 2"), sizes) == [
        f"{VGG}: expected at most as many sizes_px as epochs, which are 2, found [32, 48, 64]"
    ]


@pytest.mark.parametrize(
    ("key", "typo", "path"),
    [("label_smoothing", "label_smooting", f"{VGG}."), ("split", "splitt", "")],
)
def test_a_typo_is_an_unknown_parameter_and_a_missing_one(
    tmp_path: Path, key: str, typo: str, path: str
) -> None:
    assert read(tmp_path, (f"{key}:", f"{typo}:")) == [
        f"{path}{key}: missing: every parameter stands in params.yaml",
        f"{path}{typo}: unknown parameter; did you mean {key!r}?",
    ]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    assert read(tmp_path, ("tta: true", "tta: maybe"), ("fit: stretch", "fit: crop")) == [
        "prepare.fit: expected 'stretch' or 'pad', found 'crop'",
        f"{VGG}.tta: expected a valid boolean, found 'maybe'",
    ]


def test_a_missing_file_names_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("no such file. Run in the repository's root")):
        read_config(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["", "- 1\n", "word\n"])
def test_a_file_without_sections_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="expected a mapping of sections"):
        read_config(path)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="expected UTF-8 text: 'utf-8' codec can't decode byte"):
        read_config(path)


def test_exponents_without_a_dot_are_numbers_as_dvc_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.replace("lr: 0.004", "lr: 1e-3"))
    assert read_config(path).train.models["vgg"].lr == 0.001


@pytest.mark.parametrize(
    "profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda p: p.stem
)
def test_each_profile_is_valid_and_opens_with_its_result(profile: Path) -> None:
    read_config(profile)
    assert profile.read_text().startswith("# ")


def test_params_yaml_is_valid() -> None:
    read_config(ROOT / "params.yaml")


LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60)
)
TOO_MUCH = (
    "expected at most 200,000 values, those of an alias counted wherever it stands; found more"
)


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (LAUGHS.encode(), TOO_MUCH),
        (MERGES.encode(), TOO_MUCH),
        (b"a: &a [*a]", TOO_MUCH),
        (b"a: &a {<<: *a}", TOO_MUCH),
        (b"# " + b"x" * 2_000_000, "expected at most 2,000,000 bytes, found more"),
        (b"[" * 5_000, "expected a few levels, found far too many"),
        (b"{a: " * 10_000, "expected a few levels, found far too many"),
        (b"a: \x01", "not YAML: unacceptable character #x0001"),
        ("größe: 1".encode("latin-1"), "expected UTF-8 text: "),
        (b"a: " + b"9" * 5000, "not YAML: Exceeds the limit (4300 digits)"),
        (b"a: 2020-13-45", "not YAML: month must be in 1..12"),
        (b"a: 1\na: 2", 'line 2: found duplicate key "a"'),
        (b"a: !!python/object:os.system x", "line 1: could not determine a constructor"),
        (b"", "expected a mapping of sections, found NoneType"),
    ],
    ids=lambda value: value[:9] if isinstance(value, bytes) else "",
)  # fmt: skip
def test_what_is_no_bounded_yaml_is_one_sentence(
    tmp_path: Path, content: bytes, mistake: str
) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: {mistake}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["0x" + "f" * 6000, "1" + "0" * 4000, "'" + "x" * 90_000 + "'"])
def test_a_huge_value_is_not_shown_whole(tmp_path: Path, number: str) -> None:
    (mistake,) = read(tmp_path, ("size_px: 48", f"size_px: {number}"))
    assert mistake.startswith("prepare.size_px: expected ")
    assert len(mistake) < 400


@pytest.mark.parametrize(
    "pattern", ["(a{1,99999999999999999999})", "(" * 5000 + ")" * 5000, "(", "(?P<a"]
)
def test_a_pattern_that_is_none_is_refused(tmp_path: Path, pattern: str) -> None:
    (mistake,) = read(tmp_path, (GROUPS, f"{{source: name, pattern: '{pattern}'}}"))
    assert mistake.startswith("prepare.groups.pattern: not a regular expression: ")


def test_thousands_of_mistakes_are_not_all_listed(tmp_path: Path) -> None:
    extra = "".join(f"k{number}: 1\n" for number in range(5000))
    mistakes = read(tmp_path, ("download:", f"{extra}download:"))
    assert len(mistakes) == 31
    assert mistakes[-1] == "and 4970 more mistakes"
