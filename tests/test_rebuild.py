"""A competition rebuilt from class folders: whole patients, equal images, nothing revealed."""

import hashlib
import io
import random
import shutil
import tempfile
import tracemalloc
import zipfile
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from project import COMPETITIONS, ROOT, needs, prepare_config
from pydantic import TypeAdapter, ValidationError

from pipeline.core import paths
from pipeline.core.errors import CompetitionError
from pipeline.core.tables import IMAGE_COLUMNS, read_table
from pipeline.download.config import DownloadConfig, RebuildSource
from pipeline.download.rebuild import rebuild_competition
from pipeline.params import read_config
from pipeline.prepare import stage as prepare

NATIVE = COMPETITIONS / "malaria-native" / "cells.zip"
FILES = [
    "sample_submission.csv", "solution.csv", "test_data.zip", "train_data.zip", "train_groups.csv",
    "train_labels.csv",
]  # fmt: skip
LABELS = {"Parasitized": "1", "Uninfected": "0"}

GOLDEN = {"solution.csv": "25b50a7c2a11e49a", "train_groups.csv": "66d63eb90a39bdeb"}
"""First digits of SHA-256, of the cells below: from the first run of this code."""

ANOTHER = (
    "Set download.dataset in params.yaml to a dataset in the layout of "
    "iarunava/cell-images-for-detecting-malaria"
)

Members = dict[str, bytes]


RIGHT = {"source": "rebuild", "dataset": "owner/cells", "test_share": 0.2, "seed": 1}


def source(**changes: Any) -> RebuildSource:
    return RebuildSource.model_validate(RIGHT | changes)


def name_of(patient: int, cell: int) -> str:
    return f"C{patient + 39}P{patient}thinF_IMG_20150918_1441{patient:02}_cell_{cell}.png"


def members_of(patients: list[tuple[int, int]]) -> Members:
    """Cells of patients 1, 2, …, so many parasitized and so many healthy of each."""
    members = {}
    for patient, (ill, healthy) in enumerate(patients, start=1):
        for cell in range(ill + healthy):
            folder = "Parasitized" if cell < ill else "Uninfected"
            name = name_of(patient, cell)
            members[f"cell_images/{folder}/{name}"] = f"{name}: bytes".encode()
    return members


def cells() -> Members:
    """268 cells of 30 patients, six of them healthy."""
    draw = random.Random(1)
    ill = [(draw.randint(1, 12), draw.randint(1, 4)) for _ in range(24)]
    return members_of([*ill, *[(0, draw.randint(5, 13)) for _ in range(6)]])


def write_zip(path: Path, members: Members, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@dataclass(frozen=True)
class Rebuilt:
    """A rebuilt competition on disk."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / ("hidden" if name == "solution.csv" else "raw") / name

    def rows(self, name: str, *columns: str) -> list[tuple[str, ...]]:
        """The rows of a table with exactly these columns."""
        table = read_table(self.path(f"{name}.csv"), list(columns))
        return list(table.itertuples(index=False, name=None))

    def solution(self) -> list[tuple[str, ...]]:
        return self.rows("solution", "id", "label", "Usage")

    def train_labels(self) -> list[str]:
        return [label for _, label in self.rows("train_labels", "id", "label")]

    def groups(self) -> list[tuple[str, ...]]:
        return self.rows("train_groups", "id", "patient")

    def images(self, split: str) -> dict[str, bytes]:
        """The images by id."""
        with zipfile.ZipFile(self.path(f"{split}_data.zip")) as archive:
            names = {Path(name).stem: name for name in archive.namelist()}
            assert list(names.values()) == [f"{split}_data/{name}.png" for name in names]
            return {image_id: archive.read(name) for image_id, name in names.items()}

    def labels(self) -> dict[str, str]:
        """The label of each id of train and test."""
        test = {image_id: label for image_id, label, _ in self.solution()}
        return test | dict(self.rows("train_labels", "id", "label"))

    def origins(self, members: Members) -> dict[str, str]:
        """The member of the dataset's zip that each id's image is; all contents differ."""
        names = {content: name for name, content in members.items()}
        images = self.images("train") | self.images("test")
        return {image_id: names[content] for image_id, content in images.items()}

    def patients(self, members: Members) -> dict[str, set[str]]:
        """The patients in train and in test, by the number in the file names."""
        found: dict[str, set[str]] = {"train": set(), "test": set()}
        for image_id, member in self.origins(members).items():
            found[image_id.split("_")[0]].add(number_of(member))
        return found

    def hashes(self) -> dict[str, str]:
        return {n: hashlib.sha256(self.path(n).read_bytes()).hexdigest() for n in FILES}


def number_of(member: str) -> str:
    """The patient's number, found in another way than the code does."""
    digits = Path(member).name[1:]
    return digits[: next(i for i, letter in enumerate(digits) if not letter.isdigit())].lstrip("0")


def rebuild(folder: Path, archive: Path, **changes: Any) -> Rebuilt:
    for name in ("raw", "hidden"):
        (folder / name).mkdir(parents=True)
    rebuild_competition(archive, source(**changes), folder / "raw", folder / "hidden")
    return Rebuilt(folder)


def rebuild_members(folder: Path, members: Members, **changes: Any) -> Rebuilt:
    return rebuild(folder / "out", write_zip(folder / "cells.zip", members), **changes)


def error_of(folder: Path, members: Members, **changes: Any) -> str:
    """The message, after its place; nothing was written."""
    with pytest.raises(CompetitionError) as caught:
        rebuild_members(folder, members, **changes)
    assert not [*folder.glob("out/*/*")]
    place = f"{folder / 'cells.zip'}: expected "
    assert str(caught.value).startswith(place)
    return str(caught.value).removeprefix(place)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Rebuilt]:
    """The same cells with the seeds 0 to 19."""
    folder = tmp_path_factory.mktemp("cells")
    archive = write_zip(folder / "cells.zip", cells())
    return [rebuild(folder / str(seed), archive, seed=seed) for seed in range(20)]


