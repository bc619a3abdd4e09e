"""No command writes over a file that the pipeline did not make, and no stage removes an input."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from cards import make_card
from pictures import fill
from project import (
    PARAMS,
    ROOT,
    commit_all,
    copy_project,
    digests,
    local_params,
    make_project,
    run,
    stage,
)
from ruamel.yaml import YAML

from pipeline.core import paths
from pipeline.core.errors import ConfigError, OutputError
from pipeline.core.files import sha256_of
from pipeline.core.ours import MADE, refuse_others, remember
from pipeline.core.record import write_record
from pipeline.params import read_config


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# What is ours


def is_ours(*places: Path, submission: bool = False) -> bool:
    try:
        refuse_others(*places, submission=submission)
    except OutputError:
        return False
    return True


def test_a_file_is_ours_as_long_as_it_has_the_bytes_that_we_wrote() -> None:
    place = Path("results/a.csv")
    assert is_ours(place)
    fill(Path(), {"results/a.csv": b"made", "results/copy.csv": b"made"})
    assert not is_ours(place)
    remember(place)
    assert is_ours(place)
    assert is_ours(place.resolve())
    assert not is_ours(Path("results/copy.csv"))
    place.write_bytes(b"edited")
    with pytest.raises(OutputError) as caught:
        refuse_others(place)
    assert str(caught.value) == (
        "results/a.csv: expected nothing there, or what this command made, found another file, or "
        "one that was changed since: it would be lost. Move it to another place or remove it, or "
        "name another place for the result"
    )
    place.unlink()
    assert is_ours(place)


def test_a_folder_is_ours_if_all_its_files_are() -> None:
    fill(Path("package"), {"a": b"a", "b/c": b"c"})
    a_submission()
    shutil.copytree("submissions", "package/submissions")
    remember(Path("package"))
    assert is_ours(Path("package"))
    (Path("package") / "b" / "link").symlink_to("c")
    with pytest.raises(OutputError, match=r"^package/b/link: expected nothing there"):
        refuse_others(Path("package"))


def test_a_name_of_any_bytes_can_be_listed() -> None:
    places = [Path(os.fsdecode(name)) for name in (b"\xff.csv", "a\u2028b.csv".encode())]
    for place in places:
        place.write_bytes(b"made")
    remember(*places)
    assert is_ours(*places)


def test_where_nothing_can_be_listed_the_next_run_refuses() -> None:
    fill(Path(), {"a.csv": b"made", ".resume": b"a file"})
    remember(Path("a.csv"))
    assert not is_ours(Path("a.csv"))


@pytest.mark.parametrize("kind", ["name", "place"])
def test_a_link_is_never_ours(kind: str) -> None:
    fill(Path(), {"a.csv": b"made"})
    remember(Path("a.csv"))
    Path("b.csv").symlink_to("a.csv" if kind == "name" else "gone.csv")
    remember(Path("b.csv"))
    assert not is_ours(Path("b.csv"))


SUBMISSION, CARD = Path("submissions/tiny.csv"), Path("submissions/tiny.json")


def a_submission(**hashes: str) -> None:
    fill(Path(), {str(SUBMISSION): b"id,label\n"})
    sha256 = {"submission": sha256_of(SUBMISSION)} | hashes
    write_record(CARD, make_card(sha256=sha256))


def test_a_submission_is_ours_by_its_card_for_the_stage_that_makes_it_alone() -> None:
    a_submission()
    assert is_ours(SUBMISSION, CARD, submission=True)
    assert not is_ours(SUBMISSION)
    assert not is_ours(CARD)
    CARD.write_text('{"name": "tiny", "of_an_older_version": 1, "sha256": {"submission": ""}}')
    assert is_ours(CARD, submission=True)
    assert not is_ours(SUBMISSION, submission=True)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (SUBMISSION, b"id,label\nmine,1\n"),
        (CARD, b"{}"),
        (CARD, b"mine"),
        (CARD, b'{"name": "another", "sha256": {"submission": ""}}'),
    ],
)
def test_a_submission_or_card_of_a_person_is_not(file: Path, content: bytes) -> None:
    a_submission()
    file.write_bytes(content)
    assert not is_ours(SUBMISSION, CARD, submission=True)


def test_a_submission_alone_is_ours_where_the_stage_was_killed_before_its_card() -> None:
    fill(Path(), {str(SUBMISSION): b"id,label\n"})
    assert not is_ours(SUBMISSION, submission=True)
    remember(SUBMISSION)
    assert is_ours(SUBMISSION, submission=True)
    assert MADE.read_text() == f"{sha256_of(SUBMISSION)}  submissions/tiny.csv\n"


# What no parameter may name


def check(params: str) -> str:
    paths.PARAMS.write_text(params)
    try:
        read_config(paths.PARAMS)
    except ConfigError as error:
        return str(error)
    return ""


def with_weights(file: str) -> str:
    small = "network: {family: small, name: vgg, width: 4, stages: 2, dropout: 0.1}"
    assert small in PARAMS
    timm = (
        "{family: timm, name: resnet18, pretrained: false, dropout: 0.0, drop_path: null, weights: "
    )
    pinned = f"{{file: {file}, sha256: {'a' * 64}}}"
    return PARAMS.replace(small, f"network: {timm}{pinned}}}").replace("size_px: 24", "size_px: 32")


def with_external(**files: str) -> str:
    member: dict[str, Any] = {"oof": "theirs/oof.csv", "test": "theirs/test.csv"} | files
    entry = f"name: x, oof: {member['oof']}, test: {member['test']}, folds: checked"
    return PARAMS.replace("external: []", f"external: [{{{entry}, sha256: {'a' * 64}}}]")


def with_corrections() -> str:
    return PARAMS.replace("corrections: null", "corrections: corrections/mine.csv")


REFUSED = [
    (local_params("data/raw"), "download.folder: data/raw is, holds or lies in data/raw,"),
    (local_params("data/raw/"), "download.folder: data/raw is, holds or lies in data/raw,"),
    (local_params("./data/../data/raw"), "download.folder: data/../data/raw is, holds or"),
    (local_params("data"), "download.folder: data is, holds or lies in data/raw,"),
    (local_params("."), "download.folder: . is, holds or lies in data/raw,"),
    (local_params("/"), "download.folder: / is, holds or lies in data/raw,"),
    (local_params("data/hidden"), "download.folder: data/hidden is, holds or lies in data/hidden,"),
    (local_params("data/raw/mine"), "download.folder: data/raw/mine is, holds or lies in data/raw"),
    (local_params("data/.download/complete"), "lies in data/.download,"),
    (local_params("models/one"), "download.folder: models/one is, holds or lies in models/one/fold0"),
    (local_params("link"), "download.folder: link is, holds or lies in data/raw,"),
    (local_params("elsewhere/raw"), "download.folder: elsewhere/raw is, holds or lies in data/raw,"),
    (local_params("of_links"), "download.folder: of_links/train.zip is, holds or lies in data/raw,"),
    (with_corrections(), "prepare.corrections: corrections/mine.csv is, holds or lies in data/store"),
    (with_weights("models/two/fold1/weights.safetensors"), "network.weights: models/two/fold1/w"),
    (with_external(oof="ensemble/oof.csv"), "ensemble.external.0.oof: ensemble/oof.csv is, holds"),
    (with_external(test="submissions/tiny.csv"), "ensemble.external.0.test: submissions/tiny.csv"),
    (with_external(test="models/one/fold0/test.csv"), "ensemble.external.0.test: models/one/fold0"),
]  # fmt: skip


@pytest.mark.parametrize(("params", "said"), REFUSED)
@pytest.mark.parametrize("made", [True, False])
def test_an_input_that_a_stage_removes_is_refused(params: str, said: str, made: bool) -> None:
    if made:
        for folder in ("data/raw/mine", "data/hidden", "models/one/fold0"):
            Path(folder).mkdir(parents=True)
    for link, target in {
        "link": "data/raw", "elsewhere": "data", "of_links/train.zip": "../data/raw/train.zip",
        "corrections/mine.csv": "../data/store/train.csv",
    }.items():  # fmt: skip
        Path(link).parent.mkdir(exist_ok=True)
        Path(link).symlink_to(target)
    found = check(params)
    assert said in found
    assert "which the stages remove before they write it: your files would be lost. Move" in found
    assert "\n" not in found


def test_an_output_that_is_a_link_to_the_input_or_has_another_name_is_refused() -> None:
    fill(Path("mine"), {"a.zip": b"mine"})
    Path("data").mkdir()
    Path("data/raw").symlink_to("../mine")
    assert "download.folder: mine is, holds or lies in data/raw," in check(local_params("mine"))
    Path("data/raw").unlink()
    Path("data/raw").mkdir()
    Path("DATA").symlink_to("data")  # as on a disk that ignores the case of names
    assert "download.folder: DATA/raw is, holds or" in check(local_params("DATA/raw"))


@pytest.mark.parametrize(
    "params",
    [
        PARAMS,
        local_params("competitions/mine"),
        local_params("data-2024"),
        local_params("/mnt/data/raw"),
        local_params("data/source"),
        local_params("linked"),
        with_weights("models/pretrained/weights.safetensors"),
        with_weights("models/three/fold0/weights.safetensors"),
        with_external(),
        with_external(oof="models/theirs/oof.csv", test="submissions/theirs.csv"),
        PARAMS.replace("corrections: null", "corrections: corrections/plain.csv"),
    ],
)
def test_inputs_elsewhere_are_not_refused(params: str) -> None:
    fill(Path(), {"corrections/plain.csv": b"", "data/store/train.csv": b"", "mine/a.zip": b""})
    Path("linked").mkdir()
    Path("linked/a.zip").symlink_to("../mine/a.zip")
    # As with `dvc config cache.type symlink`: the same file in DVC's cache.
    fill(Path(".dvc/cache"), {"ab": b"a table"})
    Path("ensemble").mkdir()
    Path("theirs").mkdir()
    for link in ("ensemble/oof.csv", "theirs/oof.csv"):
        Path(link).symlink_to("../.dvc/cache/ab")
    assert check(params) == ""


def test_a_path_that_leads_nowhere_is_no_traceback() -> None:
    Path("loop").symlink_to("loop")
    assert check(local_params("loop")) == ""
    said = check(local_params('"a\\0b"'))
    assert said == "params.yaml: download.folder: expected a path, found 'a\\x00b'"


def test_the_outputs_are_those_of_dvc_yaml() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    written = {
        name
        for stage in stages.values()
        for kind in ("outs", "metrics", "plots")
        for out in stage.get(kind, [])
        for name in ([out] if isinstance(out, str) else out)
    }
    values = {"ensemble.name": "a", "item.member": "m", "item.fold": "0"}
    for name, value in values.items():
        written = {each.replace(f"${{{name}}}", value) for each in written}
    found = {path.as_posix() for path in paths.outputs("a", ["m"], [0])}
    assert found == written | {"data/.download", ".resume", "live"}


# With DVC


def dvc_repro(project: Path, params: str, *stages: str) -> str:
    """What a `dvc repro` says that is refused; the parameters' header is a comment."""
    (project / "params.yaml").write_text(params)
    done = run(project, "dvc", "repro", *stages)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


