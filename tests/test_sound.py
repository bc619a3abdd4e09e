"""Files of sound, and signals that are not all of one length, from the files to the store."""

import io
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import soundfile
from kaggle_server import zip_of
from pictures import fill, png
from project import make_project, prepare_config, run, stage
from scipy.signal import resample_poly
from solving import reproduce
from sounds import (
    FORMATS,
    LENGTH,
    PITCHES_HZ,
    RATE_HZ,
    TESTS,
    TRAIN,
    encode,
    labels,
    sound_config,
    tone,
    write,
)

from pipeline.commands import new
from pipeline.core import paths
from pipeline.core.audit import Audit
from pipeline.core.competition import (
    SignalDecoding,
    read_competition,
    read_decoding,
    write_decoding,
)
from pipeline.core.errors import ImageError, PipelineError
from pipeline.core.record import read_record
from pipeline.core.tables import IMAGE_COLUMNS, read_csv, read_table
from pipeline.core.task import SEPARATOR
from pipeline.params import read_config
from pipeline.predict.images import decode_batches, open_rows
from pipeline.prepare.config import SignalsConfig
from pipeline.prepare.mp3_files import frame_bytes
from pipeline.prepare.signal_files import SignalDecoder, read_signal
from pipeline.prepare.stage import run as prepare


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(**changes: Any) -> str:
    with pytest.raises(PipelineError) as caught:
        prepare(sound_config(**changes), "accuracy")
    assert not paths.STORE.exists()
    return str(caught.value)


def audit() -> Audit:
    return read_record(paths.AUDIT, Audit, "prepare")


# One file


@pytest.mark.parametrize(
    ("form", "coding", "step"),
    [
        ("WAV", "PCM_16", 2**15), ("WAV", "PCM_U8", 2**7), ("WAV", "PCM_24", 2**23),
        ("WAV", "FLOAT", None), ("WAVEX", "PCM_16", 2**15), ("FLAC", "PCM_16", 2**15),
        ("FLAC", "PCM_24", 2**23), ("AIFF", "PCM_16", 2**15), ("AIFF", "PCM_24", 2**23),
    ],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2])
