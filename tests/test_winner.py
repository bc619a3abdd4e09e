"""The package for winners: made from a commit alone, and it repeats the submission."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cards import make_card
from competing import commit, git, make_ready
from pictures import fill, png, rows_of
from project import copy_project, digests, run, stage

from pipeline.core import paths
from pipeline.core.errors import ConfigError, OutputError, SubmissionError, TrainError
from pipeline.core.files import sha256_of
from pipeline.core.machine import cores
from pipeline.core.ours import remember
from pipeline.core.record import write_record
from pipeline.download.config import (
    DownloadConfig,
    DrawnCells,
    KaggleSource,
    LocalSource,
    RebuildSource,
)
from pipeline.params import read_config
from pipeline.train.networks.config import TimmNetwork
from pipeline.winner import build as winner
from pipeline.winner.machine import describe_machine
from pipeline.winner.run import DEFAULTS, SETTINGS, read_settings

# What is refused


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that git is asked about, committed."""
    folder = tmp_path / "project"
    fill(folder, dict.fromkeys(["LICENSE", "requirements.lock", "pipeline/a.py"], b"a"))
    make_ready(folder)
    with (folder / ".gitignore").open("a") as ignored:
        ignored.write("!/requirements.lock\n")
    submission = folder / "submissions/tiny.csv"
    card = make_card(sha256={"submission": sha256_of(submission)})
    write_record(submission.with_suffix(".json"), card)
    commit(folder)
    monkeypatch.chdir(folder)
    return folder


def refused() -> str:
    with pytest.raises(SubmissionError) as caught:
        winner.run(read_config(paths.PARAMS), Path("winner"))
    assert not Path("winner").exists() or not list(Path("winner").glob("*.zip"))
    return str(caught.value)


def test_code_that_is_in_no_commit_is_refused(ready: Path) -> None:
    code = ready / "pipeline/a.py"
    before = code.read_bytes()
    code.write_text("another text\n")
    assert refused() == (
        "submissions/tiny.csv: the package would not repeat it: 1 files differ from the commit "
        "(first: pipeline/a.py). Run: git add --all && git commit; then this command again"
    )
    code.write_bytes(before)
    (ready / "pipeline/new.py").write_text("")
    assert "repeat it: 1 inputs are in no commit (first: pipeline/new.py). Run: " in refused()


def test_a_link_in_the_commit_is_refused(ready: Path) -> None:
    (ready / "pipeline/link.py").symlink_to("a.py")
    commit(ready)
    with pytest.raises(SubmissionError) as caught:
        winner.unpack_commit(ready / "unpacked")
    assert str(caught.value) == (
        "pipeline/link.py: expected files in the commit, found a link, which not every system can "
        "unpack. Put a file in its place"
    )


def test_a_submission_that_no_run_made_is_refused(ready: Path) -> None:
    submission = ready / "submissions/tiny.csv"
    submission.write_text(submission.read_text().replace(",1", ",0"))
    commit(ready)
    assert (
        "repeat it: submissions/tiny.csv is not what dvc.lock describes; submissions/tiny.json is "
        "not its card. Run: dvc repro"
    ) in refused()


@pytest.mark.parametrize("name", ["LICENSE", "requirements.lock", "submissions/tiny.json"])
def test_what_every_package_needs_must_be_in_the_commit(ready: Path, name: str) -> None:
    git(ready, "rm", "--quiet", "--cached", name)
    (ready / ".gitignore").write_text((ready / ".gitignore").read_text() + f"/{name}\n")
    commit(ready)
    assert f"repeat it: no commit holds {name}. Run: git add --force {name} && " in refused()


def test_without_a_submission_or_git_the_command_says_so(ready: Path) -> None:
    shutil.rmtree(ready / ".git")
    assert f"repeat it: {ready}: is no git repository (a downloaded zip is none). " in refused()
    (ready / "submissions/tiny.csv").unlink()
    assert refused() == "submissions/tiny.csv: no such file. Run: dvc repro"


@pytest.mark.parametrize("place", ["winner/tiny/mine.txt", "winner/tiny/a/b", "winner/tiny.zip"])
@pytest.mark.parametrize("beside", [{}, {"winner/tiny/entry_points.md": b"an earlier package"}])
def test_files_of_others_are_never_replaced(
    ready: Path, place: str, beside: dict[str, bytes]
) -> None:
    fill(ready, beside)
    remember(*map(Path, beside))
    fill(ready, {place: b"mine"})
    with pytest.raises(OutputError) as caught:
        winner.run(read_config(paths.PARAMS), Path("winner"))
    assert str(caught.value).startswith(f"{place}: expected nothing there, or what this command")
    assert (ready / place).read_bytes() == b"mine"


