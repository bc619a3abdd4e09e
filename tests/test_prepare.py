"""data/store/ holds every readable image as one row, says what is wrong, or does not appear."""

import io
import json
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from project import prepare_config
from tasks import one_of

from pipeline.core import paths
from pipeline.core.audit import (
    Audit,
    Cluster,
    DuplicateCounts,
    FoundChannels,
    FoundRange,
    SizeRange,
    SplitAudit,
)
from pipeline.core.competition import ImageDecoding, read_competition, read_decoding
from pipeline.core.errors import (
    ArchiveError,
    DiskError,
    EnsembleError,
    ImageError,
    SubmissionError,
    TableError,
)
from pipeline.core.record import read_record
from pipeline.core.tables import IMAGE_COLUMNS, read_table, write_table
from pipeline.prepare import store
from pipeline.prepare.config import ImagesConfig
from pipeline.prepare.decode import CLIPPED, MADE_GREY, decode
from pipeline.prepare.opened import SEVERAL_FRAMES
from pipeline.prepare.stage import run

SIZE_PX = 16
GENERATOR = np.random.default_rng(5)


def make_config(**changes: Any) -> ImagesConfig:
    return prepare_config(**({"size_px": SIZE_PX, "max_side_px": 100} | changes))


def encode(pixels: np.ndarray, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()


def draw(height: int = 20, width: int = 30) -> np.ndarray:
    return GENERATOR.integers(0, 250, (height, width, 3), dtype=np.uint8)


def write_raw(
    train: dict[str, bytes | None],
    test: dict[str, bytes],
    labels: str | None = None,
    groups: str | None = None,
) -> None:
    """Ids are the keys; None is an image that is missing. Labels and groups: one letter an id."""
    paths.RAW.mkdir(parents=True, exist_ok=True)
    for name, images in (("train", train), ("test", test)):
        with zipfile.ZipFile(paths.RAW / f"{name}.zip", "w") as archive:
            for image_id, encoded in images.items():
                if encoded is not None:
                    archive.writestr(f"{name}/{image_id}.png", encoded)
    labels = labels or ("01" * len(train))[: len(train)]
    groups = groups or "".join(chr(ord("A") + place) for place in range(len(train)))
    write_csv("labels.csv", "label", dict(zip(train, labels, strict=True)))
    write_csv("groups.csv", "patient", dict(zip(train, groups, strict=True)))
    shown = "0" if set(labels) <= set("01") else labels[0]
    write_csv("sample_submission.csv", "label", dict.fromkeys(test, shown))


def write_csv(name: str, column: str, values: dict[str, str]) -> None:
    lines = [f"id,{column}", *(f"{key},{value}" for key, value in values.items())]
    (paths.RAW / name).write_text("\n".join(lines) + "\n")


def clean_train() -> dict[str, bytes | None]:
    return {f"a{number}": encode(draw()) for number in range(6)}


def clean_test() -> dict[str, bytes]:
    return {f"t{number}": encode(draw()) for number in (2, 0, 1)}


def read_audit() -> Audit:
    return read_record(paths.AUDIT, Audit, "prepare")


def message_of(config: ImagesConfig) -> str:
    with pytest.raises(ImageError) as caught:
        run(config, "accuracy")
    assert not paths.STORE.exists()
    assert [path.name for path in paths.STORE.parent.iterdir()] == ["raw"]
    return str(caught.value)


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


BAD = {
    "zero bytes": b"",
    "no image (expected one of BMP, DICOM, GIF, JPEG, NPY, PNG, TIFF, WEBP)": b"not an image",
    "JPEG cut short: no end marker": encode(draw(), "JPEG")[:-100],
    "PNG cut short: no end marker": encode(draw())[:-100],
    "a side above 100 px (prepare.max_side_px)": encode(draw(101, 5)),
    "a side below 2 px": encode(draw(1, 5)),
    "not in the archive": None,
}


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_each_row_is_the_image_of_its_id(fit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "cores", lambda: 4)
    train = {f"a{number}": encode(draw()) for number in range(60)}
    write_raw(dict(sorted(train.items(), reverse=True)), test := clean_test(), groups="AB" * 30)
    run(make_config(fit=fit), "accuracy")
    for images, table, files in (
        (paths.TRAIN_IMAGES, paths.TRAIN_TABLE, train),
        (paths.TEST_IMAGES, paths.TEST_TABLE, test),
    ):
        rows = read_table(table, IMAGE_COLUMNS)
        array = np.load(images)
        assert array.shape == (len(files), SIZE_PX, SIZE_PX, 3)
        assert array.dtype == np.uint8
        for image_id, pixels in zip(rows["image_id"], array, strict=True):
            assert np.array_equal(
                pixels,
                decode(
                    files[image_id],
                    ImageDecoding(size_px=SIZE_PX, channels=3, fit=fit, black_white=None),
                    100,
                ).pixels,
            )


def test_the_store_holds_the_competition_in_its_order() -> None:
    write_raw(clean_train(), clean_test(), labels="010011", groups="AABBCC")
    sample = paths.RAW / "sample_submission.csv"
    sample.write_bytes(sample.read_bytes().replace(b"\n", b"\r\n"))
    run(make_config(), "accuracy")
    train = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    assert train["image_id"].tolist() == [f"a{number}" for number in range(6)]
    assert "".join(train["label"]) == "010011"
    assert "".join(train["group"]) == "AABBCC"
    assert train["duplicate"].tolist() == train["image_id"].tolist()
    assert train["file"][3] == "train.zip/train/a3.png"
    originals = set(zip(train["width"], train["height"], train["mode"], strict=True))
    assert originals == {("30", "20", "RGB")}
    test = read_table(paths.TEST_TABLE, IMAGE_COLUMNS)
    assert test["image_id"].tolist() == ["t2", "t0", "t1"]
    assert set(test["label"]) == set(test["group"]) == {""}
    assert paths.SAMPLE_SUBMISSION.read_bytes() == sample.read_bytes().replace(b"\r\n", b"\n")
    assert json.loads(paths.COMPETITION.read_text()) == {
        "id_column": "id", "label_column": "label",
        "task": {"kind": "one_of", "classes": ["0", "1"], "ordered": True},
    }  # fmt: skip


def test_the_same_input_gives_the_same_bytes_in_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    same = encode(draw())
    write_raw(clean_train() | {"b": same, "c": same}, clean_test())
    written = []
    for threads in (1, 4):
        monkeypatch.setattr(store, "cores", lambda threads=threads: threads)
        run(make_config(), "accuracy")
        files = [*paths.STORE.iterdir(), paths.AUDIT]
        written.append({path.name: path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert sorted(written[0]) == [
        "audit.json", "competition.json", "decoding.json", "sample_submission.csv",
        "test.csv", "test.npy", "train.csv", "train.npy",
    ]  # fmt: skip


def test_all_unreadable_images_are_listed_at_once_with_their_reasons() -> None:
    bad = {f"b{number}": encoded for number, encoded in enumerate(BAD.values())}
    write_raw(clean_train() | bad | {"c": b""}, clean_test())
    message = message_of(make_config())
    assert message.startswith("data/raw/train.zip: 8 of 14 images cannot be read: 2 × zero bytes ")
    assert "2 × zero bytes (first: b0, c); 1 × no image" in message
    for number, reason in list(enumerate(BAD))[1:]:
        assert f"1 × {reason} (first: b{number})" in message
    assert message.endswith(
        "Get the archive from its source again, or leave them out: prepare.unreadable: exclude"
    )


def test_excluded_images_leave_no_gap_and_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    good = clean_train()
    bad = {f"b{number}": encoded for number, encoded in enumerate(BAD.values())}
    mixed = dict(sorted((good | bad).items(), key=lambda item: item[0][1] + item[0][0]))
    write_raw(mixed, clean_test())
    run(make_config(unreadable="exclude"), "accuracy")
    table = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    assert table["image_id"].tolist() == list(good)
    array = np.load(paths.TRAIN_IMAGES)
    for pixels, encoded in zip(array, good.values(), strict=True):
        assert encoded is not None
        assert np.array_equal(
            pixels,
            decode(
                encoded,
                ImageDecoding(size_px=SIZE_PX, channels=3, fit="stretch", black_white=None),
                100,
            ).pixels,
        )
    assert paths.TRAIN_IMAGES.stat().st_size == 128 + array.nbytes
    excluded = [(f"b{n}", reason) for n, reason in enumerate(BAD)]
    assert [(image.image_id, image.reason) for image in read_audit().excluded] == excluded
    told = capfd.readouterr().err
    assert "left out of train: 7 of 13 images cannot be read: 1 × zero bytes (first: b0); " in told


@pytest.mark.parametrize("unreadable", ["stop", "exclude"])
@pytest.mark.parametrize("reason", ["zero bytes", "JPEG cut short: no end marker"])
def test_an_unreadable_test_image_always_stops(unreadable: str, reason: str) -> None:
    write_raw(clean_train() | {"b": b""}, clean_test() | {"bad": BAD[reason] or b""})
    lines = message_of(make_config(unreadable=unreadable)).splitlines()
    assert lines[-1] == (
        f"data/raw/test.zip: 1 of 4 images cannot be read: 1 × {reason} (first: bad). A test image "
        "can never be left out, since a submission needs its row. Get the archive from its "
        "source again"
    )
    assert len(lines) == (2 if unreadable == "stop" else 1)


def test_excluding_every_image_stops() -> None:
    write_raw(dict.fromkeys(["a", "b"], b""), clean_test())
    assert message_of(make_config(unreadable="exclude")) == (
        "data/raw/train.zip: 2 of 2 images cannot be read: 2 × zero bytes (first: a, b). "
        "Get the archive from its source again"
    )


def test_an_older_store_survives_a_failure() -> None:
    write_raw(clean_train(), clean_test())
    run(make_config(), "accuracy")
    before = {path.name: path.read_bytes() for path in paths.STORE.iterdir()}
    write_raw(clean_train() | {"b": b""}, clean_test())
    with pytest.raises(ImageError):
        run(make_config(), "accuracy")
    assert {path.name: path.read_bytes() for path in paths.STORE.iterdir()} == before


def test_a_damaged_archive_stops_even_where_images_may_be_excluded() -> None:
    write_raw(clean_train(), clean_test())
    archive = paths.RAW / "train.zip"
    damaged = bytearray(archive.read_bytes())
    damaged[damaged.find(b"a3.png") + 200] ^= 255
    archive.write_bytes(damaged)
    with pytest.raises(ArchiveError, match=re.escape("expected train/a3.png whole")):
        run(make_config(unreadable="exclude"), "accuracy")
    assert not paths.STORE.exists()


def test_a_table_whose_rows_are_not_those_of_its_array_never_appears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_raw(clean_train(), clean_test())
    monkeypatch.setattr(
        "pipeline.prepare.stage.write_table", lambda path, table: write_table(path, table[::-1])
    )
    with pytest.raises(TableError) as caught:
        run(make_config(), "accuracy")
    assert str(caught.value) == (
        "data/store/train.csv: expected the ids in the competition's order, found otherwise"
    )
    assert not paths.STORE.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_an_error_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    write_raw(clean_train(), clean_test())
    monkeypatch.setattr(paths, "TRAIN_IMAGES", SimpleNamespace(name="/dev/full"))
    with pytest.raises(DiskError, match="data/store: cannot be written: no space left"):
        run(make_config(), "accuracy")
    assert not paths.STORE.exists()


def test_memory_does_not_grow_with_the_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    monkeypatch.setattr(store, "cores", lambda: 2)
    ahead = []
    for taken, _ in enumerate(store.in_order(decoded.append, range(500)), start=1):
        ahead.append(len(decoded) - taken)
    assert (len(ahead), len(decoded)) == (500, 500)
    assert max(ahead) <= 8


def clusters_after(
    train: dict[str, bytes | None], test: dict[str, bytes], **raw: Any
) -> list[Cluster]:
    write_raw(train, test, **raw)
    run(make_config(), "accuracy")
    return read_audit().clusters


def flags(cluster: Cluster) -> tuple[bool, bool]:
    return cluster.conflicting_labels, cluster.spans_groups


def test_equal_files_are_one_cluster_of_train_or_of_test() -> None:
    one, other = encode(draw()), encode(draw())
    train, test = clean_train() | {"b": one, "c": one}, clean_test() | {"u": other, "v": other}
    in_train, in_test = clusters_after(train, test, groups="ABCDEFXX")
    assert in_train == Cluster(
        image_ids=["b", "c"], kind="file", where="train", labels=["0", "1"], groups=["X"]
    )
    assert (in_test.image_ids, in_test.where) == (["u", "v"], "test")
    assert (flags(in_train), flags(in_test)) == ((True, False), (False, False))


def test_a_duplicate_in_another_group_or_in_test_is_flagged(
    capfd: pytest.CaptureFixture[str],
) -> None:
    same = draw()
    train = clean_train() | {"b": encode(same), "c": encode(same, "BMP")}
    (cluster,) = clusters_after(train, clean_test() | {"u": encode(same)}, labels="01010111")
    assert cluster == Cluster(
        image_ids=["b", "c", "u"], kind="pixels", where="both", labels=["1"], groups=["G", "H"]
    )
    assert flags(cluster) == (False, True)
    assert read_table(paths.TEST_TABLE, IMAGE_COLUMNS)["duplicate"].tolist()[-1] == "b"
    assert read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)["duplicate"].tolist()[-2:] == ["b", "b"]
    assert (
        "8 training and 4 test images; clusters of duplicates: 1 (largest: 3 images, across train "
        "and test: 1, across groups: 1, with conflicting labels: 0), in data/audit.json\n"
    ) in capfd.readouterr().err


def test_near_duplicates_count_up_to_the_configured_difference() -> None:
    image = draw(SIZE_PX, SIZE_PX)
    train = clean_train() | {"b": encode(image), "c": encode(image + 1), "d": encode(image + 3)}
    (cluster,) = clusters_after(train, clean_test())
    assert (cluster.image_ids, cluster.kind) == (["b", "c"], "near")
    run(make_config(near_duplicate=0.0), "accuracy")
    assert read_audit().clusters == []
    run(make_config(near_duplicate=2.0), "accuracy")
    assert read_audit().clusters[0].image_ids == ["b", "c", "d"]


def test_the_audit_counts_what_is_there() -> None:
    train = clean_train() | {
        "g": encode(draw(40, 50)[..., 0]),
        "same": encode(same := draw()),
        "again": encode(same),
    }
    write_raw(train, clean_test(), labels="011111101", groups="AABBCCDDD")
    with zipfile.ZipFile(paths.RAW / "train.zip", "a") as archive:
        archive.writestr("train/readme.txt", "")
    run(make_config(), "accuracy")
    audit = read_audit()
    assert audit.train == SplitAudit(
        rows=9,
        classes={"0": 2, "1": 7},
        groups=4,
        width=SizeRange(min=30, median=30, max=50),
        height=SizeRange(min=20, median=20, max=40),
        modes={"L": 1, "RGB": 8},
        notes={},
        other_files=["train.zip/train/readme.txt"],
    )
    assert (audit.test.rows, audit.test.classes, audit.test.groups) == (3, {}, 0)
    assert audit.duplicates == DuplicateCounts(
        clusters=1, images=2, largest=2,
        kind={"file": 1, "pixels": 0, "near": 0},
        where={"train": 1, "test": 0, "both": 0},
        conflicting_labels=1, spans_groups=0,
    )  # fmt: skip


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def encode_16(pixels: np.ndarray) -> bytes:
    return encode(pixels.astype(np.uint16))


def test_12_bit_images_in_16_bits_are_scaled_by_what_train_uses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    greys = {name: draw()[..., 0].astype(np.uint16) * 16 for name in ("a0", "a1", "a2", "t0", "t1")}
    greys["a1"][0, 0] = 4095
    greys["t1"][0, 0] = 4096
    encoded = {name: encode_16(grey) for name, grey in greys.items()}
    train = {name: encoded[name] for name in ("a0", "a1", "a2")}
    write_raw(train, {name: encoded[name] for name in ("t0", "t1")})
    run(make_config(size_px=20), "accuracy")
    expected = decode(
        encode((greys["a0"] // 16).astype(np.uint8)),
        ImageDecoding(size_px=20, channels=1, fit="stretch", black_white=None),
        100,
    )
    assert np.array_equal(np.load(paths.TRAIN_IMAGES)[0], expected.pixels)
    assert read_decoding(paths.DECODING).black_white == (0, 4095)
    audit = read_audit()
    assert not audit.duplicates.clusters
    assert (audit.train.notes, audit.test.notes) == ({}, {CLIPPED: 1})
    said = capsys.readouterr().err
    sentence = (
        "the largest value of 3 training images with more than 8 bits is 4095: 12 bits are used, "
        "white is 4095"
    )
    assert audit.found_range == FoundRange(black=0, white=4095, images=3, sentence=sentence)
    assert sentence in said
    assert "test: 1 of 2 images: values beyond black and white, clipped" in said

    run(make_config(bits=16), "accuracy")
    assert np.load(paths.TRAIN_IMAGES).max() < 16
    assert read_decoding(paths.DECODING).black_white == (0, 65535)
    assert read_audit().found_range is None


def grey_rgb() -> np.ndarray:
    return np.repeat(draw()[..., :1], 3, axis=2)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_grey_images_are_stored_in_one_channel_and_nothing_else_changes(
    capsys: pytest.CaptureFixture[str], fit: str
) -> None:
    """In files of one channel and of three; one is conflicting and left out, one doubled."""
    greys = [grey_rgb() for _ in range(5)]
    train = {f"a{row}": encode(grey) for row, grey in enumerate(greys)}
    train |= {"a5": encode(greys[0]), "a6": encode(greys[1] + 1)}
    write_raw(train, {"t0": encode(greys[2][..., 0]), "t1": encode(grey_rgb())}, "0101011")
    tables, clusters = {}, {}
    for channels in (3, "auto"):
        run(make_config(channels=channels, conflicts="exclude", fit=fit), "accuracy")
        tables[channels] = [read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS).to_csv()]
        tables[channels] += [read_table(paths.TEST_TABLE, IMAGE_COLUMNS).to_csv()]
        clusters[channels] = read_audit().clusters
        if channels == 3:
            assert read_audit().found_channels is None
            colour = [np.load(paths.TRAIN_IMAGES), np.load(paths.TEST_IMAGES)]
    assert tables[3] == tables["auto"]
    assert clusters[3] == clusters["auto"] != []
    decoding = read_decoding(paths.DECODING)
    assert decoding == ImageDecoding(size_px=SIZE_PX, channels=1, fit=fit, black_white=None)
    for path, rgb in zip((paths.TRAIN_IMAGES, paths.TEST_IMAGES), colour, strict=True):
        assert np.array_equal(np.load(path), rgb[..., :1])
        assert np.load(path).shape == (len(rgb), *decoding.shape)
    assert np.array_equal(decode(train["a2"], decoding, 100).pixels, np.load(paths.TRAIN_IMAGES)[1])
    sentence = "channels: 1: all 9 images, of train and test, are grey"
    assert read_audit().found_channels == FoundChannels(channels=1, colour=0, sentence=sentence)
    assert sentence in capsys.readouterr().err


def test_one_image_with_colour_in_test_keeps_three_channels_for_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shade = grey_rgb()
    shade[3:9, 3:9, 2] += 1
    write_raw({f"a{row}": encode(grey_rgb()) for row in range(4)}, {"t0": encode(shade)})
    run(make_config(), "accuracy")
    assert np.load(paths.TRAIN_IMAGES).shape == (4, SIZE_PX, SIZE_PX, 3)
    assert "channels: 3: 1 of 5 images with colour (first: t0)" in capsys.readouterr().err
    assert read_audit().found_channels.colour == 1


def test_colour_is_made_grey_where_one_channel_is_asked_for_and_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    grey, colour = grey_rgb(), draw()
    write_raw({"a0": encode(grey), "a1": encode(colour), "a2": encode(draw())}, clean_test())
    run(make_config(channels=1), "accuracy")
    stored = np.load(paths.TRAIN_IMAGES)
    in_colour = ImageDecoding(size_px=SIZE_PX, channels=3, fit="stretch", black_white=None)
    rgb = [decode(encode(each), in_colour, 100).pixels for each in (grey, colour)]
    assert np.array_equal(stored[0], rgb[0][..., :1])
    assert np.abs(stored[1, ..., 0] - rgb[1] @ [0.299, 0.587, 0.114]).max() <= 0.51
    assert read_audit().train.notes == {MADE_GREY: 2}
    assert "train: 2 of 3 images: colour, made grey" in capsys.readouterr().err


def test_images_of_8_bits_have_no_range_and_those_of_all_16_need_no_parameter() -> None:
    write_raw(clean_train(), clean_test())
    run(make_config(), "accuracy")
    assert read_decoding(paths.DECODING).black_white is None
    assert read_audit().found_range is None
    train = {f"a{number}": encode_16(draw()[..., 0].astype(np.uint16) * 257) for number in range(4)}
    write_raw(dict(train), clean_test())
    run(make_config(), "accuracy")
    assert np.load(paths.TRAIN_IMAGES).max() > 200


def test_a_folder_of_everything_is_one_store_in_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Arrays, 16-bit and 8-bit pictures, several pages, and one of no use that is left out."""
    grey = draw()[..., 0].astype(np.int64) * 16
    broken = grey.astype(np.float32)
    broken[3, 3] = np.nan
    train = {
        "a0": npy(grey), "a1": encode_16(grey), "a2": encode(draw()), "a3": npy(broken),
        "a4": npy(np.stack([grey + channel for channel in range(6)])),
        "a5": encode(draw(), "TIFF", save_all=True, append_images=[Pillow.fromarray(draw())]),
    }  # fmt: skip
    write_raw(dict(train), {"t0": npy(grey)})
    stores = []
    for threads in (1, 4):
        monkeypatch.setattr("pipeline.prepare.store.cores", lambda count=threads: count)
        run(make_config(unreadable="exclude", max_side_px=200), "accuracy")
        stores.append([path.read_bytes() for path in sorted(paths.STORE.iterdir())])
    assert stores[0] == stores[1]
    audit = read_audit()
    assert [(image.image_id, image.reason) for image in audit.excluded] == [
        ("a3", "values that are no numbers (NaN, or infinite)")
    ]
    assert audit.train.notes == {"6 channels, laid one below the other": 1, SEVERAL_FRAMES: 1}
    assert audit.train.modes == {"I;16": 1, "RGB": 2, "int64 1": 1, "int64 6": 1}
    images = np.load(paths.TRAIN_IMAGES)
    assert np.array_equal(images[0], images[1])
    assert np.array_equal(images[0], np.load(paths.TEST_IMAGES)[0])


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        ("roc_auc", "since data/raw/sample_submission.csv asks for the probability of one of them"),
        (
            "log_loss",
            "since data/raw/sample_submission.csv asks for the probability of one of them",
        ),
        ("f1", "since the metric f1 depends on it"),
        ("quadratic_kappa", "since the metric quadratic_kappa depends on it"),
    ],
)
def test_words_stop_where_their_order_counts_before_anything_is_decoded(
    metric: str, reason: str
) -> None:
    write_raw(clean_train(), clean_test(), labels="cncncn")
    with pytest.raises(SubmissionError) as caught:
        run(make_config(), metric)
    assert str(caught.value) == (
        f"params.yaml: prepare.classes: expected the classes in their order, {reason}; found words, "
        "whose order nothing says: c, n. Set prepare.classes to [c, n] or to another order, of two "
        "classes the positive one last"
    )
    assert not paths.STORE.exists()
    run(make_config(classes=["n", "c"]), metric)
    assert read_competition(paths.COMPETITION).task == one_of(["n", "c"], ordered=True)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_words_need_no_order_where_it_does_not_count(metric: str) -> None:
    write_raw(clean_train(), clean_test(), labels="cncncn")
    run(make_config(), metric)
    assert read_competition(paths.COMPETITION).task == one_of(["c", "n"])


def test_a_metric_that_does_not_fit_the_sample_submission_stops_before_training() -> None:
    write_raw(clean_train(), clean_test(), labels="012012")
    with pytest.raises(EnsembleError, match="roc_auc is for two classes, found 3"):
        run(make_config(), "roc_auc")
