"""New images: scored as the submission was, whatever lies among them."""

import io
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cards import make_card
from kaggle_server import zip_of
from pictures import fill, pack, png, rows_of, seven_zip_of, tar_of
from project import PARAMS, decoding_of, digests, stage
from tasks import one_of

from pipeline.core import paths
from pipeline.core.competition import ImageDecoding
from pipeline.core.errors import (
    ArchiveError,
    EnsembleError,
    ImageError,
    OutputError,
    PipelineError,
    TableError,
    TrainError,
)
from pipeline.core.files import sha256_of
from pipeline.core.ours import remember
from pipeline.core.record import write_record
from pipeline.core.tables import read_csv
from pipeline.params import Config, read_config
from pipeline.predict import command as predict
from pipeline.predict.images import (
    BrokenImage,
    ImageFolder,
    decode_batches,
    have_suffix,
    name_images,
    open_rows,
)
from pipeline.prepare.decode import CLIPPED, MADE_GREY, ImageDecoder, decode
from pipeline.prepare.pictures import each_a_picture
from pipeline.raw.archive import IMAGE_SUFFIXES, MOST_MEMBER_BYTES
from pipeline.scoring.card import read_card
from pipeline.train.device import choose_compute
from pipeline.train.infer import BATCH, TrainedNetwork, load_network
from pipeline.train.infer import predict as predict_rows
from pipeline.train.models import build_model, describe, load_model, save_model

CLASSES = ["0", "1"]
SIZE_PX = 24  # of PARAMS
DECODING = ImageDecoding(size_px=SIZE_PX, channels=3, fit="stretch", black_white=None)
PAIR = {"a.png": png(1), "b.png": png(2)}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A finished project with random networks: params.yaml, models/, submission and card."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    config = read_config(Path("params.yaml"))
    networks = []
    for number, (name, fold) in enumerate([("one", 0), ("one", 1), ("two", 0), ("two", 1)]):
        torch.manual_seed(number)
        model_config = config.train.models[name]
        model = build_model(
            model_config.network, one_of(2), decoding_of(SIZE_PX), [120.0] * 3, [60.0 + number] * 3
        )
        file = paths.model_folder(name, fold) / predict.WEIGHTS
        file.parent.mkdir(parents=True)
        save_model(file, model, describe(model_config, one_of(CLASSES), DECODING, 1))
        networks.append(describe_network(name, fold))
    Path("submissions").mkdir()
    paths.submission("tiny").write_text("cell,infected\ntest_1,0\ntest_2,1\n")
    write_card(networks=networks)
    return config


def describe_network(model: str, fold: int) -> dict[str, Any]:
    file = paths.model_folder(model, fold) / predict.WEIGHTS
    sha256 = {file.name: sha256_of(file)}
    return {"model": model, "fold": fold, "accuracy": 0.9, "rows": 40, "sha256": sha256}


def write_card(**changes: Any) -> None:
    write_record(paths.card("tiny"), make_card(**changes))


def networks_of() -> list[dict[str, Any]]:
    return [network.model_dump() for network in read_card(paths.card("tiny")).networks]


# Which images there are


@pytest.mark.parametrize(
    ("members", "with_suffix", "ids"),
    [
        (["a.png", "deep/b.1.JPG"], False, ["a", "b.1"]),
        (["a.png", "deep/b.1.JPG"], True, ["a.png", "b.1.JPG"]),
        (["x/a.png", "y/a.png", "b.png"], False, ["x/a.png", "y/a.png", "b.png"]),
        (["x/a.png", "x/a.jpg"], False, ["x/a.png", "x/a.jpg"]),
        (["x/a.png", "x/a.jpg"], True, ["a.png", "a.jpg"]),
    ],
)
def test_ids_are_file_names_unless_two_are_the_same(
    members: list[str], with_suffix: bool, ids: list[str]
) -> None:
    assert name_images(members, with_suffix) == ids


def test_a_name_that_a_csv_cannot_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(png(1))
    with pytest.raises(ImageError) as caught:
        name_images(ImageFolder(tmp_path).members, False)
    assert str(caught.value) == (
        "expected file names in UTF-8, found 1 of 1 that are not (first: '\\udcff.png'). Rename them"
    )