@pytest.fixture(scope="module")
def rebuilt(seeds: list[Rebuilt]) -> Rebuilt:
    return seeds[1]


def test_the_files_are_exactly_the_competitions_with_the_ids_in_order(rebuilt: Rebuilt) -> None:
    assert sorted(path.name for path in rebuilt.folder.glob("*/*")) == FILES
    assert [path.name for path in rebuilt.folder.glob("hidden/*")] == ["solution.csv"]
    for split, tables in {
        "train": [("train_labels", "id", "label"), ("train_groups", "id", "patient")],
        "test": [("sample_submission", "id", "label"), ("solution", "id", "label", "Usage")],
    }.items():
        ids = [f"{split}_{row:05}" for row in range(len(rebuilt.images(split)))]
        assert list(rebuilt.images(split)) == ids
        for table in tables:
            assert [row[0] for row in rebuilt.rows(*table)] == ids
    assert {label for _, label in rebuilt.rows("sample_submission", "id", "label")} == {"0"}


def test_the_label_is_the_folder_and_the_group_the_patient(rebuilt: Rebuilt) -> None:
    origins = rebuilt.origins(cells())
    assert rebuilt.labels() == {row: LABELS[Path(at).parent.name] for row, at in origins.items()}
    pairs = {(group, number_of(origins[image_id])) for image_id, group in rebuilt.groups()}
    names = sorted(group for group, _ in pairs)
    assert names == [f"patient_{number:03}" for number in range(len(names))]
    assert len(names) == len({patient for _, patient in pairs}) > 20


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5])
def test_test_has_its_share_of_both_classes_as_nearly_as_whole_patients_allow(
    tmp_path: Path, share: float
) -> None:
    draw = random.Random(2)
    members = members_of([(draw.randint(0, 6), draw.randint(0, 6)) for _ in range(80)])
    out = rebuild_members(tmp_path, members, test_share=share)
    labels = Counter(out.labels().values())
    in_test = Counter(label for _, label, _ in out.solution())
    parts = Fraction(share).limit_denominator(20).numerator
    for label in LABELS.values():
        assert abs(in_test[label] - share * labels[label]) <= 6 * parts  # a patient's a part


def test_each_class_of_test_is_half_public_half_private_in_no_order(seeds: list[Rebuilt]) -> None:
    for out in seeds:
        counts = Counter((label, usage) for _, label, usage in out.solution())
        usages = [usage for *_, usage in out.solution()]
        assert set(usages) == {"Public", "Private"}
        for label in LABELS.values():
            assert abs(counts[label, "Public"] - counts[label, "Private"]) <= 1
        assert abs(usages.count("Public") - usages.count("Private")) <= 1
        changes = sum(a != b for a, b in pairwise(usages))
        assert len(usages) / 4 < changes < len(usages) * 3 / 4  # 1 if sorted, all if in turn


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("separator", ["/", "\\"])
def test_the_same_cells_give_the_same_bytes_however_they_are_packed(
    rebuilt: Rebuilt, tmp_path: Path, method: int, separator: str
) -> None:
    turned = {f"x/{name}".replace("/", separator): png for name, png in reversed(cells().items())}
    archive = write_zip(tmp_path / "other.zip", turned, method)
    assert rebuild(tmp_path / "out", archive).hashes() == rebuilt.hashes()