def test_what_dvc_says_is_passed_on_where_it_cannot_answer(ready: Path) -> None:
    (ready / "dvc.yaml").write_text("stages: {}\n")
    commit(ready)
    assert "would not repeat it: dvc status: 'ensemble' does not exist as an output" in refused()


def test_the_files_that_networks_start_from_are_packed_only_as_params_yaml_names_them(
    ready: Path,
) -> None:
    config = read_config(paths.PARAMS)
    assert winner.list_starts(config) == []

    def starts(file: str, sha256: str) -> list[Path]:
        network = {
            "family": "timm",
            "name": "resnet18",
            "pretrained": False,
            "dropout": 0.0,
            "drop_path": None,
        }
        start = TimmNetwork.model_validate(network | {"weights": {"file": file, "sha256": sha256}})
        one = config.train.models["one"].model_copy(update={"network": start})
        models = config.train.models | {"one": one}
        train = config.train.model_copy(update={"models": models})
        return winner.list_starts(config.model_copy(update={"train": train}))

    (ready / "start").mkdir()
    file = ready / "start/w.safetensors"
    file.write_bytes(b"weights")
    assert starts("start/w.safetensors", sha256_of(file)) == [Path("start/w.safetensors")]
    with pytest.raises(TrainError, match=r"start/w.safetensors: expected the file with sha256 000"):
        starts("start/w.safetensors", "0" * 64)
    for outside in (str(file), "start/../start/w.safetensors"):
        with pytest.raises(SubmissionError, match="expected a file in this folder, named relative"):
            starts(outside, sha256_of(file))


# The small files


def test_the_settings_are_read_as_they_are_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SETTINGS.json: no such file. Unpack the package again"):
        read_settings(tmp_path / SETTINGS)
    (tmp_path / SETTINGS).write_text(DEFAULTS.model_dump_json())
    folders = {name: str(tmp_path / folder) for name, folder in DEFAULTS.model_dump().items()}
    assert read_settings(tmp_path / SETTINGS).model_dump() == folders


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MODEL_DIR": ""}, "found MODEL_DIR invalid: String should have at least 1 character. Correct it"),
        ({"MODEL_DIR": 3}, "found MODEL_DIR invalid: Input should be a valid string. Correct it"),
        ({"MODEL": "x"}, "expected the folders RAW_DATA_DIR, CLEAN_DATA_DIR, MODEL_DIR, CHECKPOINT_DIR, SUBMISSION_DIR, found MODEL invalid: Extra inputs are not permitted. Correct it"),
        ({"RAW_DATA_DIR": "data/clean"}, "RAW_DATA_DIR is in CLEAN_DATA_DIR ("),
        ({"CLEAN_DATA_DIR": "."}, "RAW_DATA_DIR is in CLEAN_DATA_DIR ("),
    ],
)  # fmt: skip
def test_settings_that_name_no_folders_are_refused(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    (tmp_path / "SETTINGS.json").write_text(json.dumps(DEFAULTS.model_dump() | change))
    with pytest.raises(ConfigError) as caught:
        read_settings(tmp_path / "SETTINGS.json")
    assert message in str(caught.value)


def test_the_structure_lists_each_folder_and_file_once() -> None:
    listed = winner.list_structure(["b.txt", "a/x/y.txt", "a/z.txt"])
    assert listed == "./a/\n./a/x/\n./a/x/y.txt\n./a/z.txt\n./b.txt\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (KaggleSource(source="kaggle", competition="cells"), "`kaggle competitions download -c cells`"),
        (RebuildSource(source="rebuild", dataset="a/b", test_share=0.2, seed=1), "Kaggle's dataset a/b:\n"),
        (DrawnCells(source="synthetic", kind="cells", train_images=20, test_images=10, patients=4, wrong_labels=0, duplicates=0, seed=1), "The images are drawn:"),
        (LocalSource(source="local", folder="x"), "The images came from a local folder.\n"),
    ],
)  # fmt: skip
def test_the_readme_says_where_the_data_came_from(source: DownloadConfig, said: str) -> None:
    facts = {"name": "a", "commit": "b", "device": "cpu", "machine": {"CPU": "fast"}}
    lists = {"raw_files": {"test.zip": "abc"}, "networks": ["models/one/fold0"]}
    text = winner.render("README.md", **facts, **lists, download=source)
    assert said in text
    assert "\n```\nabc  test.zip\n```\n" in text
    assert "\n\n- CPU: fast\n\n" in text