def test_the_images_of_a_folder_are_found_at_any_depth(tmp_path: Path) -> None:
    files = ["b.png", "a.TIFF", "x/y/c.jpeg", "notes.txt", ".hidden.png", ".git/d.png"]
    folder = fill(tmp_path / "images", dict.fromkeys([*files, "__MACOSX/b.png"], b"x"))
    (folder / "link").symlink_to(folder / "x")
    (folder / "alias.png").symlink_to(folder / "b.png")
    os.mkfifo(folder / "pipe.png")
    images = ImageFolder(folder)
    assert images.members == ["a.TIFF", "alias.png", "b.png", "x/y/c.jpeg"]
    assert images.ignored == ["link", "notes.txt", "pipe.png"]


SUFFIXES = " ".join(IMAGE_SUFFIXES)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("gone", ImageError, "gone: expected a folder of images or an archive, found no such file or"),
        ("empty", ImageError, f"empty: expected images ({SUFFIXES}), found nothing at all. Name a folder, an archive, or NAME.zip/FOLDER"),
        ("texts", ImageError, f"texts: expected images ({SUFFIXES}), found 1 other files (first: a.txt). Name"),
        ("good.zip/other", ImageError, "good.zip/other: expected images ("),
        ("texts/a.txt", ArchiveError, "texts/a.txt: expected a zip, found 1 bytes that begin with b'x'"),
        ("cut.zip", ArchiveError, "cut.zip: expected a whole zip, found one cut short or damaged"),
    ],
)  # fmt: skip
def test_a_source_without_images_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    fill(Path("texts"), {"a.txt": b"x"})
    pack(Path("good.zip"), {"in/a.png": png(1)})
    Path("cut.zip").write_bytes(Path("good.zip").read_bytes()[:-30])
    with pytest.raises(error) as caught, open_rows(Path(source), DECODING, "id", False):
        pass
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["new.zip", "new.tar.gz", "new.7z"])
def test_the_images_of_any_archive_and_of_a_folder_in_it_are_found_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"x/b.png": b"b", "x/y/a.png": b"a", "c.png": b"c", "n.txt": b"n"}
    packers = {"zip": zip_of, "gz": partial(tar_of, mode="w:gz"), "7z": seven_zip_of}
    Path(name).write_bytes(packers[name.rpartition(".")[2]](files))
    with open_rows(Path(name), DECODING, "id", False) as new:
        found = {each.file: new.files.read(each.file) for each in new.pictures}
        assert found == {member: content for member, content in files.items() if member != "n.txt"}
        assert new.ignored == ["n.txt"]
    with open_rows(Path(name) / "x", DECODING, "id", False) as new:
        assert [each.file for each in new.pictures] == ["x/b.png", "x/y/a.png"]
        assert new.image_ids == ["b", "a"]
    assert not list(tmp_path.glob("data/.*"))


def test_images_are_decoded_as_prepare_does_and_in_order(tmp_path: Path) -> None:
    files = {f"{number:03}.png": png(number, (8 + number % 9, 20)) for number in range(50)}
    for fit in ("stretch", "pad"):
        decoding = ImageDecoding(size_px=16, channels=3, fit=fit, black_white=None)
        images = ImageFolder(fill(tmp_path / fit, files))
        ids = name_images(images.members, False)
        batches = list(
            decode_batches(
                images, each_a_picture(images.members), ids, ImageDecoder(decoding, 4096), 7
            )
        )
        assert [len(batch.image_ids) for batch in batches] == [7] * 7 + [1]
        assert [name for batch in batches for name in batch.image_ids] == ids
        expected = [
            decode(
                content, ImageDecoding(size_px=16, channels=3, fit=fit, black_white=None), 4096
            ).pixels
            for content in files.values()
        ]
        assert np.array_equal(np.concatenate([batch.pixels for batch in batches]), expected)