def test_another_seed_gives_other_bytes_and_other_patients(seeds: list[Rebuilt]) -> None:
    ours, others = seeds[1].hashes(), seeds[2].hashes()
    same = {name for name in ours if ours[name] == others[name]}
    assert same <= {"sample_submission.csv"}  # ids and zeros only
    tests = [out.patients(cells())["test"] for out in seeds]
    assert tests[1] != tests[2]
    assert not set.intersection(*tests)


def test_the_leaderboard_is_the_one_that_everybody_has(rebuilt: Rebuilt) -> None:
    """Where this fails, all who rebuilt it before have another leaderboard than from now on."""
    hashes = rebuilt.hashes()
    assert {name: hashes[name][:16] for name in GOLDEN} == GOLDEN


def test_nothing_in_the_files_names_a_class_a_patient_or_a_time(rebuilt: Rebuilt) -> None:
    for split in ("train", "test"):
        with zipfile.ZipFile(rebuilt.path(f"{split}_data.zip")) as archive:
            facts = ("compress_type", "external_attr", "create_system", "extra", "comment")
            described = {
                (info.date_time, *(getattr(info, fact) for fact in facts))
                for info in archive.infolist()
            }
            ((time, *_),) = described
            assert time == (1980, 1, 1, 0, 0, 0)
            assert archive.comment == b""
    for name in FILES:
        text = rebuilt.path(name).read_bytes() if name.endswith(".csv") else b""
        assert not [word for word in (b"thin", b"Parasitized", b"IMG", b"C4") if word in text]


def test_ids_tell_neither_label_nor_patient(seeds: list[Rebuilt]) -> None:
    """Over 20 seeds, order and label, and neighbours and patient, are as unrelated as by chance."""
    correlations, repeats, chances = [], [], []
    for out in seeds:
        labels = [int(label) for label in out.train_labels()]
        groups = [group for _, group in out.groups()]
        correlations.append(np.corrcoef(range(len(labels)), labels)[0, 1])
        repeats.append(np.mean([a == b for a, b in pairwise(groups)]))
        chances.append(sum((n / len(groups)) ** 2 for n in Counter(groups).values()))
    rows = len(labels) * 20
    assert abs(np.mean(correlations)) < 4 / rows**0.5
    assert abs(np.mean(repeats) - np.mean(chances)) < 4 * (np.mean(chances) / rows) ** 0.5


def test_a_patients_number_tells_neither_the_original_one_nor_illness(
    seeds: list[Rebuilt],
) -> None:
    original, ill = [], []
    for out in seeds:
        origins, labels = out.origins(cells()), out.labels()
        patients = {group: int(number_of(origins[image_id])) for image_id, group in out.groups()}
        sick = {group for image_id, group in out.groups() if labels[image_id] == "1"}
        names = sorted(patients)
        original.append(np.corrcoef(range(len(names)), [patients[n] for n in names])[0, 1])
        ill.append(np.corrcoef(range(len(names)), [n in sick for n in names])[0, 1])
    bound = 4 / (len(names) * 20) ** 0.5
    assert abs(np.mean(original)) < bound
    assert abs(np.mean(ill)) < bound


SLIDES = [
    "C47P8thinOriginalOlympusCX21_IMG_20150717_172748_cell_105.png",
    "C47P8thin_Original_Motic_IMG_20150714_093600_cell_151.png",
    "C47P8thinF_IMG_20150714_093601_cell_1.png",
    "c47p8_ThinF_IMG_20150714_093602_cell_2.PNG",
    "C47P8NThinF_IMG_20150714_093603_cell_3.png",
    "C47BP8ReThinF_IMG_20150714_093604_cell_4.png",
    "C047thin_original_IMG_20150714_093605a_cell_5.png",
]


