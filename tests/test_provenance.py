"""A commit makes a submission, or it is said what is missing, and doing that is enough."""

import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from competing import commit, copy_dvc, git, init
from pictures import fill
from project import PARAMS, run

from pipeline.commands import repro
from pipeline.core.errors import GitError, TableError
from pipeline.core.files import sha256_of
from pipeline.ledger import git as git_module
from pipeline.ledger import provenance
from pipeline.ledger.git import NOT_INSTALLED
from pipeline.ledger.provenance import explain_obstacles, trace

FILE = Path("submissions/tiny.csv")
# A pipeline of the same form that takes no time: its submission is all that its stages read.
DVC_YAML = """\
stages:
  train:
    cmd: mkdir -p models && cat pipeline/train/* corrections/* > models/net
    params: [train]
    deps: [pipeline/train, corrections]
    outs: [models]
  ensemble:
    cmd: mkdir -p submissions && cat models/net pipeline/ensemble/* > submissions/tiny.csv
    params: [ensemble]
    deps: [pipeline/ensemble, models]
    outs:
      - submissions/tiny.csv: {cache: false}
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "project"
    names = ("pipeline/__init__.py", "pipeline/train/a.py", "pipeline/ensemble/a.py")
    fill(folder, {name: name.encode() for name in (*names, "corrections/one.csv", "notes.txt")})
    (folder / "params.yaml").write_text(PARAMS)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / ".gitignore").write_text("/models\n/hidden\n/.venv\n")
    copy_dvc(folder)
    init(folder)
    done = run(folder, "dvc", "repro")
    assert done.returncode == 0, done.stdout
    commit(folder)
    return folder


@pytest.fixture
def made(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose commit makes its submission."""
    folder = Path(shutil.copytree(base, tmp_path / "project", symlinks=True))
    monkeypatch.chdir(folder)
    return folder


def obstacles() -> str:
    return explain_obstacles(trace(FILE).obstacles)


def shell(commands: str) -> None:
    done = run(Path(), "bash", "-ec", commands)
    assert done.returncode == 0, done.stdout


def repro_and_commit() -> None:
    """What README says after a change."""
    shell("dvc repro && git commit --quiet --all --message work")


EXTERNAL = (
    "external: [{name: anna, oof: mate/oof.csv, test: mate/test.csv, folds: checked, "
    f"sha256: {'a' * 64}}}]"
)
COMMIT = "Run: git add --all && git commit"
NEW = f"1 inputs are in no commit (first: %s). {COMMIT}"


STALE = "1 stages are out of date (first: %s). Run: dvc repro"


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("sed -i 's/lr: 0.01/lr: 0.02/' params.yaml", STALE % "train: params.yaml modified"),
        ("sed -i 's/stack_l2: 1.0/stack_l2: 2.0/' params.yaml", STALE % "ensemble: params.yaml modified"),
        ("echo more >> pipeline/train/a.py", STALE % "train: pipeline/train modified"),
        ("echo more >> corrections/one.csv", STALE % "train: corrections modified"),
        ("sed -i 's/cat models/cat  models/' dvc.yaml", STALE % "ensemble: changed command"),
        ("echo more > pipeline/b.py", NEW % "pipeline/b.py"),
        ("echo more > pipeline/train/b.py", NEW % "pipeline/train/b.py"),
        ("echo more > corrections/two.csv", NEW % "corrections/two.csv"),
        ("echo '*.csv' >> .git/info/exclude; echo more > 'corrections/a b.csv'",
         "1 inputs are in no commit (first: corrections/a b.csv). Run: git add --force 'corrections/a b.csv' && git commit"),
        ("echo more > ../elsewhere; ln -s ../../elsewhere corrections/two.csv; git add corrections",
         "1 inputs are links or outside the repository (first: corrections/two.csv, in truth "),
        ("ln -s one.csv corrections/two.csv", "1 inputs are links or outside the repository (first: corrections/two.csv, in truth "),
        ("git init --quiet corrections/sub; echo more > corrections/sub/a; sed -i 's/corrections.$/corrections, corrections\\/sub\\/a]/' dvc.yaml",
         "1 inputs are in no commit (first: corrections/sub/a)"),
    ],
)  # fmt: skip
def test_what_the_commit_does_not_make_is_an_obstacle(change: str, said: str) -> None:
    """Also where all that git tracks is committed; what DVC says of the same change comes last."""
    shell(f"{change}; git commit --quiet --all --allow-empty --message work")
    told = obstacles()
    first, then = said.split(". Run: ") if ". Run: " in said else (said, "")
    assert told.startswith(first)
    assert told.endswith(then)