def test_deep_images_are_scaled_by_the_range_of_the_networks_and_what_is_clipped_is_said(
    tmp_path: Path,
) -> None:
    values = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)
    files = {}
    for name, array in (("a", values), ("b", values * 2)):
        np.save(file := io.BytesIO(), array)
        files[f"{name}.npy"] = file.getvalue()
    images = ImageFolder(fill(tmp_path / "deep", files))
    decoding = ImageDecoding(size_px=8, channels=3, fit="stretch", black_white=(0, 4095))
    (batch,) = decode_batches(
        images, each_a_picture(images.members), ["a", "b"], ImageDecoder(decoding, 4096), 5
    )
    assert np.array_equal(batch.pixels[0, ..., 0], values // 16)
    assert np.array_equal(batch.pixels[1, ..., 0], np.minimum(values // 8, 255))
    assert batch.notes == [CLIPPED]


def test_colour_is_made_grey_for_networks_of_one_channel_and_said(tmp_path: Path) -> None:
    files = {"a.png": png(1, (8, 8)), "b.png": png(2, (8, 8))}
    images = ImageFolder(fill(tmp_path / "colour", files))
    pictures = each_a_picture(images.members)
    (batch,) = decode_batches(
        images, pictures, ["a", "b"], ImageDecoder(decoding_of(8, 1), 4096), 5
    )
    (colour,) = decode_batches(images, pictures, ["a", "b"], ImageDecoder(decoding_of(8), 4096), 5)
    assert batch.pixels.shape == (2, 8, 8, 1)
    luma = colour.pixels @ [0.299, 0.587, 0.114]
    assert np.abs(batch.pixels[..., 0] - luma).max() <= 0.51
    assert batch.notes == [MADE_GREY] * 2
    assert colour.notes == []


def test_memory_holds_two_batches_whatever_the_number_of_images(tmp_path: Path) -> None:
    class Counted(ImageFolder):
        read_so_far = 0

        def read(self, member: str) -> bytes:
            self.read_so_far += 1
            return super().read(member)

    images = Counted(fill(tmp_path / "many", {f"{n}.png": png(n, (8, 8)) for n in range(60)}))
    decoding = ImageDecoding(size_px=8, channels=3, fit="stretch", black_white=None)
    batches = decode_batches(
        images, each_a_picture(images.members), images.members, ImageDecoder(decoding, 4096), 5
    )
    for taken in range(1, 6):
        next(batches)
        assert images.read_so_far <= 5 * (taken + 1)
    batches.close()


# The command


def test_probabilities_are_the_mean_of_what_training_predicts(config: Config) -> None:
    """The same bits, over more images than one batch has."""
    count = BATCH + 44
    files = {f"cell_{number:04}.png": png(number) for number in range(count)}
    predict.run(config, fill(Path("new"), files), Path("out.csv"))
    pixels = np.stack(
        [
            decode(
                c, ImageDecoding(size_px=SIZE_PX, channels=3, fit="stretch", black_white=None), 4096
            ).pixels
            for c in files.values()
        ]
    )
    members = []
    for model in ("one", "two"):
        for fold in (0, 1):
            network, _ = load_model(paths.model_folder(model, fold) / "weights.safetensors")
            network = network.to(memory_format=torch.channels_last)  # as it was trained
            compute = choose_compute("cpu", "float32")
            members.append(predict_rows(network, pixels, np.arange(count), compute, True))
    mean = np.stack(members).mean(axis=0)
    rows = rows_of(Path("out.csv"))
    assert [row["cell"] for row in rows] == [name.removesuffix(".png") for name in files]
    found = np.array([[float(row["p_0"]), float(row["p_1"])] for row in rows])
    assert np.abs(found - mean).max() < 1e-8
    assert [row["infected"] for row in rows] == [CLASSES[place] for place in mean.argmax(axis=1)]
    assert len({row["p_1"] for row in rows}) == count


def test_batches_predict_the_bits_of_training(config: Config) -> None:
    file = paths.model_folder("one", 0) / "weights.safetensors"
    images = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), dtype=np.uint8)
    for precision in ("float32", "bfloat16"):
        for tta in (True, False):
            changes = {"precision": precision, "tta": tta}
            own = config.train.models["one"].model_copy(update=changes)
            save_model(file, load_model(file)[0], describe(own, one_of(CLASSES), DECODING, 1))
            trained = load_model(file)[0].to(memory_format=torch.channels_last)
            compute = choose_compute("cpu", precision)
            expected = predict_rows(trained, images, np.arange(40), compute, tta)
            assert np.array_equal(load_network(file, "cpu").predict(images), expected)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size_px: 24", "size_px: 32"),
        ("fit: stretch", "fit: pad"),
        ("tta: true", "tta: false"),
        ("precision: float32", "precision: bfloat16"),
        ("threads: 1", "threads: 2"),
        ("width: 4", "width: 8"),
        ("name: vgg", "name: resnet"),
        ("members: [one, two]", "members: [two]"),
        ("folds: [0, 1]", "folds: [1]"),
        ("    two: {", "    three: {"),
        ("blend: mean", "blend: stack"),
        ("calibration: none", "calibration: temperature"),
        ("threshold: none", "threshold: fitted"),
        ("metric: accuracy", "metric: log_loss"),
        ("near_duplicate: 2.0", "near_duplicate: 0.0"),
    ],
)
def test_parameters_that_have_changed_since_the_training_change_no_prediction(
    config: Config, old: str, new: str
) -> None:
    new_images = fill(Path("new"), {"a.png": png(1, (40, 20)), "b.png": png(2, (20, 33))})
    predict.run(config, new_images, Path("before.csv"))
    assert old in PARAMS
    text = PARAMS.replace(old, new)
    if "three" in new:
        text = text.replace("members: [one, two]", "members: [one, three]")
    Path("params.yaml").write_text(text)
    predict.run(read_config(Path("params.yaml")), new_images, Path("after.csv"))
    assert Path("after.csv").read_bytes() == Path("before.csv").read_bytes()


