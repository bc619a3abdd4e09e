"""params.yaml: a mistake is one line that names its path, never a silent default."""

import re
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.params import read_config

ROOT = Path(__file__).parent.parent
PARAMS = (ROOT / "profiles" / "synthetic.yaml").read_text()


def error_of(tmp_path: Path, old: str, new: str) -> str:
    """The message after `old` was replaced by `new`, once."""
    assert old in PARAMS
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    return str(caught.value).replace(str(tmp_path), "")


MISTAKES = [
    ("label_smoothing:", "label_smooting:", "train.models.vgg.label_smooting: unknown parameter; did you mean 'label_smoothing'?"),
    ("label_smoothing:", "label_smooting:", "train.models.vgg.label_smoothing: missing: every parameter stands in params.yaml"),
    ("split:", "splitt:", "splitt: unknown parameter; did you mean 'split'?"),
    ("epochs: ", "epochs: 0.5 #", "train.models.vgg.epochs: expected a valid integer, found 0.5"),
    ("epochs: ", "epochs: -1 #", "train.models.vgg.epochs: expected greater than or equal to 1, found -1"),
    ("epochs: ", "epochs: 1 #", "train.models.vgg: expected warmup_epochs below epochs, found 1.0 of 1"),
    ("epochs: ", "epochs: '6' #", "train.models.vgg.epochs: expected a valid integer, found '6'"),
    ("lr: ", "lr: .nan #", "train.models.vgg.lr: expected a finite number, found nan"),
    ("tta: true", "tta: 1", "train.models.vgg.tta: expected a valid boolean, found 1"),
    ("source: synthetic", "source: kagle", "download: 'source': expected one of 'synthetic', 'local', 'rebuild', 'kaggle', found 'kagle'"),
    ("{rule: last}", "{rule: inner}", "train.models.vgg.epoch.folds: missing"),
    ("{rule: last}", "{}", "train.models.vgg.epoch: missing the key 'rule' that says which kind this is"),
    ("members: [vgg]", "members: [vg]", "train: member 'vg' is not among the models ['vgg']"),
    ("members: [vgg]", "members: [vgg, vgg]", "train: expected distinct members, found ['vgg', 'vgg']"),
    ("folds: [0,", "folds: [5,", "train.folds: fold 5 does not exist: split.folds × split.seeds makes 5 folds"),
    ("seeds: [1]", "seeds: [1, 1]", "split.seeds: expected distinct seeds, found [1, 1]"),
    ("{op: SquareSymmetry, ", "{", "train.models.vgg.augment: item 0: expected a key `op` with a name, found {'p': 1.0}"),
    ("{source: file, file: auto}", "{source: name, pattern: 'x('}", "prepare.groups.pattern: not a regular expression"),
    ("{source: file, file: auto}", "{source: name, pattern: x}", "expected exactly one (capture group), found 0"),
    ("  seeds: [1]", "  folds: 3\n  seeds: [1]", "duplicate key \"folds\""),
    ("split:", "split: [", "line "),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_a_mistake_is_named_with_its_path(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert message in error_of(tmp_path, old, new)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.replace("tta: true", "tta: maybe").replace("fit: stretch", "fit: crop"))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    first, second = str(caught.value).splitlines()
    assert "prepare.fit: expected 'stretch' or 'pad', found 'crop'" in first
    assert "train.models.vgg.tta: expected a valid boolean, found 'maybe'" in second


def test_a_missing_file_names_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("no such file. Run in the repository's root")):
        read_config(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["", "- 1\n", "word\n"])
def test_a_file_without_sections_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="expected a mapping of sections"):
        read_config(path)


def test_exponents_without_a_dot_are_numbers_as_dvc_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(r"lr: \S+", "lr: 1e-3", PARAMS))
    assert read_config(path).train.models["vgg"].lr == 0.001


@pytest.mark.parametrize(
    "profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda p: p.stem
)
def test_each_profile_is_valid_and_opens_with_its_result(profile: Path) -> None:
    read_config(profile)
    assert profile.read_text().startswith("# ")


def test_params_yaml_is_valid() -> None:
    read_config(ROOT / "params.yaml")