@pytest.mark.slow
def test_plain_dvc_repro_removes_no_input_and_no_file_of_a_person(
    trained: Path, tmp_path: Path
) -> None:
    project = copy_project(trained, tmp_path / "project")
    params = (project / "params.yaml").read_text()
    fill(project, {"submissions/mine.csv": b"id,label\n", "submissions/mine.json": b"{}"})
    half = ("data/.raw.partial/a", "models/one/.fold0.999999999.partial/a")
    fill(project, dict.fromkeys(half, b"half"))
    data = digests(project, "data/raw/*", "submissions/*", "models/*/fold*/*")
    said = dvc_repro(project, params.replace("name: tiny", "name: mine"), "ensemble")
    assert "OutputError: submissions/mine.csv: expected nothing there, or what this" in said
    assert not [*project.glob("data/.*"), *project.glob("models/*/.*")]
    (project / "data/raw/mine.zip").write_bytes(b"the only copy")
    (project / "link").symlink_to("data/raw")
    place = params[params.index("download:") : params.index("prepare:")]
    said = dvc_repro(project, params.replace(place, "download: {source: local, folder: link}\n"))
    assert "ConfigError: params.yaml: download.folder: link is, holds or lies in data/raw" in said
    assert "Running stage 'download'" not in said
    (project / "data/raw/mine.zip").unlink()
    assert digests(project, "data/raw/*", "submissions/*", "models/*/fold*/*") == data