def test_the_columns_are_the_submissions_with_the_probabilities_between(config: Config) -> None:
    predict.run(config, fill(Path("new"), {"x/c.png": png(1)}), Path("out.csv"))
    head, row = Path("out.csv").read_bytes().decode().splitlines()
    assert head == "cell,p_0,p_1,infected"
    image_id, *probabilities, label = row.split(",")
    assert image_id == "c"
    assert sum(map(float, probabilities)) == pytest.approx(1, abs=1e-6)
    assert label == CLASSES[int(float(probabilities[1]) > 0.5)]


def test_ids_have_a_suffix_where_those_of_the_submission_have_one(config: Config) -> None:
    assert have_suffix(["a.png", "b.JPEG"])
    assert not have_suffix(["a.png", "b"])
    assert not have_suffix(["a.1", "b.2"])
    Path("submissions/tiny.csv").write_text("id,label\na.png,0\nb.png,1\n")
    predict.run(config, fill(Path("new"), {"x/c.png": png(1)}), Path("out.csv"))
    assert [row["id"] for row in rows_of(Path("out.csv"))] == ["c.png"]


def test_a_folder_a_zip_and_a_folder_in_a_zip_give_the_same_bytes(config: Config) -> None:
    files = {f"in/{number}.png": png(number) for number in range(9)}
    fill(Path("new"), files)
    pack(Path("new.zip"), files)
    pack(Path("bundle.zip"), files | {"train/z.png": png(99)})
    for number, source in enumerate(["new", "new.zip", "bundle.zip/in"]):
        predict.run(config, Path(source), Path(f"{number}.csv"))
    assert len(rows_of(Path("0.csv"))) == 9
    assert Path("0.csv").read_bytes() == Path("1.csv").read_bytes() == Path("2.csv").read_bytes()


def test_images_with_the_same_name_have_their_paths_as_ids(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"x/a.png": png(1), "y/a.png": png(2), "b.png": png(3)}
    predict.run(config, fill(Path("new"), files), Path("out.csv"))
    rows = rows_of(Path("out.csv"))
    assert [row["cell"] for row in rows] == ["b.png", "x/a.png", "y/a.png"]
    assert rows[1]["p_1"] != rows[2]["p_1"]
    said = "new: some images have the same file name: their ids are their paths"
    assert said in capsys.readouterr().err