@pytest.mark.usefixtures("made")
def test_a_change_that_git_is_told_to_overlook_is_seen() -> None:
    shell("git update-index --skip-worktree dvc.lock")
    shell("git update-index --assume-unchanged pipeline/train/a.py")
    assert not obstacles()
    shell("echo more >> pipeline/train/a.py && dvc repro && git add submissions")
    shell('git commit --quiet --message work && test -z "$(git status --porcelain)"')
    assert obstacles() == (
        f"2 files differ from the commit (first: dvc.lock, pipeline/train/a.py). {COMMIT}"
    )
    assert trace(FILE).commit.endswith("-dirty")


@pytest.mark.slow
@pytest.mark.usefixtures("made")
def test_doing_what_the_obstacles_say_removes_them() -> None:
    shell("sed -i 's/lr: 0.01/lr: 0.02/' params.yaml; echo more > pipeline/train/b.py")
    told = obstacles()
    assert told == (
        "1 files differ from the commit (first: params.yaml); 1 inputs are in no commit (first: "
        "pipeline/train/b.py); 1 stages are out of date (first: train: pipeline/train modified). "
        "Run: dvc repro, then git add --all && git commit"
    )
    commands = told.partition("Run: ")[2].replace(", then ", " && ")
    shell(f"export GIT_EDITOR='f() {{ echo work > $1; }}; f'; {commands}")
    assert not obstacles()


@pytest.mark.usefixtures("made")
def test_what_changes_no_result_is_no_obstacle() -> None:
    """A commit that is detached but in a branch, scratch files, and what is only staged."""
    shell("git commit --quiet --allow-empty --message more && git checkout --quiet --detach HEAD~")
    fill(Path(), {"submissions/ledger.csv": b"a", "scratch.txt": b"a", "hidden/a": b"a"})
    shell("mkdir -p pipeline/train/__pycache__ && touch pipeline/train/__pycache__/a.pyc")
    shell(
        "touch pipeline/train/a.py; echo more >> notes.txt; git add notes.txt; git show HEAD:notes.txt > notes.txt"
    )
    Path(".dvcignore").write_text("__pycache__/\n")
    assert obstacles() == NEW % ".dvcignore"
    shell("git add .dvcignore && git commit --quiet --message dvcignore -- .dvcignore")
    assert obstacles() == (
        "the commit is in no branch, so git may delete it. Run: git switch -c NAME"
    )
    shell("git branch here")
    assert not obstacles()