def test_the_samples_of_a_file_without_loss_are_stored_exactly(
    form: str, coding: str, step: int | None, channels: int
) -> None:
    samples = np.random.default_rng(1).uniform(-0.9, 0.9, (301, channels))  # an odd number of bytes
    if step:
        samples = np.round(samples * step) / step
    soundfile.write(file := io.BytesIO(), samples, 11025, format=form, subtype=coding)
    found = read_signal(file.getvalue())
    assert np.array_equal(found.pixels, samples.astype(np.float32))
    assert (found.width, found.height, found.rate_hz) == (301, channels, 11025)
    assert found.mode == f"{coding} 11025 Hz"


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_the_samples_of_a_file_with_loss_are_nearly_those_that_were_written(suffix: str) -> None:
    samples = tone("low", 1, 20_000, 16_000)
    found = read_signal(encode(samples, suffix, 16_000))
    assert found.rate_hz == 16_000
    assert found.pixels.shape == (20_000, 1)
    assert np.corrcoef(found.pixels[:, 0], samples)[0, 1] > 0.98


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_is_cut_anywhere_is_unreadable_and_never_shorter(suffix: str) -> None:
    """But for an MP3 that does not say its length, of which nothing shows the end."""
    samples = tone("low", 1, 30_000, 16_000)
    whole = encode(samples, suffix, 16_000)
    for place in (*range(1, 60), *np.linspace(60, len(whole) - 1, 60).astype(int)):
        with pytest.raises(ImageError) as caught:
            read_signal(whole[:place])
        if place >= 12:
            assert str(caught.value).startswith(FORMATS[suffix][0])


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate_hz", [8000, 24_000, 44_100])  # MPEG 2.5, 2 and 1
def test_all_of_an_mp3_that_does_not_say_its_length_is_read(
    rate_hz: int, mode: str, channels: int
) -> None:
    """libsndfile alone would estimate it: a third of one whose second half is quiet."""
    rng, count = np.random.default_rng(1), 2 * rate_hz
    loud = np.where(np.arange(count) < rate_hz, 0.5, 0.001)[:, None]
    samples = np.clip(rng.normal(0, 0.2, (count, channels)) * loud, -1, 1)
    soundfile.write(
        file := io.BytesIO(), samples, rate_hz, format="MP3", subtype="MPEG_LAYER_III",
        bitrate_mode=mode, compression_level=0.3,
    )  # fmt: skip
    said = file.getvalue()
    second = frame_bytes(said[:4])  # the first frame says it
    tag = b"ID3\x03\x00\x00\x00\x00\x04\x00" + bytes([0xFF, 0xFB]) * 256
    bare = tag + said[second:] + b"TAG" + bytes(125)
    whole, found = read_signal(said).pixels, read_signal(bare).pixels
    assert len(whole) == count
    delay = 576  # of the encoder, which only the first frame says
    assert len(found) >= count + delay
    assert np.abs(found[delay : count + delay] - whole)[1000:].max() < 1e-6
    for cut in (len(bare) // 3, len(bare) - 129):
        with pytest.raises(ImageError, match="^MP3 cut short, or damaged$"):
            read_signal(bare[:cut])
    place = len(tag) + frame_bytes(said[second : second + 4])
    with pytest.raises(ImageError, match="MP3 cut short, or damaged"):
        read_signal(bare[:place] + b"xx" + bare[place + 2 :])


@pytest.mark.parametrize("between", [b"", b"ID3\x03\x00\x00\x00\x00\x00\x00"])
def test_several_mp3s_in_one_file_are_refused_not_read_in_part(between: bytes) -> None:
    whole = encode(tone("low", 1, 20_000, 16_000), "mp3", 16_000)
    bare = whole[frame_bytes(whole[:4]) :]  # without the frame that says how many follow
    assert len(read_signal(bare + bare).pixels) >= 40_000
    for first in (whole, bare) if between else (whole,):
        with pytest.raises(ImageError, match="MP3 of several parts"):
            read_signal(first + between + whole)


def test_all_of_an_mp3_is_read_whose_first_frame_says_none() -> None:
    whole = encode(tone("low", 1, 20_000, 16_000), "mp3", 16_000)
    said = max(whole.find(name, 0, 100) for name in (b"Info", b"Xing")) + 8
    bare = whole[frame_bytes(whole[:4]) :]
    found = read_signal(whole[:said] + bytes(4) + whole[said + 4 :]).pixels
    np.testing.assert_array_equal(found, read_signal(bare).pixels)
    assert len(found) >= 20_000


@pytest.mark.parametrize(
    ("form", "coding"), [("WAV", "GSM610"), ("WAV", "G721_32"), ("AIFF", "GSM610")]
)
def test_the_codings_of_telephones_are_read_whole(form: str, coding: str) -> None:
    samples = tone("low", 1, 8000, 8000)
    soundfile.write(file := io.BytesIO(), samples, 8000, format=form, subtype=coding)
    found = read_signal(file.getvalue()).pixels[:, 0]
    assert len(found) >= 8000
    assert np.corrcoef(found[:8000], samples)[0, 1] > 0.95


def test_the_mean_of_huge_channels_is_no_infinity() -> None:
    samples = np.full((9, 2), 3e38, np.float32)
    soundfile.write(file := io.BytesIO(), samples, 4000, format="WAV", subtype="FLOAT")
    decoding = SignalDecoding(length=9, channels=1, rate_hz=4000, fitted=("channels",))
    found = SignalDecoder(decoding).from_files([file.getvalue()]).pixels
    assert found[:, 0].tolist() == [np.float32(3e38)] * 9


def test_a_single_file_to_predict_is_answered_with_its_folder() -> None:
    place = Path("new/clip.wav")
    place.parent.mkdir()
    place.write_bytes(encode(tone("low", 1)))
    decoding = SignalDecoding(length=LENGTH, channels=1, rate_hz=RATE_HZ)
    with (
        pytest.raises(ImageError, match="found one file. Name the folder that it lies in: new"),
        open_rows(place, decoding, "fname", with_suffix=True),
    ):
        pass


Damage = Callable[[bytes], bytes]


def _says_more(encoded: bytes) -> bytes:
    """A WAV whose header says one sample more."""
    place = encoded.index(b"data") + 4
    (size,) = struct.unpack_from("<I", encoded, place)
    return encoded[:place] + struct.pack("<I", size + 2) + encoded[place + 4 :]


def _other_byte(encoded: bytes) -> bytes:
    middle = len(encoded) * 2 // 3
    return encoded[:middle] + bytes([encoded[middle] ^ 0xFF]) + encoded[middle + 1 :]


def _empty(_: bytes) -> bytes:
    return encode(np.zeros(0))


def _fast(encoded: bytes) -> bytes:
    """A WAV with a rate that no recorder has."""
    return encoded[:24] + struct.pack("<I", 2_000_000_000) + encoded[28:]


@pytest.mark.parametrize(
    ("suffix", "damage", "reason"),
    [
        ("wav", _says_more, "WAV cut short, or damaged: fewer samples than it says"),
        ("wav", lambda _: b"", "zero bytes"),
        ("wav", _empty, "WAV with zero samples"),
        ("wav", _fast, "WAV of 2000000000 Hz, expected at most 1,000,000"),
        ("wav", lambda encoded: encoded.replace(b"data", b"atad"), "WAV cut short, or damaged"),
        ("wav", lambda encoded: encoded.replace(b"WAVE", b"EVAW"), "no sound (WAV, AIFF, FLAC, OGG, MP3), array or table of numbers"),
        ("flac", _other_byte, "FLAC cut short, or damaged"),
        ("ogg", _other_byte, "OGG cut short, or damaged"),
        ("ogg", lambda encoded: encoded * 2, "OGG of several streams"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_unreadable_with_a_reason(
    suffix: str, damage: Damage, reason: str
) -> None:
    whole = encode(tone("low", 1, 30_000, 16_000), suffix, 16_000)
    with pytest.raises(ImageError) as caught:
        read_signal(damage(whole))
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_with_any_other_bytes_becomes_a_row_or_has_a_reason(suffix: str) -> None:
    whole, rng = encode(tone("low", 1, 4000, 16_000), suffix, 16_000), np.random.default_rng(1)
    decoding = SignalDecoding(
        length=900, channels=1, rate_hz=16_000, fitted=("rate", "channels", "length")
    )
    for number in range(60):
        damaged = bytearray(whole)
        for place in rng.integers((200, len(whole))[number % 2], size=2):
            damaged[place] = rng.integers(256)
        try:
            row = SignalDecoder(decoding).from_files([bytes(damaged)]).pixels
        except ImageError:
            continue
        assert row.shape == (900, 1)
        assert np.isfinite(row).all()


def test_a_sample_that_is_no_number_is_refused() -> None:
    samples = np.array([0.0, np.nan, 0.5])
    soundfile.write(file := io.BytesIO(), samples, 8000, format="WAV", subtype="FLOAT")
    with pytest.raises(ImageError, match="missing or NaN"):
        read_signal(file.getvalue())


# A competition


@pytest.mark.parametrize(  # MP3 begins at 8,000 Hz
    ("form", "suffix"),
    [("folders", "wav"), ("table", "wav"), ("table", "flac"), ("table", "ogg"), ("table", "aiff")],
)
def test_sounds_of_one_shape_are_stored_as_they_are(form: str, suffix: str) -> None:
    train, test = write(paths.RAW, form, suffix)
    speaker = {"source": "name", "pattern": "([0-9a-f]+)_nohash"}
    groups = speaker if form == "folders" else {"source": "none"}
    prepare(sound_config(groups=groups), "accuracy")
    decoding = SignalDecoding(length=LENGTH, channels=1, rate_hz=RATE_HZ)
    assert read_decoding(paths.DECODING) == decoding
    assert "fitted" not in paths.DECODING.read_text()
    for array, expected in ((paths.TRAIN_IMAGES, train), (paths.TEST_IMAGES, test)):
        stored = np.load(array)
        assert stored.dtype == np.float32
        assert stored.shape == expected.shape
        if suffix in ("wav", "flac", "aiff"):
            assert np.array_equal(stored, expected)
    table = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    assert sorted(table["label"]) == sorted(labels(TRAIN))
    assert set(table["mode"]) == {f"{FORMATS[suffix][1]} {RATE_HZ} Hz"}
    if form == "folders":
        assert table["image_id"][0] == "high/00000000_nohash_0"
        assert set(table["group"].value_counts()) == {3}
    assert list(read_table(paths.TEST_TABLE, IMAGE_COLUMNS)["image_id"]) == [
        f"clip_{row:04}.{suffix}" for row in range(TESTS)
    ]


def test_sounds_in_zips_are_those_of_a_table_of_file_names() -> None:
    """As Freesound's: audio_train.zip, audio_test.zip, and names with their suffix."""
    train, test = write(Path("files"), "table")
    paths.RAW.mkdir(parents=True)
    for side in ("train", "test"):
        files = {f"audio_{side}/{p.name}": p.read_bytes() for p in Path("files", side).rglob("*.*")}
        (paths.RAW / f"audio_{side}.zip").write_bytes(zip_of(files))
    for name in ("train.csv", "sample_submission.csv"):
        Path("files", name).rename(paths.RAW / name)
    prepare(sound_config(), "map_at_3")
    assert np.array_equal(np.load(paths.TRAIN_IMAGES), train)
    assert np.array_equal(np.load(paths.TEST_IMAGES), test)


def test_a_column_names_the_files_and_tables_in_a_folder_are_no_signals() -> None:
    train, _ = write(Path("files"), "table")
    listed = read_csv(Path("files/train.csv")).rename(columns={"fname": "recording"})
    listed.insert(0, "fname", [f"r{row}" for row in range(TRAIN)])
    for name in ("train.csv", "more.csv"):
        Path("files", name).unlink(missing_ok=True)
        fill(paths.RAW, {f"tables/{name}": b""})
        listed.rename(columns={} if name == "train.csv" else {"label": "other"}).to_csv(
            paths.RAW / "tables" / name, index=False
        )
    for name in ("train", "test", "sample_submission.csv"):
        Path("files", name).rename(paths.RAW / name)
    prepare(sound_config(labels="tables/train.csv"), "accuracy")
    assert np.array_equal(np.load(paths.TRAIN_IMAGES), train)
    assert list(read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)["image_id"][:2]) == ["r0", "r1"]


def test_a_damaged_sound_stops_or_is_left_out_and_never_in_test() -> None:
    train, _ = write(paths.RAW, "table")
    whole = (paths.RAW / "train/audio/a5.wav").read_bytes()
    (paths.RAW / "train/audio/a5.wav").write_bytes(whole[:-2])
    assert (
        "1 of 36 signals cannot be read: 1 × WAV cut short, or damaged: fewer samples than it says "
        "(first: a5.wav)" in refused()
    )
    prepare(sound_config(unreadable="exclude"), "accuracy")
    assert np.array_equal(np.load(paths.TRAIN_IMAGES), np.delete(train, 5, axis=0))
    (paths.RAW / "test/audio/clip_0003.wav").write_bytes(whole[:-2])
    with pytest.raises(ImageError, match="A test signal can never be left out"):
        prepare(sound_config(unreadable="exclude"), "accuracy")


def write_of(*clips: bytes, suffix: str = "wav") -> None:
    """The competition with other files in place of its first training clips."""
    write(paths.RAW, "table")
    table = (paths.RAW / "train.csv").read_text()
    for row, clip in enumerate(clips):
        (paths.RAW / f"train/audio/a{row}.wav").unlink()
        (paths.RAW / f"train/audio/a{row}.{suffix}").write_bytes(clip)
        table = table.replace(f"a{row}.wav", f"a{row}.{suffix}")
    (paths.RAW / "train.csv").write_text(table)


def test_lengths_that_differ_are_an_error_that_says_what_would_fit() -> None:
    write_of(encode(tone("low", 1, 150)), encode(tone("middle", 2, 900)))
    assert refused().endswith(
        "raw: expected signals of one length, found 48 signals of 150 to 900 samples (median 400); "
        "the first that differs is a1.wav (train/audio/a1.wav) with 900 samples of 1 channel, "
        "expected 150 samples of 1 channel. Set prepare.length in params.yaml to the samples that "
        "each shall have, such as 400, which 95% of them do not exceed: longer ones are then cut "
        "to their middle, shorter ones padded with zeros"
    )


def test_longer_signals_are_cut_to_their_middle_and_shorter_ones_padded_at_both_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    short, long = tone("low", 1, 151), tone("middle", 2, 901)
    write_of(encode(short), encode(long))
    prepare(sound_config(length=LENGTH), "accuracy")
    stored = np.load(paths.TRAIN_IMAGES)[..., 0]
    assert np.array_equal(stored[0], np.concatenate([np.zeros(124), short, np.zeros(125)]))
    assert np.array_equal(stored[1], long[250:650])
    decoding = SignalDecoding(length=LENGTH, channels=1, rate_hz=RATE_HZ, fitted=("length",))
    assert read_decoding(paths.DECODING) == decoding
    notes = {
        "shorter than 400 samples, padded with zeros at both ends": 1,
        "longer than 400 samples, cut to the middle": 1,
    }
    assert audit().train.notes == notes
    assert audit().test.notes == {}
    lengths = audit().train.width
    assert (lengths.min, lengths.median, lengths.max) == (151, 400, 901)
    said = capsys.readouterr().err
    for note in notes:
        assert f"train: 1 of 36 signals: {note}\n" in said


def test_files_of_numbers_are_cut_and_padded_too() -> None:
    signals = [np.arange(1, 4 + row, dtype=np.float32) for row in range(TRAIN + TESTS)]
    for row, signal in enumerate(signals):
        place = paths.RAW / ("train" if row < TRAIN else "test")
        place.mkdir(parents=True, exist_ok=True)
        np.save(place / f"s{row}.npy", signal)
    ids = [f"s{row}" for row in range(TRAIN + TESTS)]
    train = pd.DataFrame({"id": ids[:TRAIN], "label": labels(TRAIN)})
    train.to_csv(paths.RAW / "train.csv", index=False)
    sample = pd.DataFrame({"id": ids[TRAIN:], "label": "low"})
    sample.to_csv(paths.RAW / "sample_submission.csv", index=False)
    prepare(sound_config(length=6), "accuracy")
    stored = np.load(paths.TRAIN_IMAGES)[..., 0]
    assert stored[0].tolist() == [0, 1, 2, 3, 0, 0]
    assert stored[3].tolist() == [1, 2, 3, 4, 5, 6]
    assert stored[5].tolist() == [2, 3, 4, 5, 6, 7]
    assert np.load(paths.TEST_IMAGES).shape == (TESTS, 6, 1)
    said = _again(rate_hz=9, length=6)
    assert "signals that say their rate, as sound does, found 48 of no rate" in said


def _again(**changes: Any) -> str:
    with pytest.raises(PipelineError) as caught:
        prepare(sound_config(**changes), "accuracy")
    return str(caught.value)


def test_rates_that_differ_are_an_error_and_resampled_where_the_parameter_says_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fast = tone("low", 1, 1000, 10_000)
    write_of(encode(fast, rate_hz=10_000), encode(tone("middle", 2, 441, 4410), rate_hz=4410))
    message = refused()
    assert (
        "expected signals of one rate, found 46 of 4000 Hz, 1 of 10000 Hz, 1 of 4410 Hz; the first "
        "that differs is a1.wav (train/audio/a1.wav) with 4410 Hz, expected 10000 Hz. Set "
        "prepare.rate_hz in params.yaml to the rate that all shall have, such as 4000" in message
    )
    prepare(sound_config(rate_hz=RATE_HZ), "accuracy")
    stored = np.load(paths.TRAIN_IMAGES)
    expected = resample_poly(fast.astype(np.float32)[:, None], 2, 5, axis=0)
    assert np.array_equal(stored[0], expected)
    assert np.corrcoef(stored[0, 50:350, 0], _at(fast, 10_000)[50:350])[0, 1] > 0.9
    assert stored.shape == (TRAIN, LENGTH, 1)
    assert audit().train.notes == {"resampled to 4000 Hz": 2}
    assert "train: 2 of 36 signals: resampled to 4000 Hz\n" in capsys.readouterr().err
    decoding = read_decoding(paths.DECODING)
    assert decoding == SignalDecoding(length=LENGTH, channels=1, rate_hz=RATE_HZ, fitted=("rate",))


def _at(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Samples at RATE_HZ, by drawing straight lines between them."""
    time = np.arange(len(samples)) / rate_hz
    return np.interp(np.arange(LENGTH) / RATE_HZ, time, samples)


def test_arrays_among_sounds_have_no_rate_and_are_refused() -> None:
    np.save(file := io.BytesIO(), tone("low", 1))
    write_of(file.getvalue(), suffix="npy")
    message = refused()
    assert "found 47 of 4000 Hz, 1 of no rate; the first that differs is a1.wav" in message
    assert message.endswith(
        "Write those that say no rate as files of sound, as WAV, or all as .npy"
    )
    assert "that say their rate, as sound does, found 47 of" in refused(rate_hz=RATE_HZ)


def test_stereo_among_mono_is_an_error_or_its_mean_is_stored() -> None:
    left, right = tone("low", 1), tone("low", 2)
    write_of(encode(np.stack([left, right], axis=1)))
    message = refused()
    assert "signals of as many channels each, found 47 of 1 channel, 1 of 2 channels" in message
    assert "Set prepare.channels in params.yaml to 1" in message
    prepare(sound_config(channels=1), "accuracy")
    assert np.array_equal(np.load(paths.TRAIN_IMAGES)[0, :, 0], (left + right) / 2)
    assert audit().train.notes == {"several channels, of which the mean is stored": 1}


def test_a_length_that_tells_the_classes_apart_is_flagged_as_one() -> None:
    write_of(
        *(encode(tone(label, row, 300 + 50 * (row % 3))) for row, label in enumerate(labels(TRAIN)))
    )
    prepare(sound_config(length=LENGTH), "accuracy")
    (check,) = (each for each in audit().leaks.checks if each.name == "width")
    assert check.flagged
    assert check.sentence.startswith("The length of the original predicts the label with AUC 1.00")
    assert "a network sees where a padded signal ends" in check.sentence


@pytest.mark.parametrize(
    "values",
    [{"rate_hz": 0}, {"rate_hz": 1.5}, {"length": True}, {"length": "all"}, {"channels": 2}],
)
def test_values_that_are_none_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))}"):
        sound_config(**values)


# New signals


def mixed() -> dict[str, bytes]:
    """Clips of several lengths, rates, channels and formats, all of which one decoding fits."""
    return {
        "a.wav": encode(tone("low", 1, 333)),
        "b.flac": encode(tone("low", 2, 777), "flac"),
        "c.aiff": encode(np.stack([tone("low", 3), tone("high", 4)], axis=1), "aiff"),
        "d.ogg": encode(tone("low", 5, 8000, 8000), "ogg", 8000),
        "e.mp3": encode(tone("low", 6, 8000, 8000), "mp3", 8000),
    }


FITTED = {"rate_hz": RATE_HZ, "channels": 1, "length": LENGTH}


@pytest.mark.parametrize("packed", [False, True])
def test_new_sounds_become_the_rows_of_the_store_bit_by_bit(packed: bool) -> None:
    """`predict` asks the decoding alone, which a weights file has, and never params.yaml."""
    write(paths.RAW, "table")
    for row, (name, clip) in enumerate(mixed().items()):
        path = paths.RAW / f"train/audio/a{row}.wav"
        path.unlink()
        path.with_suffix(Path(name).suffix).write_bytes(clip)
    table = read_csv(paths.RAW / "train.csv")
    table["fname"] = table["fname"].str.removesuffix(".wav")
    table.to_csv(paths.RAW / "train.csv", index=False)
    prepare(sound_config(**FITTED), "accuracy")
    decoding = read_decoding(paths.DECODING)
    assert isinstance(decoding, SignalDecoding)
    assert decoding.fitted == ("rate", "channels", "length")
    files = mixed() | {"labels.csv": b"a,low\nb,low\n"}
    if packed:
        Path("new.zip").write_bytes(zip_of(files))
    else:
        fill(Path("new"), files)
    with open_rows(Path("new.zip" if packed else "new"), decoding, "id", False) as opened:
        (batch,) = decode_batches(
            opened.files, opened.pictures, opened.image_ids, SignalDecoder(decoding), 9
        )
    assert batch.image_ids == ["a", "b", "c", "d", "e"]
    assert opened.ignored == ["labels.csv"]
    assert np.array_equal(batch.pixels, np.load(paths.TRAIN_IMAGES)[:5])
    assert batch.notes.count("resampled to 4000 Hz") == 2


def test_a_new_sound_that_does_not_fit_is_listed_with_the_reason() -> None:
    decoding = SignalDecoding(length=LENGTH, channels=1, rate_hz=RATE_HZ)
    fill(Path("new"), mixed())
    with open_rows(Path("new"), decoding, "id", False) as opened:
        (batch,) = decode_batches(
            opened.files, opened.pictures, opened.image_ids, SignalDecoder(decoding), 9
        )
    assert [(each.file, each.reason) for each in batch.broken] == [
        ("a.wav", "333 samples of 1 channel, expected 400 samples of 1 channel"),
        ("b.flac", "777 samples of 1 channel, expected 400 samples of 1 channel"),
        ("c.aiff", "400 samples of 2 channels, expected 400 samples of 1 channel"),
        ("d.ogg", "8000 Hz, expected 4000 Hz"),
        ("e.mp3", "8000 Hz, expected 4000 Hz"),
    ]
    with pytest.raises(ImageError, match="4000 Hz, expected no rate"):
        SignalDecoder(SignalDecoding(length=LENGTH, channels=1)).from_files(
            [encode(tone("low", 1))]
        )


def test_a_decoding_without_the_new_field_is_read_and_written_as_before() -> None:
    old = '{\n  "rows": {\n    "kind": "signals",\n    "length": 9,\n    "channels": 2,\n    "rate_hz": null\n  }\n}\n'
    Path("decoding.json").write_text(old)
    found = read_decoding(Path("decoding.json"))
    assert found == SignalDecoding(length=9, channels=2)
    write_decoding(Path("again.json"), found)
    assert Path("again.json").read_text() == old


# The command new


def begin(folder: str, metric: str | None = None) -> SignalsConfig:
    with patch.object(new, "reproduce", reproduce):
        new.new(folder, "tiny", metric)
    config = read_config(paths.PARAMS).prepare
    assert isinstance(config, SignalsConfig)
    return config


def test_new_decides_the_rate_the_channels_and_the_length_of_unequal_sounds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(Path("competitions/tones"), "folders")
    place = Path("competitions/tones/train/audio/high")
    (place / "00000000_nohash_0.wav").write_bytes(encode(tone("high", 1, 900)))
    (place / "00000001_nohash_0.wav").write_bytes(encode(tone("high", 2, 150)))
    (place / "00000002_nohash_0.wav").write_bytes(encode(tone("high", 3, 800, 8000), rate_hz=8000))
    stereo = np.stack([tone("high", 4), tone("high", 5)], axis=1)
    (place / "00000003_nohash_0.wav").write_bytes(encode(stereo))
    assert begin("competitions/tones") == sound_config(**FITTED)
    assert np.load(paths.TRAIN_IMAGES).shape == (TRAIN, LENGTH, 1)
    said = " ".join(capsys.readouterr().out.split())
    assert "kind signals what a row is, by its files (prepare.kind)" in said
    assert "files 48 .wav" in said
    assert "rate 4000 Hz the most frequent: 47 of 4000 Hz, 1 of 8000 Hz; others are" in said
    assert "channels 1 47 of 1 channel, 1 of 2 channels: their mean is stored" in said
    assert "length 400 samples 95% of 48 signals of 150 to 900 samples (median 400) are no" in said
    assert "size 400 samples of each stored signal" in said


def test_new_leaves_alike_sounds_as_they_are_and_keeps_to_the_disk(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(Path("competitions/tones"), "table")
    assert begin("competitions/tones") == sound_config()
    assert not list(paths.RAW.rglob("*.wav"))  # they are referred to
    assert "length 400" not in " ".join(capsys.readouterr().out.split())
    longer = Path("competitions/tones/train/audio/a0.wav")
    longer.write_bytes(encode(tone("low", 1, 500)))
    with patch("pipeline.commands.decide.shutil.disk_usage") as usage:
        usage.return_value.free = 48 * 4 * 4 * 100
        assert begin("competitions/tones").length == 100
    said = " ".join(capsys.readouterr().out.split())
    assert "length 100 samples a quarter of the free disk has room for them; 95% of 48" in said


def test_folders_of_sounds_alone_are_a_competition() -> None:
    write(Path("competitions/tones"), "folders")
    Path("competitions/tones/sample_submission.csv").unlink()
    assert begin("competitions/tones") == sound_config(sample_submission="none")
    assert list(read_table(paths.TEST_TABLE, IMAGE_COLUMNS)["image_id"][:2]) == [
        "clip_0000", "clip_0001",
    ]  # fmt: skip


def test_images_beside_sounds_stay_images() -> None:
    write(Path("competitions/tones"), "table")
    for seed, path in enumerate(sorted(Path("competitions/tones").rglob("*.wav"))):
        path.with_suffix(".png").write_bytes(png(seed, (20, 20)))
    table = Path("competitions/tones/train.csv")
    table.write_text(table.read_text().replace(".wav", ".png"))
    sample = Path("competitions/tones/sample_submission.csv")
    sample.write_text(sample.read_text().replace(".wav", ".png"))
    with patch.object(new, "reproduce", reproduce):
        new.new("competitions/tones", "tiny", None)
    assert read_config(paths.PARAMS).prepare.kind == "images"
    assert "audio/a0.wav" in " ".join(audit().train.other_files)


def test_new_reads_lists_of_labels_under_a_column_for_each_in_the_sample() -> None:
    """As in Freesound's competitions."""
    write(Path("competitions/tones"), "table")
    several = [
        f"{label},{label}" if row % 5 else "low,high" for row, label in enumerate(labels(TRAIN))
    ]
    several = [",".join(dict.fromkeys(cell.split(","))) for cell in several]
    names = [f"clip_{row:04}.wav" for row in range(TESTS)]
    table = pd.DataFrame({"fname": [f"a{row}.wav" for row in range(TRAIN)], "labels": several})
    table.to_csv("competitions/tones/train.csv", index=False)
    sample = pd.DataFrame({"fname": names} | dict.fromkeys(PITCHES_HZ, 0))
    sample.to_csv("competitions/tones/sample_submission.csv", index=False)
    begin("competitions/tones", "macro_roc_auc")
    stored = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS).set_index("image_id")["label"]
    assert read_competition(paths.COMPETITION).task.kind == "any_of"
    assert sorted(stored["a0.wav"].split(SEPARATOR)) == ["high", "low"]


def test_new_keeps_a_speakers_sounds_in_one_fold() -> None:
    write(Path("competitions/tones"), "table")
    table = read_csv(Path("competitions/tones/train.csv"))
    table["speaker_id"] = [f"s{row // 3}" for row in range(TRAIN)]
    table.to_csv("competitions/tones/train.csv", index=False)
    assert begin("competitions/tones").groups.model_dump() == {
        "source": "column", "column": "speaker_id"
    }  # fmt: skip


@pytest.mark.parametrize("arrays", [True, False], ids=["an array a signal", "fifty columns"])
def test_new_takes_rows_of_numbers_that_are_no_square_for_signals(arrays: bool) -> None:
    folder, rng = Path("competitions/numbers"), np.random.default_rng(1)
    for split, ids in (("train", range(TRAIN)), ("test", range(TRAIN, TRAIN + TESTS))):
        (folder / split).mkdir(parents=True)
        table = pd.DataFrame({"id": [f"a{row}" for row in ids]})
        values = pd.DataFrame(rng.normal(size=(len(ids), 50)), columns=[f"X{n}" for n in range(50)])
        for name, row in zip(table["id"], values.to_numpy(), strict=True):
            if arrays:
                np.save(folder / split / f"{name}.npy", row)
        if not arrays:
            pd.concat([table, values], axis=1).to_csv(folder / f"{split}_signals.csv", index=False)
        table["label"] = labels(len(ids)) if split == "train" else "low"
        table.to_csv(
            folder / ("train.csv" if split == "train" else "sample_submission.csv"), index=False
        )
    begin("competitions/numbers")
    assert read_decoding(paths.DECODING) == SignalDecoding(length=50, channels=1)


def test_sounds_taken_for_images_are_refused_with_the_parameter_to_set() -> None:
    write(paths.RAW, "table")
    with pytest.raises(PipelineError, match=r"If the rows are sounds: prepare\.kind: signals"):
        prepare(prepare_config(groups={"source": "none"}), "accuracy")


@pytest.mark.slow
def test_a_competition_of_sounds_is_begun_and_solved_by_dvc(tmp_path: Path) -> None:
    """A folder becomes a submission, and new files get its predictions."""
    project = make_project(tmp_path / "project")
    run(project, "git", "commit", "-qam", "before")
    write(tmp_path / "tones", "folders")
    for name, length in (("train/audio/low/00000000_nohash_0", 300), ("test/audio/clip_0003", 500)):
        path = tmp_path / f"tones/{name}.wav"
        path.write_bytes(encode(tone("low", 1, length)))
    done = stage(project, "new", str(tmp_path / "tones"), "--name", "tones")
    assert done.returncode == 0, done.stdout
    params = (project / "params.yaml").read_text()
    assert "length: 400" in params
    params = params.replace("folds: 5", "folds: 2").replace("folds: [0, 1, 2, 3, 4]", "folds: [0]")
    params = re.sub(r"\n      epochs: \d+", "\n      epochs: 8", params)
    (project / "params.yaml").write_text(params)
    done = stage(project, "repro", "ensemble")
    assert done.returncode == 0, done.stdout
    made = read_csv(project / "submissions/tones.csv")
    assert (made["label"] == labels(TESTS)).mean() > 0.9
    done = stage(project, "predict", str(tmp_path / "tones/test"))
    assert done.returncode == 0, done.stdout
    found = read_csv(project / "predictions.csv")
    assert list(found["fname"]) == list(made["fname"])
    assert list(found["label"]) == list(made["label"])
    stored = read_csv(project / "models/convnet1d/fold0/test.csv")  # of the rows of the store
    for name in PITCHES_HZ:
        difference = found[f"p_{name}"].astype(float) - stored[f"p_{name}"].astype(float)
        assert difference.abs().max() < 1e-6
    assert json.loads((project / "data/store/decoding.json").read_text())["rows"]["fitted"] == [
        "length"
    ]