def test_a_broken_image_has_no_row_and_is_named_with_its_reason(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = {f"{number}.png": png(number) for number in range(6)}
    predict.run(config, fill(Path("whole"), whole), Path("whole.csv"))
    broken = {"2a.png": b"", "x/cut.png": png(7)[:-40], "y/text.jpg": b"no image", "big.bmp": b"BM"}
    some = fill(Path("some"), whole | broken | {"notes.txt": b"x"})
    with pytest.raises(ImageError) as caught:
        predict.run(config, some, Path("out.csv"))
    assert str(caught.value) == (
        "some: 4 of 10 images cannot be read (first: 2a.png: zero bytes, big.bmp: no image "
        "(expected one of BMP, DICOM, GIF, JPEG, NPY, PNG, TIFF, WEBP), x/cut.png: PNG cut short: no end "
        "marker): they have no row in out.csv, and are listed in out.broken.csv with the reasons. "
        "Get them from their source again, or leave them out"
    )
    rows = rows_of(Path("out.csv"))
    assert [row["cell"] for row in rows] == list("012345")
    for row, expected in zip(rows, rows_of(Path("whole.csv")), strict=True):
        assert float(row["p_1"]) == pytest.approx(float(expected["p_1"]), abs=1e-6)
    assert [row["file"] for row in rows_of(Path("out.broken.csv"))] == sorted(broken)
    assert rows_of(Path("out.broken.csv"))[0]["reason"] == "zero bytes"
    assert "some: other files ignored: 1 (first: notes.txt)" in capsys.readouterr().err


def damaged_member() -> str:
    content = bytearray(pack(Path("new.zip"), PAIR).read_bytes())
    content[100] ^= 0xFF  # in a.png
    Path("new.zip").write_bytes(content)
    return "expected a.png whole, found it damaged"


def too_large() -> str:
    os.truncate(fill(Path("new"), PAIR) / "a.png", MOST_MEMBER_BYTES + 1)
    return "above 1,073,741,824 bytes"


@pytest.mark.parametrize("spoil", [damaged_member, too_large])
def test_an_image_that_cannot_be_read_from_its_source_is_a_broken_image(
    config: Config, spoil: Callable[[], str]
) -> None:
    reason = spoil()
    source = Path("new.zip") if Path("new.zip").is_file() else Path("new")
    with pytest.raises(
        ImageError, match=rf"1 of 2 images cannot be read \(first: a.png: .*{reason}"
    ):
        predict.run(config, source, Path("out.csv"))
    assert [row["cell"] for row in rows_of(Path("out.csv"))] == ["b"]


def test_a_file_that_is_gone_by_the_time_it_is_read_is_a_broken_image(tmp_path: Path) -> None:
    images = ImageFolder(fill(tmp_path, PAIR))
    (tmp_path / "a.png").unlink()
    (batch,) = decode_batches(
        images, each_a_picture(images.members), ["a", "b"], ImageDecoder(DECODING, 4096), 2
    )
    assert batch.image_ids == ["b"]
    assert batch.broken == [BrokenImage("a.png", "cannot be read (No such file or directory)")]


def test_where_all_images_are_broken_no_predictions_appear_and_the_next_run_removes_the_list(
    config: Config,
) -> None:
    fill(Path("new"), {"a.png": b"", "b.png": b"x"})
    with pytest.raises(ImageError) as caught:
        predict.run(config, Path("new"), Path("out.csv"))
    assert str(caught.value).startswith("new: 2 of 2 images cannot be read (first: a.png: zero")
    assert str(caught.value).endswith(", see out.broken.csv")
    assert not Path("out.csv").exists()
    assert len(rows_of(Path("out.broken.csv"))) == 2
    fill(Path("new"), {"a.png": png(1), "b.png": png(2)})
    predict.run(config, Path("new"), Path("out.csv"))
    assert not Path("out.broken.csv").exists()
    assert len(rows_of(Path("out.csv"))) == 2


def test_an_interrupted_run_leaves_the_earlier_output(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{number:03}.png": png(number, (4, 4)) for number in range(BATCH + 1)}
    fill(Path("new"), files)
    Path("out.csv").write_text("earlier")
    remember(Path("out.csv"))
    calls = []

    def stop(_: TrainedNetwork, images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        if len(images) == 1:
            raise KeyboardInterrupt
        return np.full((len(images), 2), 0.5)

    monkeypatch.setattr(TrainedNetwork, "predict", stop)
    with pytest.raises(KeyboardInterrupt):
        predict.run(config, Path("new"), Path("out.csv"))
    assert calls == [BATCH] * 4 + [1]
    assert Path("out.csv").read_text() == "earlier"
    assert sorted(path.name for path in Path().iterdir()) == [
        ".resume", "models", "new", "out.csv", "params.yaml", "submissions",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("./new.zip", "new.zip: expected nothing there, or what this command made, found another"),
        ("params.yaml", "params.yaml: is the place of params.yaml, which belongs to the pipeline"),
        ("submissions/../params.yaml", "submissions/../params.yaml: is the place of params.yaml"),
        ("submissions/ledger.csv", "submissions/ledger.csv: is the place of submissions/ledger"),
        ("submissions/tiny.csv", "submissions/tiny.csv: is the place of submissions/tiny.csv"),
        ("submissions/other.csv", "submissions/other.csv: expected nothing there"),
        ("models/one/fold0/new.csv", "models/one/fold0/new.csv: is the place of models/one/fold0"),
        ("data/raw/new.csv", "data/raw/new.csv: is the place of data/raw"),
        ("train.csv", "train.csv: expected nothing there"),
        ("link.csv", "link.csv: expected nothing there"),
        ("gone.csv", "gone.csv: expected nothing there"),
        ("names.csv", "names.broken.csv: expected nothing there"),
    ],
)
def test_the_output_overwrites_nothing_that_it_did_not_make(
    config: Config, output: str, said: str
) -> None:
    pack(Path("new.zip"), {"a.png": png(1), "broken.png": b"x"})
    fill(Path(), {"train.csv": b"mine", "names.broken.csv": b"mine"})
    Path("link.csv").symlink_to("train.csv")
    Path("gone.csv").symlink_to("nothing")
    shutil.copy("submissions/tiny.csv", "submissions/other.csv")
    other = make_card(name="other", sha256={"submission": sha256_of(Path("submissions/tiny.csv"))})
    write_record(paths.card("other"), other)
    remember(Path("submissions/other.csv"))  # as stage ensemble does
    before = digests(Path(), "**/*")
    with pytest.raises(OutputError) as caught:
        predict.run(config, Path("new.zip"), Path(output))
    assert str(caught.value).startswith(said)
    assert digests(Path(), "**/*") == before


def test_its_own_output_is_replaced_until_somebody_changes_it(config: Config) -> None:
    pack(Path("new.zip"), {"a.png": png(1), "broken.png": b"x"})
    for _ in range(2):
        with pytest.raises(ImageError, match=r"new.zip: 1 of 2 images cannot be read"):
            predict.run(config, Path("new.zip"), Path("out.csv"))
    pack(Path("new.zip"), {"a.png": png(1)})
    predict.run(config, Path("new.zip"), Path("out.csv"))
    assert not Path("out.broken.csv").exists()
    Path("out.csv").write_text(f"{Path('out.csv').read_text()}mine")
    with pytest.raises(OutputError, match=r"out.csv: expected nothing there"):
        predict.run(config, Path("new.zip"), Path("out.csv"))
    with pytest.raises(TableError, match=r"^models: expected a file to write, found a folder"):
        predict.run(config, Path("new.zip"), Path("models"))


def a_card(**changes: Any) -> Callable[[Config], None]:
    """Another card of the same networks."""
    return lambda _: write_card(**({"networks": networks_of()} | changes))


def a_model_less(_: Config) -> None:
    write_card(networks=networks_of()[:3])


THEIRS = {"model": "theirs", "folds": "checked", "sha256": {}}


def weights_of(*weights: object) -> Callable[[Config], object]:
    """A card with these weights, whatever they are."""

    def write(_: Config) -> None:
        broken = json.loads(paths.card("tiny").read_text())
        broken["blend"]["fitted"]["blend"]["weights"] = weights
        paths.card("tiny").write_text(json.dumps(broken))

    return write


def other_weights(_: Config) -> None:
    shutil.copy("models/one/fold0/weights.safetensors", "models/two/fold1/weights.safetensors")


def another_last(**changes: Any) -> Callable[[Config], None]:
    """The last network says something else of itself."""

    def write(_: Config) -> None:
        file = Path("models/two/fold1/weights.safetensors")
        model, description = load_model(file)
        save_model(file, model, description.model_copy(update=changes))
        write_card(networks=[*networks_of()[:3], describe_network("two", 1)])

    return write


def cut_weights(_: Config) -> None:
    file = Path("models/two/fold1/weights.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    write_card(networks=[*networks_of()[:3], describe_network("two", 1)])


def no_hashes(_: Config) -> None:
    write_card(networks=[network | {"sha256": {}} for network in networks_of()])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _: paths.card("tiny").unlink(), "submissions/tiny.json: no such file. Run: dvc repro ensemble"),
        (a_model_less, "submissions/tiny.json: expected the networks of its models, one fold 0, one fold 1, two fold 0, two fold 1; found one fold 0, one fold 1, two fold 0. Run: dvc repro --force ensemble"),
        (a_card(networks=[]), "submissions/tiny.json: expected the networks of its models, ; found . Run: dvc repro --force ensemble"),
        (no_hashes, "models/one/fold0/weights.safetensors: expected the network that made submissions/tiny.csv, found another one (by the SHA-256 in submissions/tiny.json). Run: dvc repro ensemble"),
        (cut_weights, "models/two/fold1/weights.safetensors: expected a network of this pipeline, found no safetensors file: Error while deserializing header: incomplete metadata, file not fully covered. Run: dvc repro"),
        (lambda _: paths.submission("tiny").write_text("cell\ntest_1\n"), "submissions/tiny.csv: expected labels of the training images, ['0', '1'], found 'test_1'"),
        (a_card(external=[THEIRS]), "submissions/tiny.json: 1 of its models come from elsewhere (first: theirs): without their networks no other image can be scored. Take them out of ensemble.external, and run: dvc repro ensemble"),
        (weights_of(0.5, 0.25, 0.25), "submissions/tiny.json: blend: expected 2 weights, as many as models. Run: dvc repro --force ensemble"),
        (weights_of(0.5, "x"), "submissions/tiny.json: blend.fitted.blend.weighted_mean.weights.1: Input should be a valid number, found 'x'. Run: dvc repro --force ensemble"),
        (lambda _: Path("models/two/fold1/weights.safetensors").unlink(), "models/two/fold1/weights.safetensors: no such file. Run: dvc repro, or dvc checkout"),
        (other_weights, "models/two/fold1/weights.safetensors: expected the network that made submissions/tiny.csv, found another one (by the SHA-256 in submissions/tiny.json). Run: dvc repro ensemble"),
        (another_last(task=one_of(["1", "0"])), "models: expected networks of the same classes, found ['0', '1'] and ['1', '0']. Run: dvc repro"),
        (another_last(decoding=ImageDecoding(size_px=24, channels=3, fit="pad", black_white=None)), "models: expected networks of the same images, found kind='images' size_px=24 channels=3 fit='stretch' black_white=None and kind='images' size_px=24 channels=3 fit='pad' black_white=None. Run: dvc repro"),
    ],
)  # fmt: skip
def test_other_networks_than_the_submissions_are_refused(
    config: Config, spoil: Callable[[Config], None], message: str
) -> None:
    spoil(config)
    with pytest.raises(PipelineError) as caught:
        predict.run(config, fill(Path("new"), {"a.png": png(1)}), Path("out.csv"))
    assert str(caught.value) == message
    assert isinstance(caught.value, EnsembleError | TableError | TrainError)
    assert not Path("out.csv").exists()