@pytest.mark.usefixtures("made")
def test_a_shallow_clone_has_all_that_a_rebuild_needs(tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{Path().resolve()}", "shallow")
    with chdir(tmp_path / "shallow"):
        shutil.copytree(tmp_path / "project" / ".dvc" / "cache", ".dvc/cache")
        shell("dvc checkout")
        assert not obstacles()


@pytest.mark.slow
def test_the_files_that_the_parameters_name_are_in_the_commit(made: Path) -> None:
    (made / "params.yaml").write_text(PARAMS.replace("external: []", EXTERNAL))
    files = ["mate/oof.csv", "mate/test.csv"]
    shell("dvc repro && git commit --quiet --all --message work")
    assert obstacles() == "; ".join(f"params.yaml: {file} is missing" for file in files)
    fill(made, dict.fromkeys(files, b"a"))
    assert obstacles() == f"2 inputs are in no commit (first: {', '.join(files)}). {COMMIT}"
    shell("git add mate && git commit --quiet --message work")
    assert not obstacles()


def test_a_file_whose_hash_the_parameters_have_needs_only_its_bytes(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(made, {"hidden/w": b"a"})
    pin = sha256_of(made / "hidden/w")
    monkeypatch.setattr(provenance, "named_inputs", lambda _: {Path("hidden/w"): pin})
    assert not obstacles()
    (made / "hidden/w").write_bytes(b"b")
    assert obstacles() == "params.yaml: hidden/w is not what its SHA-256 says"


# A repository that is no answer


def conflict(folder: Path) -> None:
    """A merge that stopped, with two versions of dvc.lock."""
    git(folder, "checkout", "--quiet", "-b", "other")
    text = (folder / "dvc.lock").read_text()
    (folder / "dvc.lock").write_text(text.replace("size: ", "size: 1"))
    commit(folder)
    git(folder, "checkout", "--quiet", "-")
    (folder / "dvc.lock").write_text(text.replace("size: ", "size: 2"))
    commit(folder)
    run(folder, "git", "merge", "other")


RESTORE = "Run: git checkout HEAD -- dvc.lock, then dvc repro"


def test_an_unfinished_merge_is_named_with_its_file(made: Path) -> None:
    conflict(made)
    assert obstacles() == (
        "1 files differ from the commit (first: dvc.lock); a merge is not finished; dvc.lock: "
        f"line 9: an unresolved merge (<<<<<<< HEAD). {RESTORE}, then git add --all && git commit"
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "expected what DVC writes, found None"),
        (b"- a\n", "expected what DVC writes, found ['a']"),
        (b"schema: '2.0'\n", "expected what DVC writes, found stages: Field required"),
        (b"stages: 3\n", "expected what DVC writes, found stages: Input should be a valid dictionary"),
        (b"stages: {a: {outs: [{md5: 1}]}}\n", "expected what DVC writes, found stages.a.outs.0.path: Field required"),
        (b"stages: {a: 1\n", "line 2: expected ',' or '}', but got '<stream end>'"),
        (b"stages: {a: {}, a: {}}\n", 'line 1: found duplicate key "a" with value "{}" (original value: "{}")'),
        (b"\xff", "expected UTF-8 text: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)  # fmt: skip
def test_what_dvc_did_not_write_is_no_lock(made: Path, content: bytes, found: str) -> None:
    (made / "dvc.lock").write_bytes(content)
    assert obstacles().endswith(f"; dvc.lock: {found}. {RESTORE}, then git add --all && git commit")


def test_a_run_says_what_is_wrong_with_the_lock_or_that_there_is_no_repository(made: Path) -> None:
    (made / "dvc.lock").write_bytes(b"")
    with pytest.raises(TableError, match=r"dvc.lock: expected what DVC writes, found None. Run: "):
        repro.reproduce([])
    shutil.rmtree(".git")
    with pytest.raises(GitError, match=r"project: is no git repository \(a downloaded zip is none"):
        repro.reproduce([])


def fake_git(folder: Path, monkeypatch: pytest.MonkeyPatch, word: str, answer: str) -> None:
    """A git that gives this answer to one command, and is itself for all others."""
    real = shutil.which("git")
    script = folder / "bin" / "git"
    script.parent.mkdir(exist_ok=True)
    script.write_text(
        f'#!/bin/sh\ncase " $* " in *" {word} "*) {answer};; esac\nexec {real} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("word", "answer", "said"),
    [
        ("status", "echo fatal: a bad disk >&2; exit 128", "status --porcelain -z --no-renames --untracked-files=no --ignore-submodules=untracked -- . :!submissions/ledger.csv: fatal: a bad disk"),
        ("status", "exec sleep 60", "git status: no answer within 0.5 s"),
        ("read-tree", "kill -9 $$", "read-tree HEAD: exit code -9"),
        ("ls-tree", "exit 3", "ls-tree -r -z HEAD: exit code 3"),
        ("for-each-ref", "exit 4", "HEAD refs/heads refs/remotes refs/tags: exit code 4"),
    ],
)  # fmt: skip
def test_a_git_that_fails_is_no_clean_tree(
    made: Path, monkeypatch: pytest.MonkeyPatch, word: str, answer: str, said: str
) -> None:
    monkeypatch.setattr(git_module, "TIMEOUT_S", 0.5 if "sleep" in answer else 30)
    fake_git(made.parent, monkeypatch, word, answer)
    assert obstacles().startswith("git ")
    assert obstacles().endswith(said)
    assert trace(FILE).commit.endswith("-dirty")


def test_a_dvc_that_fails_is_no_clean_tree(made: Path) -> None:
    """Another DVC holds its lock; dvc.yaml is none; it lacks the stage of dvc.lock."""
    (made / ".dvc/tmp").mkdir(exist_ok=True)
    hold = "import sys, zc.lockfile as z; held = z.LockFile('.dvc/tmp/lock'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=-1, stdout=-1) as other:
        assert other.stdout
        other.stdout.readline()
        assert obstacles().startswith("dvc status: Unable to acquire lock. Most likely another DVC")
        other.kill()
    for text, said in (
        ("stages: 3\n", "'./dvc.yaml' validation failed: expected a dictionary"),
        ("stages: {}\n", "'ensemble' does not exist as an output"),
    ):
        (made / "dvc.yaml").write_text(text)
        commit(made)
        assert obstacles().startswith(f"dvc status: {said}")


START = "is no git repository (a downloaded zip is none). Run: git init && git add --all && git commit -m start"


def test_what_is_no_readable_repository_is_said_in_one_sentence(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert obstacles() == (
        f"{made}: belongs to another user. If you trust it, run: git config --global --add "
        f"safe.directory {made}"
    )
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    shutil.rmtree(".git")
    assert obstacles() == f"{made}: {START}"
    assert trace(FILE).commit == ""
    init(made)
    assert obstacles() == f"{made}: no commit yet. Run: git add --all && git commit -m start"
    monkeypatch.setenv("PATH", str(made))
    assert obstacles() == NOT_INSTALLED
