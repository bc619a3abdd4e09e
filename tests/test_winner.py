"""The package for winners: made of a commit alone, and it repeats the submission."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from competing import commit, git, make_ready, write_submission
from project import digests, environment, run, stage
from test_predict import fill, finished_project, png, rows_of

from pipeline.core import paths
from pipeline.core.errors import ConfigError, EnsembleError, SubmissionError
from pipeline.params import read_config
from pipeline.winner import build as winner
from pipeline.winner.machine import describe_machine
from pipeline.winner.run import DEFAULTS, read_settings
from pipeline.winner.texts import PURPOSES, write_script, write_settings, write_structure

# What is refused


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that a package needs but networks, committed."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pipeline").mkdir()
    for name in ("LICENSE", "requirements.lock", "dvc.yaml", "pipeline/a.py"):
        (folder / name).write_text("a text\n")
    make_ready(folder)
    with (folder / ".gitignore").open("a") as ignored:
        ignored.write("!/requirements.lock\n")
    card = folder / "submissions/tiny.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"members": []}))
    lock = folder / "dvc.lock"
    md5 = hashlib.md5(b"a text\n").hexdigest()
    deps = f"    deps:\n    - path: pipeline/a.py\n      md5: {md5}\n    outs:"
    lock.write_text(lock.read_text().replace("    outs:", deps))
    commit(folder)
    monkeypatch.chdir(folder)
    return folder


def refused() -> str:
    with pytest.raises(SubmissionError) as caught:
        winner.run(read_config(paths.PARAMS), Path("winner"))
    assert not Path("winner").exists() or not list(Path("winner").glob("*.zip"))
    return str(caught.value)


@pytest.mark.usefixtures("ready")
def test_a_clean_commit_is_refused_for_its_missing_networks_alone() -> None:
    with pytest.raises(EnsembleError, match="expected the members of params.yaml, one fold 0"):
        winner.run(read_config(paths.PARAMS), Path("winner"))


def test_changes_that_no_commit_holds_are_refused(ready: Path) -> None:
    (ready / "pipeline/a.py").write_text("another text\n")
    assert refused() == (
        "submissions/tiny.csv: the package would not repeat it: 1 files differ from the commit "
        "(first: pipeline/a.py); 1 files of the code are not those that dvc.lock records (first: "
        "pipeline/a.py). Run: dvc repro, then git add --all, git commit, and this command again"
    )


def test_code_that_is_in_no_commit_is_refused(ready: Path) -> None:
    (ready / "pipeline/new.py").write_text("")
    assert "repeat it: 1 files of the code are in no commit (first: pipeline/new.py). " in refused()


def test_code_that_was_changed_after_the_run_is_refused(ready: Path) -> None:
    (ready / "pipeline/a.py").write_text("another text\n")
    commit(ready)
    assert (
        "repeat it: 1 files of the code are not those that dvc.lock records (first: pipeline/a.py)"
    ) in refused()
    git(ready, "rm", "--quiet", "pipeline/a.py")
    commit(ready)
    assert "dvc.lock records (first: pipeline/a.py). " in refused()


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
    assert f"repeat it: no commit holds {name}. " in refused()


def test_without_a_submission_or_git_the_command_says_so(ready: Path) -> None:
    shutil.rmtree(ready / ".git")
    assert "repeat it: this is no git repository with a commit. " in refused()
    (ready / "submissions/tiny.csv").unlink()
    assert refused() == "submissions/tiny.csv: no such file. Run: dvc repro"


@pytest.mark.parametrize("place", ["winner/tiny/mine.txt", "winner/tiny.zip"])
def test_files_of_others_are_never_replaced(ready: Path, place: str) -> None:
    fill(ready, {place: b"mine"})
    with pytest.raises(SubmissionError) as caught:
        winner.run(read_config(paths.PARAMS), Path("winner"))
    assert str(caught.value).endswith(
        ": expected nothing or an earlier package, found something else there. Name another "
        "place: --output FOLDER"
    )
    assert (ready / place).read_bytes() == b"mine"


def test_another_submission_in_the_folder_changes_nothing(ready: Path) -> None:
    kept = (ready / "dvc.lock").read_bytes()
    write_submission(ready, "other", ones=3)
    (ready / "dvc.lock").write_bytes(kept)
    with pytest.raises(EnsembleError):
        winner.run(read_config(paths.PARAMS), Path("winner"))


# The small files


def test_the_settings_are_read_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "SETTINGS.json").write_text(write_settings())
    assert read_settings(tmp_path / "SETTINGS.json") == DEFAULTS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MODEL_DIR": ""}, "found MODEL_DIR wrong: String should have at least 1 character. Mend it"),
        ({"MODEL_DIR": 3}, "found MODEL_DIR wrong: Input should be a valid string. Mend it"),
        ({"MODEL": "x"}, "expected the folders RAW_DATA_DIR, CLEAN_DATA_DIR, MODEL_DIR, CHECKPOINT_DIR, SUBMISSION_DIR, found MODEL wrong: Extra inputs are not permitted. Mend it"),
        ({"RAW_DATA_DIR": "data/clean"}, "RAW_DATA_DIR lies in CLEAN_DATA_DIR ("),
        ({"CLEAN_DATA_DIR": "."}, "RAW_DATA_DIR lies in CLEAN_DATA_DIR ("),
    ],
)  # fmt: skip
def test_settings_that_name_no_folders_are_refused(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    (tmp_path / "SETTINGS.json").write_text(json.dumps(DEFAULTS.model_dump() | change))
    with pytest.raises(ConfigError) as caught:
        read_settings(tmp_path / "SETTINGS.json")
    assert message in str(caught.value)


def test_missing_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SETTINGS.json: no such file. Unpack the package again"):
        read_settings(tmp_path / "SETTINGS.json")


def test_the_structure_lists_each_folder_and_file_once() -> None:
    listed = write_structure(["b.txt", "a/x/y.txt", "a/z.txt"])
    assert listed == "./a/\n./a/x/\n./a/x/y.txt\n./a/z.txt\n./b.txt\n"


@pytest.mark.parametrize("step", PURPOSES)
def test_each_script_is_python(step: str) -> None:
    compile(write_script(step), f"{step}.py", "exec")


def test_the_machine_is_described_the_same_twice() -> None:
    facts = describe_machine()
    assert facts == describe_machine()
    assert facts["CPU cores"] == str(os.cpu_count())
    assert all(facts.values())
    assert facts["Python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")


# The package itself


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_project(tmp_path_factory)


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
    return subprocess.run(
        [sys.executable, str(folder / name), *arguments],
        cwd=folder.parent, env=environment(), text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.slow
def test_the_package_holds_what_kaggle_asks_for_and_no_raw_data(built: Path, packed: Path) -> None:
    files = {
        path.relative_to(packed / "tiny").as_posix(): path.read_bytes()
        for path in (packed / "tiny").rglob("*")
        if path.is_file()
    }
    assert {name for name in files if not name.startswith("code/")} == {
        "LICENSE", "README.md", "SETTINGS.json", "directory_structure.txt", "entry_points.md",
        "models/one/fold0/weights.safetensors", "models/one/fold1/weights.safetensors",
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
        if path.name != "MANIFEST.json":
            assert f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" in readme


@pytest.mark.slow
def test_the_same_commit_gives_the_same_bytes_and_the_zip_is_the_folder(
    built: Path, packed: Path, unpacked: Path
) -> None:
    first = (packed / "tiny.zip").read_bytes()
    (packed / "tiny" / "more.txt").write_text("goes")
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
    (unpacked / "SETTINGS.json").write_text(json.dumps(settings))
    before = digests(unpacked, "models/**/*.safetensors", "submissions/*")
    fill(elsewhere / "clean", {"mine.txt": b"mine"})
    taken = script(unpacked, "prepare_data.py")
    assert taken.returncode == 1
    assert (
        f"ConfigError: SETTINGS.json: CLEAN_DATA_DIR: {elsewhere}/clean holds other files, and "
        "would be replaced whole. Name a new folder\n"
    ) in taken.stdout
    (elsewhere / "clean/mine.txt").unlink()
    for name in ("prepare_data.py", "train.py", "predict.py"):
        done = script(unpacked, name)
        assert done.returncode == 0, done.stdout
        if name != "prepare_data.py":
            assert ", byte for byte" in done.stdout
    assert digests(unpacked, "models/**/*.safetensors", "submissions/*") == before
    assert not (unpacked / "code/data").exists()
    assert sorted(path.name for path in elsewhere.iterdir()) == [
        "clean",
        "half",
        "networks",
        "results",
    ]
    networks = digests(elsewhere / "networks", "**/*.safetensors")
    assert networks == digests(built / "models", "**/*.safetensors")
    results = digests(elsewhere / "results", "*")
    assert results["tiny.csv"] == (built / "submissions/tiny.csv").read_bytes()
    assert results["tiny.json"] == (built / "submissions/tiny.json").read_bytes()
    assert results["tiny.predicted.csv"] == results["tiny.csv"]


@pytest.mark.slow
def test_make_run_in_the_package_trains_anew_without_git(built: Path, unpacked: Path) -> None:
    code = unpacked / "code"
    (code / "submissions/tiny.csv").unlink()
    done = run(code, "make", "-o", ".venv/.installed", "run")
    assert done.returncode == 0, done.stdout
    assert "one fold 0: done, " in done.stdout
    assert (code / "submissions/tiny.csv").read_bytes() == (
        built / "submissions/tiny.csv"
    ).read_bytes()
