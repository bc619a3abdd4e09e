"""The comparison with peers runs, is fair to patients, and says what it lacks in one sentence."""

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from benchmarks import cells, peers
from benchmarks.drawn import Drawn, draw_raw
from benchmarks.train import Trained
from pipeline.core.tables import read_csv
from pipeline.train.networks.config import StartWeights, TimmNetwork

APP = peers.typer.Typer()
APP.command()(peers.main)


@pytest.fixture(scope="module")
def competition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Laid out as the real cells are."""
    folder = tmp_path_factory.mktemp("cells")
    draw_raw(folder / "raw", folder / "hidden", train_images=400, test_images=10)
    return folder / "raw"


def compare(*arguments: str | Path) -> Result:
    return CliRunner().invoke(APP, [str(each) for each in arguments])


def ids(split: Drawn) -> set[str]:
    return {path.stem for path in split.png.glob("*/*.png")}


def test_no_patient_is_on_both_sides_of_real_cells(competition: Path, tmp_path: Path) -> None:
    train, held = cells.pick(competition, tmp_path, 128, 20, size_px=32)
    patient = read_csv(competition / "train_groups.csv").set_index("id")["patient"]
    assert (len(ids(train)), len(ids(held))) == (128, 20)
    assert not {patient[each] for each in ids(train)} & {patient[each] for each in ids(held)}
    assert (train.size_px, held.images().shape) == (32, (20, 32, 32, 3))
    assert len(train.labels()) == 128
    for label in (0, 1):
        assert len([*(held.png / str(label)).iterdir()]) == (held.labels() == label).sum()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "none"], "none/train_data.zip: no such file"),
        (["--network", "lite0", "--weights", "none"], "make weights NAME=efficientnet_lite0"),
        (["--network", "lite1"], "found 'lite1'"),
    ],
)
def test_what_is_lacking_is_said_before_anything_is_drawn(
    arguments: list[str], sentence: str
) -> None:
    done = compare(*arguments)
    assert done.exit_code == 2
    assert sentence in " ".join(done.output.replace("│", " ").split())


def test_more_cells_than_there_are_is_said(competition: Path) -> None:
    done = compare("--data", competition, "--images", "5000")
    assert done.exit_code == 2
    assert "--images: expected at most" in done.output


def test_lite0_is_ours_with_the_named_weights_and_the_peers_batch(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"weights")
    config = peers._ours("lite0", tmp_path / "w")
    assert isinstance(config.network, TimmNetwork)
    assert isinstance(config.network.weights, StartWeights)
    config.network.weights.check()
    assert config.batch_size == peers.BATCH_SIZE


def test_the_table_ends_with_the_ratio_to_the_best_peer(capsys: pytest.CaptureFixture[str]) -> None:
    def rounds(seconds: float, accuracy: float, peak_gb: float) -> list[Trained]:
        return [Trained(seconds * factor, accuracy, peak_gb) for factor in (1, 1, 9)]

    found = {
        2: {"a": rounds(20, 0.8, 2), "b": rounds(10, 0.7, 4), "ours": rounds(5, 0.9, 1)},
        4: {"a": rounds(40, 0.9, 2), "b": rounds(20, 0.8, 4), "ours": rounds(10, 0.95, 1)},
    }
    peers._report("vgg", found, 1000, 0.8)
    out = capsys.readouterr().out
    last = next(line for line in out.splitlines() if line.startswith("ours to the best peer"))
    assert last.split()[5:] == ["2.00", "×", "0.50", "4.00", "×"]
    peers._report("vgg", found, 1000, 0.95)
    assert "no ratio of times: no peer reached 0.95 in 4 epochs" in capsys.readouterr().out


@pytest.mark.slow
def test_a_small_comparison_runs_to_its_table(competition: Path) -> None:
    done = compare(
        "--data", competition, "--images", "128", "--held", "20", "--network", "vgg",
        "--epochs", "2", "--rounds", "1", "--size", "32", "--target", "0.01", "--fastai", "none",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "none: not there, so fastai is left out" in done.output
    for name in ("tutorial", "timm", "ours"):
        assert f"vgg, round 1, 2 epochs: {name}: " in done.output
    assert "ours, × faster to 0.01" in done.output