def test_the_machine_is_described_the_same_twice() -> None:
    facts = describe_machine()
    assert facts == describe_machine()
    assert facts["CPU cores"] == str(cores())
    assert all(facts.values())
    assert facts["Python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")


# The package itself


@pytest.fixture(scope="module")
def built(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained project with another submission beside its own; tests leave it as it is."""
    project = copy_project(trained, tmp_path_factory.mktemp("built") / "project")
    shutil.copy(project / "submissions/tiny.csv", project / "submissions/other.csv")
    commit(project)
    return project


@pytest.fixture(scope="module")
def packed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with tiny/ and tiny.zip."""
    output = tmp_path_factory.mktemp("packed")
    done = stage(built, "winner", "--output", str(output))
    assert done.returncode == 0, done.stdout
    return output


@pytest.fixture
def unpacked(packed: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(packed / "tiny.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path / "tiny"


def script(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the package's scripts from elsewhere, with no way to this repository."""
    return run(folder.parent, sys.executable, str(folder / name), *arguments)


@pytest.mark.slow
def test_the_package_holds_what_kaggle_asks_for_and_no_raw_data(built: Path, packed: Path) -> None:
    files = {
        path.relative_to(packed / "tiny").as_posix(): path.read_bytes()
        for path in (packed / "tiny").rglob("*")
        if path.is_file()
    }
    assert {name for name in files if not name.startswith("code/")} == {
        "LICENSE", "README.md", "SETTINGS.json", "directory_structure.txt", "entry_points.md",
        *(f"models/{model}/fold{k}/weights.safetensors" for model in ("one", "two") for k in (0, 1)),
        "predict.py", "prepare_data.py", "requirements.txt", "submissions/tiny.csv",
        "submissions/tiny.json", "train.py",
    }  # fmt: skip
    code = {name.removeprefix("code/") for name in files if name.startswith("code/")}
    assert code == {*git(built, "ls-files").splitlines(), ".dvc/config.local"}
    assert {"params.yaml", "dvc.yaml", "dvc.lock", "pipeline/train/fit.py"} <= code
    assert files["requirements.txt"] == (built / "requirements.lock").read_bytes()
    assert b"--hash=sha256:" in files["requirements.txt"]
    raw = {path.read_bytes() for path in (built / "data").rglob("*") if path.is_file()}
    assert not raw & set(files.values())
    listed = files["directory_structure.txt"].decode().splitlines()
    assert {name for name in listed if not name.endswith("/")} == {f"./{name}" for name in files}
    readme = files["README.md"].decode()
    for fact in describe_machine().values():
        assert fact in readme
    assert git(built, "rev-parse", "HEAD") in readme
    for path in (built / "data/raw").iterdir():
        assert f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" in readme


@pytest.mark.slow
def test_the_same_commit_gives_the_same_bytes_and_the_zip_is_the_folder(
    built: Path, packed: Path, unpacked: Path
) -> None:
    first = (packed / "tiny.zip").read_bytes()
    more = packed / "tiny" / "more.txt"
    more.write_text("mine")
    done = stage(built, "winner", "--output", str(packed))
    assert done.returncode == 1
    assert f"OutputError: {more}: expected nothing there" in done.stdout
    assert more.read_text() == "mine"
    more.unlink()
    (packed / "tiny" / "LICENSE").unlink()
    done = stage(built, "winner", "--output", str(packed))
    assert done.returncode == 0, done.stdout
    assert (packed / "tiny.zip").read_bytes() == first
    assert not run(packed, "diff", "--recursive", "tiny", str(unpacked)).stdout


@pytest.mark.slow
def test_the_unpacked_package_makes_the_submission_from_its_networks_alone(
    built: Path, unpacked: Path
) -> None:
    without = script(unpacked, "predict.py")
    assert without.returncode == 1
    assert without.stdout == (
        f"CompetitionError: {unpacked}/data/raw: expected the competition's files, found none. Put "
        "them there, or set RAW_DATA_DIR in SETTINGS.json to their folder (README.md: Data)\n"
    )
    elsewhere = unpacked.parent / "elsewhere"
    elsewhere.mkdir()
    for name in ("sample_submission.csv", "test_data.zip"):
        shutil.copy(built / "data/raw" / name, elsewhere)
    settings = json.loads((unpacked / "SETTINGS.json").read_text())
    settings["RAW_DATA_DIR"] = "../elsewhere"
    (unpacked / "SETTINGS.json").write_text(json.dumps(settings))
    done = script(unpacked, "predict.py")
    assert done.returncode == 0, done.stdout
    made = unpacked / "submissions/tiny.predicted.csv"
    assert made.read_bytes() == (built / "submissions/tiny.csv").read_bytes()
    assert f"identical to {unpacked}/submissions/tiny.csv, byte for byte" in done.stdout
    fill(unpacked.parent / "new", {"x.png": png(1)})
    assert script(unpacked, "predict.py", "new").returncode == 0
    assert [row["id"] for row in rows_of(unpacked / "submissions/predictions.csv")] == ["x"]


@pytest.mark.slow
def test_the_unpacked_package_trains_the_same_networks_anew_where_its_settings_say(
    built: Path, unpacked: Path
) -> None:
    elsewhere = unpacked.parent / "elsewhere"
    settings = {
        "RAW_DATA_DIR": str(built / "data/raw"),
        "CLEAN_DATA_DIR": "../elsewhere/clean",
        "MODEL_DIR": "../elsewhere/networks",
        "CHECKPOINT_DIR": "../elsewhere/half",
        "SUBMISSION_DIR": "../elsewhere/results",
    }
    (unpacked / SETTINGS).write_text(json.dumps(settings))
    untouched = ("models/**/*.safetensors", "submissions/*", "code/submissions/*", "code/folds/*")
    before, raw = digests(unpacked, *untouched), digests(built, "data/raw/*")
    code = set((unpacked / "code").iterdir())
    fill(elsewhere / "clean", {"mine.txt": b"mine", "store/mine.txt": b"mine"})
    refused = script(unpacked, "prepare_data.py")
    assert refused.returncode == 1
    assert refused.stdout.endswith(
        f"ConfigError: SETTINGS.json: CLEAN_DATA_DIR: {elsewhere}/clean/store holds other files, "
        "and would be replaced. Name a new folder\n"
    )
    assert (elsewhere / "clean/store/mine.txt").read_bytes() == b"mine"
    shutil.rmtree(elsewhere / "clean/store")
    for name in ("prepare_data.py", "train.py", "predict.py"):
        done = script(unpacked, name)
        assert done.returncode == 0, done.stdout
        if name != "prepare_data.py":
            assert ", byte for byte" in done.stdout
    assert digests(unpacked, *untouched) == before
    assert set((unpacked / "code").iterdir()) == code
    assert digests(built, "data/raw/*") == raw
    folders = sorted(path.name for path in elsewhere.iterdir())
    assert folders == ["clean", "half", "networks", "results"]
    clean = sorted(path.name for path in (elsewhere / "clean").iterdir())
    assert clean == ["audit.json", "mine.txt", "raw", "store"]
    networks = digests(elsewhere / "networks", "**/*.safetensors")
    assert networks == digests(built / "models", "**/*.safetensors")
    results = digests(elsewhere / "results", "*")
    assert results["tiny.csv"] == (built / "submissions/tiny.csv").read_bytes()
    assert results["tiny.json"] == (built / "submissions/tiny.json").read_bytes()
    assert results["tiny.predicted.csv"] == results["tiny.csv"]


@pytest.mark.slow
def test_code_that_was_changed_after_the_run_is_refused(built: Path, tmp_path: Path) -> None:
    project = copy_project(built, tmp_path / "project")
    with (project / "pipeline/split/stage.py").open("a") as code:
        code.write("# another text\n")
    commit(project)
    done = stage(project, "winner", "--output", str(tmp_path / "packed"))
    assert done.returncode == 1
    assert (
        "SubmissionError: submissions/tiny.csv: the package would not repeat it: 7 stages are out "
        "of date (first: params: pipeline/split modified, prepare: pipeline/split modified, "
        "split: pipeline/split modified). Run: dvc repro"
    ) in done.stdout
    assert not (tmp_path / "packed").exists()


@pytest.mark.slow
def test_make_run_in_the_package_trains_anew_without_git(built: Path, unpacked: Path) -> None:
    code = unpacked / "code"
    (code / "submissions/tiny.csv").unlink()
    done = run(code, "make", "-o", ".venv/.installed", "run")
    assert done.returncode == 0, done.stdout
    assert "one fold 0: epoch 1, " in (code / ".resume/logs/train@one-0.log").read_text()
    assert (code / "submissions/tiny.csv").read_bytes() == (
        built / "submissions/tiny.csv"
    ).read_bytes()