def test_all_slides_of_a_patient_are_one_group_and_in_one_split(tmp_path: Path) -> None:
    folders = cycle(["Parasitized", "Uninfected"])
    slides = {f"{next(folders)}/{name}": name.encode() for name in SLIDES}
    members = slides | members_of([(2, 2)] * 7)  # C40 to C46: beside them, not of them
    archive = write_zip(tmp_path / "cells.zip", members)
    splits = set()
    for seed in range(8):
        out = rebuild(tmp_path / str(seed), archive, seed=seed)
        ours = {image_id for image_id, member in out.origins(members).items() if member in slides}
        (split,) = {image_id.split("_")[0] for image_id in ours}
        if split == "train":
            (group,) = {group for image_id, group in out.groups() if image_id in ours}
            assert {image_id for image_id, name in out.groups() if name == group} == ours
        assert len(ours) == len(SLIDES)
        splits.add(split)
    assert splits == {"train", "test"}


def test_the_whole_tree_twice_counts_once_and_is_reported(
    rebuilt: Rebuilt, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = cells()
    twice = once | {f"cell_images/{name}": content for name, content in once.items()}
    twice["cell_images/notes.txt"] = b"x"
    out = rebuild_members(tmp_path, twice)
    assert out.hashes() == rebuilt.hashes()
    told = capsys.readouterr().err
    count = len(once)
    assert f"cells.zip: {count} of {2 * count} images are copies of the same class, name" in told
    assert "files that are no images: 1 (first: cell_images/notes.txt)" in told
    given, patients = out.train_labels(), len({group for _, group in out.groups()})
    assert (
        f"train: {len(given)} images of {patients} patients, "
        f"{given.count('1') / len(given):.1%} parasitized; "
        f"test: {count - len(given)} images of {30 - patients} patients, "
    ) in told
    assert "% parasitized, of other patients" in told


def test_images_are_taken_one_at_a_time(tmp_path: Path) -> None:
    noise = random.Random(1)
    members = {name: noise.randbytes(2**20) for name in members_of([(2, 2)] * 10)}
    archive = write_zip(tmp_path / "cells.zip", members)
    rebuild(tmp_path / "first", archive)  # imports are over
    tracemalloc.start()
    rebuild(tmp_path / "second", archive)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20  # of 40 MiB


PARASITIZED = f"cell_images/Parasitized/{name_of(1, 0)}"
PREFIX = f"names that begin with the patient, as C39 in C39P4thinF_original_IMG_20150622_110115_cell_130.png, found 1 of {len(cells()) + 1} names otherwise"
FOLDERS = "images in the folders Parasitized and Uninfected, and in no other, found"


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        (cells() | {"cells/Cats/a.png": b"x", "Dogs/b.png": b"x"}, f"{FOLDERS} 4 (first: Cats, Dogs, Parasitized)"),
        ({"Parasitized/C1thinF.png": b"x"}, f"{FOLDERS} 1 (first: Parasitized)"),
        ({"parasitized/a.png": b"x", "Uninfected/b.png": b"y"}, f"{FOLDERS} 2 (first: parasitized, Uninfected)"),
        ({"a.png": b"x"}, f"{FOLDERS} 1 (first: none at all)"),
        ({"Parasitized/readme.txt": b"x"}, f"{FOLDERS} no image"),
        (cells() | {f"cell_images/Uninfected/{name_of(1, 0)}": b"x"}, f"each name in one class, found 1 of {len(cells())} names otherwise (first: {name_of(1, 0)})"),
        (cells() | {f"again/{PARASITIZED}": b"x"}, f"images of one class and name to be copies, found 1 of 1 copies otherwise (first: again/{PARASITIZED} and {PARASITIZED})"),
        *[
            (cells() | {f"Uninfected/{name}": b"x"}, f"{PREFIX} (first: {name})")
            for name in ("cell_1.png", "P4thinF_1.png", "xC39P4thinF.png", "C39P4.png", "C39 thinF.png", "CP4thinF.png", "C39P4thinF.jpg", "C３９thinF.png")
        ],
    ],
)  # fmt: skip
def test_another_dataset_is_an_error(tmp_path: Path, members: Members, fault: str) -> None:
    assert error_of(tmp_path, members) == f"{fault}. {ANOTHER}"