@pytest.mark.slow
def test_a_changed_parameter_of_one_stage_runs_the_check_and_no_other_stage_before(
    trained: Path, tmp_path: Path
) -> None:
    project = copy_project(trained, tmp_path / "project")
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("resamples: 200", "resamples: 201", 1))
    before = digests(project, "submissions/*")
    done = run(project, "dvc", "repro", "ensemble")
    assert done.returncode == 0, done.stdout
    ran = [line for line in done.stdout.splitlines() if line.startswith("Running stage")]
    assert ran == ["Running stage 'params':", "Running stage 'ensemble':"]
    assert digests(project, "submissions/*") != before  # its own submission and card are replaced
    (project / "params.yaml").write_text(f"{(project / 'params.yaml').read_text()}# a comment\n")
    assert "Running" not in run(project, "dvc", "repro", "ensemble").stdout


@pytest.mark.slow
def test_outputs_that_dvc_refuses_behind_a_link_stop_it_before_the_download(
    tmp_path: Path,
) -> None:
    project = make_project(tmp_path / "project", PARAMS)
    (tmp_path / "disk").mkdir()
    (project / "data").symlink_to("../disk")
    said = dvc_repro(project, PARAMS)
    link = f"data: expected a folder in this repository, found a link to {tmp_path}/disk, where"
    assert f"ConfigError: {link} DVC refuses outputs. Put a folder there; to keep large" in said
    assert "Running stage 'download'" not in said
    assert not list((tmp_path / "disk").iterdir())
    assert stage(project, "split").stdout.startswith("TableError: ")  # without DVC it may


def test_a_clone_on_windows_has_the_same_bytes(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    files = {
        "a.csv": b"id\r\nx\r\n",
        "b.csv": b"id\nx\n",
        "ledger.csv": b"id\n",
        "b.json": b"{\n}\n",
    }
    fill(project / "submissions", files)
    fill(project / "corrections", {"mine.csv": b"id\r\n"})
    commit_all(project, "data")
    clone = tmp_path / "clone"
    done = run(tmp_path, "git", "-c", "core.autocrlf=true", "clone", "--quiet", "project", "clone")
    assert done.returncode == 0, done.stdout
    patterns = ("submissions/*", "corrections/*", "pipeline/**/*.py", "pipeline/**/*.j2", "*.yaml")
    assert digests(clone, *patterns) == digests(project, *patterns)
    assert len(digests(clone, *patterns)) > 100
    assert run(clone, "git", "status", "--porcelain").stdout == ""
    merge = run(clone, "git", "check-attr", "merge", "submissions/ledger.csv").stdout
    assert merge == "submissions/ledger.csv: merge: union\n"
