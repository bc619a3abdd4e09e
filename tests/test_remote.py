"""A DVC remote with colleagues: real git, real DVC, a folder as the remote."""

import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import test_cluster
from dvc_objects.fs.local import FsspecLocalFileSystem
from dvc_objects.fs.utils import tmp_fname
from project import (
    PARAMS,
    commit_all,
    copy_project,
    digests,
    local_params,
    make_project,
    run,
    stage,
)
from test_cluster import RESULTS, Nodes, on, project_of

from pipeline.cluster.order import Luggage
from pipeline.cluster.stored import send_store
from pipeline.commands import sync
from pipeline.core.errors import PipelineError, TrainError

SMALL = """\
stages:
  prepare:
    cmd: mkdir -p data/store/deep && cp input data/store/a && echo b > data/store/deep/b
    deps: [input]
    outs: [data/store]
  train:
    matrix: {member: [one], fold: [0, 1]}
    cmd: mkdir -p models/one/fold${item.fold} && echo ${item.fold} > models/one/fold${item.fold}/w
    deps: [data/store]
    outs: ["models/one/fold${item.fold}"]
"""
CONFIG = "[core]\n    remote = shelf\n['remote \"shelf\"']\n    url = {}\n"
STORED = {"data/store/a": "first", "data/store/deep/b": "b\n"}
MADE = ["data/store/*", "data/store/deep/*", "models/one/*/*"]
EVERYTHING = [
    "data/raw/*", "data/hidden/*", "data/store/*", "data/audit.json", "folds/*", "models/*/*/*",
    "ensemble/*", "submissions/*", "explain/*/*", "reports/*", "dvc.lock", "params.yaml",
]  # fmt: skip
Said = Callable[[], str]
nodes = test_cluster.nodes


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of three quick stages, which ran, with a folder as its remote."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("small") / "project"
    folder.mkdir()
    for command in (
        ("git", "init", "--quiet"),
        ("git", "config", "user.email", "test@example.org"),
        ("git", "config", "user.name", "test"),
    ):
        assert run(folder, *command).returncode == 0
    (folder / "dvc.yaml").write_text(SMALL)
    (folder / "input").write_text("first")
    (folder / ".gitignore").write_text("/data\n/models\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Repo.init().close()
        with Repo() as repo:
            repo.reproduce()
    commit_all(folder, "run")
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder: a copy of it, with the empty remote `shelf` beside it."""
    folder = copy_project(template, tmp_path / "project")
    use_remote(folder, tmp_path / "shelf")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return lambda: str(capsys.readouterr().err)


def use_remote(project: Path, url: Path | str) -> None:
    (project / ".dvc/config").write_text(CONFIG.format(url))
    commit_all(project, "remote")


def clone(project: Path, folder: Path) -> Path:
    """What a colleague has: the commits, and nothing that git ignores."""
    done = run(folder.parent, "git", "clone", "--quiet", str(project), str(folder))
    assert done.returncode == 0, done.stdout
    return folder


def object_of(root: Path, content: str) -> Path:
    """The object of DVC's, in a cache or a remote, that has this content."""
    (found,) = [
        file
        for file in (root / "files").rglob("*")
        if file.is_file() and file.read_bytes() == content.encode()
    ]
    return found


def error_of(command: Callable[[], None]) -> str:
    with pytest.raises(PipelineError) as caught:
        command()
    return str(caught.value)


def test_a_clone_gets_by_pull_what_push_has_sent_and_each_again_moves_nothing(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    sync.push()
    assert f"sent to remote shelf ({tmp_path}/shelf): 7 files, 0.0 MB; 0 were there." in said()
    sync.push()
    assert ": 0 files, 0.0 MB; 7 were there. Its cache of runs has 0 trainings more\n" in said()
    other = clone(project, tmp_path / "clone")
    monkeypatch.chdir(other)
    sync.pull()
    assert ": 7 files, 0.0 MB. Placed: 4 files of 3 stages. The cache of runs has 2" in said()
    assert digests(other, *MADE) == digests(project, *MADE)
    sync.pull()
    assert ": 0 files, 0.0 MB. Placed: 0 files of 3 stages." in said()
    assert run(other, "git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize("command", [sync.push, sync.pull])
def test_without_a_default_remote_the_command_that_adds_one_is_named(
    project: Path, command: Callable[[], None]
) -> None:
    (project / ".dvc/config").write_text("")
    assert error_of(command) == (
        f"{command.__name__}: expected a default remote of DVC, found none. Run: dvc remote add "
        "--default NAME URL (a folder that all see, s3://…, ssh://…), and commit .dvc/config"
    )


@pytest.mark.parametrize("command", [sync.push, sync.pull])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("{}/no/such/shelf", "no such folder, nor the one that it would be in. Mount the disk"),
        ("s3://shelf/deep", "requires 'dvc-s3' to be installed. Check .dvc/config"),
        ("http://127.0.0.1:1/shelf", "ClientConnectorError: "),
        ("remote://gone/x", "remote 'gone' doesn't exist. Check .dvc/config"),
    ],
)
def test_a_remote_that_cannot_be_reached_is_one_sentence(
    project: Path, tmp_path: Path, command: Callable[[], None], url: str, reason: str
) -> None:
    use_remote(project, url.format(tmp_path))
    message = error_of(command)
    assert message.startswith(f"{command.__name__}: remote shelf ")
    assert reason in message
    assert "\n" not in message


def test_a_folder_to_which_nobody_has_pushed_is_said_by_pull(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone(project, tmp_path / "clone"))
    assert error_of(sync.pull) == (
        f"pull: remote shelf ({tmp_path}/shelf): no such folder. Nobody has run make push yet, or "
        "its disk is not mounted"
    )


def test_a_remote_that_cannot_be_written_or_read_is_one_sentence(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    shelf = tmp_path / "shelf"
    with monkeypatch.context() as patch:
        patch.setattr(FsspecLocalFileSystem, "put_file", full)
        assert error_of(sync.push) == (
            f"push: remote shelf ({shelf}): 4 of 4 files could not be copied: OSError: [Errno 28] "
            "No space left on device. What was copied stays: the same command goes on from there"
        )
    shutil.rmtree(shelf)
    shelf.mkdir()
    (shelf / "files").write_text("in the way")
    other = clone(project, tmp_path / "clone")
    for command, folder in ((sync.push, project), (sync.pull, other)):
        monkeypatch.chdir(folder)
        message = error_of(command)
        assert (
            f"{command.__name__}: remote shelf ({shelf}) cannot be read: NotADirectory" in message
        )


def test_push_names_the_stages_whose_outputs_are_nowhere_and_sends_all_else(
    project: Path, tmp_path: Path, said: Said
) -> None:
    object_of(project / ".dvc/cache", "b\n").unlink()
    assert error_of(sync.push).startswith(
        "push: expected in DVC's cache or in the remote what dvc.lock names, found neither for "
        "1 stage (first: prepare); all else was sent. Where the outputs are in their place, run: "
        "dvc commit prepare; else: make run"
    )
    assert "sent to remote shelf" in said()
    lists = [*(tmp_path / "shelf/files").rglob("*.dir")]
    assert len(lists) == 2  # of the networks; that of data/store would promise a file
    assert run(project, "dvc", "commit", "prepare").returncode == 0
    sync.push()
    assert len([*(tmp_path / "shelf/files").rglob("*.dir")]) == 3


def test_push_says_what_a_colleague_will_not_have(project: Path, said: Said) -> None:
    (project / "input").write_text("second")
    (project / "dvc.yaml").write_text(SMALL.replace("fold: [0, 1]", "fold: [0, 1, 2]"))
    sync.push()
    found = said()
    assert "no commit holds 2 files (first: dvc.yaml, input): a colleague's clone will not" in found
    assert (
        "2 stages out of date (first: prepare, train@one-2): what dvc.lock names is sent" in found
    )
    assert "dvc.lock names no outputs of 1 stage (first: train@one-2), which never ran" in found


def test_pull_names_the_stages_that_the_remote_lacks_and_places_all_else(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.push()
    object_of(tmp_path / "shelf", "b\n").unlink()
    other = clone(project, tmp_path / "clone")
    monkeypatch.chdir(other)
    assert error_of(sync.pull) == (
        f"pull: remote shelf ({tmp_path}/shelf) lacks what 1 stage of dvc.lock made (first: "
        "prepare); all else is here. Who made it must run make push; or make run computes it here"
    )
    networks = digests(project, "models/one/*/*")
    assert digests(other, *MADE) == networks
    monkeypatch.chdir(project)
    sync.push()
    monkeypatch.chdir(other)
    sync.pull()
    assert digests(other, *MADE) == digests(project, *MADE)


def test_a_damaged_file_in_the_remote_is_named_and_never_placed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.push()
    damaged = object_of(tmp_path / "shelf", "b\n")
    damaged.chmod(0o644)
    damaged.write_text("c\n")
    damaged.chmod(0o444)
    other = clone(project, tmp_path / "clone")
    monkeypatch.chdir(other)
    message = error_of(sync.pull)
    assert "lacks what 1 stage of dvc.lock made (first: prepare); all else is here." in message
    assert f" Damaged there, to be deleted: (first: {damaged})." in message
    assert not (other / "data").exists()


def test_pull_never_replaces_a_file_of_the_users_own(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.push()
    other = clone(project, tmp_path / "clone")
    monkeypatch.chdir(other)
    (other / "models/one/fold1").mkdir(parents=True)
    (other / "models/one/fold1/w").write_text("mine")
    message = error_of(sync.pull)
    assert "found 1 file that differ and are in no cache (first: models/one/fold1/w)" in message
    assert digests(other, *MADE) == {"models/one/fold1/w": b"mine"}
    (other / "models/one/fold1/w").unlink()
    sync.pull()
    assert digests(other, *MADE) == digests(project, *MADE)


def test_what_a_killed_pull_has_half_placed_does_not_stop_the_next_one(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.push()
    other = clone(project, tmp_path / "clone")
    monkeypatch.chdir(other)
    half, own = (other / "data/store/deep" / name for name in (tmp_fname(), ".mine.tmp"))
    half.parent.mkdir(parents=True)
    for file in (half, own):
        file.write_text("half")
    assert "(first: data/store/deep/.mine.tmp)" in error_of(sync.pull)
    own.unlink()
    sync.pull()
    assert digests(other, *MADE) == digests(project, *MADE)
    assert not half.exists()


@pytest.mark.parametrize("command", ["push", "pull"])
def test_what_ctrl_c_stopped_goes_on_with_the_same_command(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    other = clone(project, tmp_path / "clone")
    if command == "pull":
        sync.push()
        monkeypatch.chdir(other)
    copy, copied = FsspecLocalFileSystem.put_file, []

    def stop(self: object, source: str, target: str, **options: object) -> None:
        if len(copied) == 3:
            raise KeyboardInterrupt
        copied.append(target)
        copy(self, source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(FsspecLocalFileSystem, "put_file", stop)
        with pytest.raises(KeyboardInterrupt):
            getattr(sync, command)()
    getattr(sync, command)()
    monkeypatch.chdir(other)
    sync.pull()
    assert digests(other, *MADE) == digests(project, *MADE)


def test_the_store_is_sent_once_for_the_nodes_of_a_cluster_by_its_files(
    project: Path, tmp_path: Path, said: Said
) -> None:
    sent = send_store()
    assert {path: object_of(tmp_path / "shelf", text) for path, text in STORED.items()} == {
        path: tmp_path / "shelf/files/md5" / md5[:2] / md5[2:] for path, md5 in sent.items()
    }
    assert ": 3 files, 0.0 MB; nodes fetch 2 files from there" in said()
    assert send_store() == sent
    assert ": 0 files, 0.0 MB; nodes fetch 2 files from there" in said()
    object_of(project / ".dvc/cache", "b\n").unlink()
    with pytest.raises(TrainError, match="data/store is not whole in DVC's cache. Run: dvc commit"):
        send_store()


@pytest.mark.parametrize(
    ("committed", "present", "found"),
    [
        ("../shelf", "../shelf", "at an address that each node can use, found '/"),
        ("", "", "at an address that each node can use, found none. Run: dvc remote add --force"),
        ("/a/shelf", "/b/shelf", ".dvc/config goes to the nodes, and is not as in the last commit"),
    ],
)
def test_a_remote_that_nodes_would_not_find_is_refused(
    project: Path, tmp_path: Path, committed: str, present: str, found: str
) -> None:
    """config.local, which names it here, stays here."""
    use_remote(project, committed) if committed else None
    config = project / ".dvc/config"
    (project / ".dvc/config.local").write_text(CONFIG.format(tmp_path / "shelf"))
    config.write_text(CONFIG.format(present) if present else "")
    with pytest.raises(TrainError, match=re.escape(found)):
        send_store()
    assert not (tmp_path / "shelf").exists()


def test_a_password_in_an_address_is_not_shown(project: Path, tmp_path: Path) -> None:
    url = "https://me:SECRET@example.org/shelf"
    (project / ".dvc/config").write_text(CONFIG.format(url).replace("remote = shelf", ""))
    (project / ".dvc/config.local").write_text(CONFIG.format(tmp_path / "shelf"))
    message = error_of(lambda: [send_store()].clear())
    assert "found 'https://***@example.org/shelf'. Run: dvc remote add --force" in message


def test_files_that_are_no_runs_stop_neither_push_nor_pull(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    """As file managers leave them, and a copy that was interrupted."""
    sync.push()
    runs = tmp_path / "shelf/runs"
    first = min(runs.glob("*/*/*"))
    first.rename(first.with_name(".half.tmp"))
    for place in (runs, first.parent.parent):
        (place / ".DS_Store").write_text("")
    sync.push()
    assert "Its cache of runs has 1 training more" in said()
    assert first.is_file()
    monkeypatch.chdir(clone(project, tmp_path / "clone"))
    sync.pull()
    assert "The cache of runs has 2 trainings more" in said()
    sync.pull()


def test_what_nodes_fetch_from_the_remote_goes_no_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("large").write_bytes(bytes(1000))
    Path("small").write_bytes(bytes(10))
    luggage = Luggage(b"code", {"large": "1" * 64, "small": "2" * 64}, "", {"1" * 64: "md5"})
    assert luggage.size == 14
    assert [*luggage.contents().values()] == [Path("small"), b"code"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nodes_fetch_the_store_from_the_remote_or_say_that_they_cannot(
    nodes: Nodes, tmp_path: Path
) -> None:
    """They have another way to it than this machine, and at first a wrong one."""
    params = PARAMS.replace("[one, two]", "[one]").replace("folds: [0, 1]", "folds: [0]")
    serial = project_of(params, tmp_path / "serial")
    project = copy_project(serial, tmp_path / "project")
    assert stage(serial, "repro", "train").returncode == 0
    use_remote(project, tmp_path / "nowhere")
    own = project / ".dvc/config.local"
    own.write_text(CONFIG.format(tmp_path / "shelf"))
    done = stage(project, *on(nodes, "--remote"))
    assert done.returncode == 1
    assert "1 of 1 trainings failed" in done.stdout
    assert "one fold 0 (.resume/logs/train@one-0.log): OSError: DVC's remote gave this node no" in (
        done.stdout
    )
    assert f"No such file or directory: '{tmp_path}/nowhere/files/" in done.stdout
    assert "Traceback" not in done.stdout
    own.unlink()
    use_remote(project, tmp_path / "shelf")
    done = stage(project, *on(nodes, "--remote"))
    assert done.returncode == 0, done.stdout
    assert digests(project, *RESULTS) == digests(serial, *RESULTS)


def run_all(project: Path) -> str:
    """What `make run` does."""
    said = []
    for command in ("jobs", "repro", "summary"):
        done = stage(project, command)
        assert done.returncode == 0, done.stdout
        said.append(done.stdout)
    return "".join(said)


def assert_nothing_computed(said: str) -> None:
    """Only check and params ran, whose outputs are neither in DVC's cache nor in git."""
    assert "nothing to train: every model and fold is up to date\n" in said
    ran = {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")}
    assert ran == {"params", "check"}


@pytest.mark.slow
def test_a_clone_of_a_pushed_project_computes_nothing_and_restores_earlier_trainings(
    trained: Path, tmp_path: Path
) -> None:
    project = copy_project(trained, tmp_path / "project")
    params = (project / "params.yaml").read_text()
    assert "lr: 0.01" in params
    (project / "params.yaml").write_text(params.replace("lr: 0.01", "lr: 0.02"))
    assert stage(project, "repro", "-s", "train@one-0").returncode == 0
    earlier = digests(project, "models/one/fold0/*")
    for command in (("git", "checkout", "--quiet", "."), ("dvc", "checkout", "train@one-0")):
        assert run(project, *command).returncode == 0
    use_remote(project, tmp_path / "shelf")
    done = stage(project, "push")
    assert done.returncode == 0, done.stdout
    other = clone(project, tmp_path / "clone")
    done = stage(other, "pull")
    assert done.returncode == 0, done.stdout
    assert_nothing_computed(run_all(other))
    expected = digests(project, *EVERYTHING)
    assert len(expected) > 40
    assert digests(other, *EVERYTHING) == expected
    (other / "params.yaml").write_text(params.replace("lr: 0.01", "lr: 0.02"))
    done = stage(other, "repro", "-s", "train@one-0")
    assert "Stage 'train@one-0' is cached - skipping run" in done.stdout
    assert digests(other, "models/one/fold0/*") == earlier != digests(trained, "models/one/fold0/*")


@pytest.mark.slow
def test_a_clone_without_the_folder_of_a_local_competition_computes_nothing(
    trained: Path, tmp_path: Path
) -> None:
    """Its images lie in no archive, so that data/raw only refers to them."""
    source = tmp_path / "source"
    shutil.copytree(trained / "data/raw", source)
    for archive in source.glob("*.zip"):
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(source)
        archive.unlink()
    params = local_params(str(source)).replace("[one, two]", "[one]")
    project = make_project(tmp_path / "project", params)
    run_all(project)
    assert (project / "data/raw/.linked.json").is_file()
    use_remote(project, tmp_path / "shelf")
    assert stage(project, "push").returncode == 0
    source.rename(tmp_path / "elsewhere")
    other = clone(project, tmp_path / "clone")
    done = stage(other, "pull")
    assert done.returncode == 0, done.stdout
    assert_nothing_computed(run_all(other))
    assert digests(other, *EVERYTHING) == digests(project, *EVERYTHING)