@pytest.mark.parametrize(
    ("patients", "share", "fault"),
    [
        ([(1, 1)] * 9, 0.3, "images of at least 10 patients in Parasitized, one for each part that download.test_share 0.3 deals them into, found 9. Set download.test_share in params.yaml to 0.5, which needs 2, or download.dataset"),
        ([(2, 0), (1, 1), (0, 1)], 0.5, "images of both classes in train, found 1 and none in Parasitized, since patients stay whole. Set download.seed in params.yaml to another, or download.dataset"),
    ],
    ids=["fewer than parts", "one patient alone has both classes"],
)  # fmt: skip
def test_too_few_patients_are_an_error(
    tmp_path: Path, patients: list[tuple[int, int]], share: float, fault: str
) -> None:
    found = error_of(tmp_path, members_of(patients), test_share=share)
    assert found == f"{fault} to one with more patients"


counts = st.tuples(st.integers(0, 4), st.integers(0, 4))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(counts, min_size=2, max_size=12), st.sampled_from([0.2, 0.4, 0.5]), st.integers(0, 99)
)
def test_whatever_the_patients_it_is_an_error_or_a_competition_without_leaks(
    patients: list[tuple[int, int]], share: float, seed: int
) -> None:
    members = members_of(patients)
    with tempfile.TemporaryDirectory() as name:
        try:
            out = rebuild_members(Path(name), members, test_share=share, seed=seed)
        except CompetitionError:
            return
        assert sorted(out.origins(members).values()) == sorted(members)
        split = out.patients(members)
        assert not split["train"] & split["test"]
        assert set(out.train_labels()) == {label for _, label, _ in out.solution()} == {"0", "1"}


def test_what_was_rebuilt_passes_prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels, groups and order in the store are those of the files."""
    rng = np.random.default_rng(1)
    members = {}
    for member in members_of([(3, 3)] * 10):
        file = io.BytesIO()
        side = int(rng.integers(20, 40))
        Image.fromarray(rng.integers(0, 255, (side, 30, 3), np.uint8)).save(file, "png")
        members[member] = file.getvalue()
    out = rebuild_members(tmp_path, members)
    monkeypatch.chdir(tmp_path)
    paths.RAW.parent.mkdir()
    shutil.copytree(out.folder / "raw", paths.RAW)
    prepare.run(prepare_config(groups={"source": "file", "file": "train_groups.csv"}), "accuracy")
    train = read_table(paths.TRAIN_TABLE, IMAGE_COLUMNS)
    assert list(zip(train["image_id"], train["group"], strict=True)) == out.groups()
    assert train["label"].tolist() == out.train_labels()
    test_ids = [image_id for image_id, *_ in out.solution()]
    assert read_table(paths.TEST_TABLE, IMAGE_COLUMNS)["image_id"].tolist() == test_ids
    assert len(np.load(paths.TEST_IMAGES, mmap_mode="r")) == len(test_ids)


@needs(NATIVE)
def test_the_real_cells_are_rebuilt(tmp_path: Path) -> None:
    with zipfile.ZipFile(NATIVE) as archive:
        native = {name: archive.read(name) for name in archive.namelist()}
    out = rebuild(tmp_path, NATIVE)
    assert sorted(out.origins(native).values()) == sorted(native)
    split = out.patients(native)
    assert not split["train"] & split["test"]
    assert len(split["train"] | split["test"]) == 108  # of the 111 parts before thin of its names
    assert Counter((label, usage) for _, label, usage in out.solution()) == {
        ("0", "Public"): 10, ("0", "Private"): 10, ("1", "Public"): 10, ("1", "Private"): 10,
    }  # fmt: skip


@pytest.mark.parametrize(
    "section",
    [{"source": "kaggle", "competition": ""}, *(RIGHT | wrong for wrong in (
        {"dataset": "slug"}, {"dataset": "https://x/a/b"}, {"dataset": "a/../b"},
        {"dataset": "a/b\n"}, {"test_share": 0.04}, {"test_share": 0.51}, {"seed": -1},
        {"seed": 2**32}, {"sed": 1},
    ))],
    ids=str,
)  # fmt: skip
def test_a_wrong_parameter_is_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(DownloadConfig).validate_python(section)


@pytest.mark.parametrize("profile", ["malaria-rebuild", "malaria-kaggle"])
def test_a_profile_differs_from_malaria_local_in_source_and_name_alone(profile: str) -> None:
    ours = read_config(ROOT / "profiles" / f"{profile}.yaml").model_dump()
    local = read_config(ROOT / "profiles" / "malaria-local.yaml").model_dump()
    assert ours["download"].pop("source") == profile.split("-")[1]
    assert ours["ensemble"].pop("name") == profile
    for tree in (ours, local):
        tree.pop("download")
        tree["ensemble"].pop("name", None)
    assert ours == local