@pytest.mark.slow
def test_the_competitions_own_test_images_get_the_submission_again(
    trained: Path, tmp_path: Path
) -> None:
    """The zip, the networks, the submission and its card are enough."""
    alone = tmp_path / "alone"
    for name in ("pipeline", "models", "submissions"):
        shutil.copytree(trained / name, alone / name)
    shutil.copy(trained / "params.yaml", alone)
    shutil.copy(trained / "data/raw/test_data.zip", alone)
    done = stage(alone, "predict", "test_data.zip")
    assert done.returncode == 0, done.stdout
    assert "predictions.csv: 24 images, from 4 networks" in done.stdout
    found = read_csv(alone / "predictions.csv").set_index("id")
    submission = read_csv(trained / "submissions/tiny.csv").set_index("id")
    assert dict(found["label"]) == dict(submission["label"])
    assert found["label"].nunique() == 2
    card = read_card(trained / "submissions/tiny.json")
    assert card.blend.fitted.temperature is not None
    assert card.blend.fitted.threshold is not None


@pytest.mark.slow
def test_a_broken_image_makes_the_command_fail_after_all_others_are_written(
    trained: Path, tmp_path: Path
) -> None:
    new = fill(tmp_path / "new", {"a.png": png(1), "deep/b.png": b""})
    done = stage(trained, "predict", str(new), "--output", str(tmp_path / "some.csv"))
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    assert (
        f"ImageError: {new}: 1 of 2 images cannot be read (first: deep/b.png: zero" in done.stdout
    )
    assert [row["id"] for row in rows_of(tmp_path / "some.csv")] == ["a"]
