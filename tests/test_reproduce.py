"""What was submitted comes back, byte for byte, from its commit; and nothing else is touched."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from competing import commit, copy_dvc, git, init
from project import PARAMS, ROOT, environment, make_project, run

from pipeline.core import paths
from pipeline.core.errors import ReproduceError, TableError
from pipeline.core.files import sha256_of
from pipeline.ledger.commands import asking
from pipeline.ledger.ledger import Entry, append, read_ledger
from pipeline.ledger.provenance import trace
from pipeline.ledger.reproduce import find_entry, reproduce
from pipeline.ledger.verdict import Verdict, compare, report

FILE = "submissions/tiny.csv"
ONE_NETWORK = (
    PARAMS.replace("members: [one, two]", "members: [one]")
    .replace("  folds: [0, 1]", "  folds: [0]")
    .replace("epochs: 2\n", "epochs: 5\n")
)

# A pipeline of the same form that takes no time, for all that is not about networks. What lies
# beside the repository steers it: `look`, `broken` and `halt`.
WORK = """\
import os, pathlib, random, sys, time
beside, half = pathlib.Path(".."), pathlib.Path(".resume/half")
if (beside / "look").exists():
    home = pathlib.Path.home()
    seen = sorted(name for name in os.environ if name.startswith("KAGGLE"))
    seen += [str(path.relative_to(home)) for path in sorted(home.rglob("*"))]
    seen.append(str(pathlib.Path(os.environ.get("KAGGLE_CONFIG_DIR", "/nowhere")).is_relative_to(home)))
    (beside / "look").write_text(" ".join(seen))
if (beside / "broken").exists():
    sys.exit("the data are not there")
if sys.argv[1] == "train":
    if half.exists():
        print("continuing", flush=True)
        half.unlink()
    elif (beside / "halt").exists():
        half.parent.mkdir(exist_ok=True)
        half.touch()
        try:
            print("half trained", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(1)
            (beside / "ended").touch()
            sys.exit(130)
    pathlib.Path("models").mkdir(exist_ok=True)
    pathlib.Path("models/notes").write_text("trained")
    seed = [line for line in open("params.yaml") if line.startswith("seed")][0]
    labels = random.Random(seed).choices("01", k=24)
    pathlib.Path("models/labels").write_text("".join(labels))
else:
    labels = pathlib.Path("models/labels").read_text()
    rows = [f"t{row:02},{label}\\n" for row, label in enumerate(labels)]
    pathlib.Path("submissions/tiny.csv").write_text("id,label\\n" + "".join(rows))
"""
DVC_YAML = """\
stages:
  train:
    cmd: python work.py train
    params: [seed]
    deps: [work.py]
    outs: [models]
  ensemble:
    cmd: python work.py ensemble
    params: [ensemble]
    deps: [work.py, models]
    outs:
      - submissions/${ensemble.name}.csv:
          cache: false
  check:
    cmd: "false"
    deps: [models]
    outs: [report]
"""


@pytest.fixture(autouse=True)
def no_make_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MAKE")]:
        monkeypatch.delenv(name)


def record(project: Path, ref: str, **changes: str) -> Entry:
    """Add to the ledger that the present file was submitted, and commit that."""
    with chdir(project):
        known = trace(Path(FILE))
    moment = f"2026-01-01T00:00:{ref[-2:]}+00:00"
    fields = {"time": moment, "submitted": moment, "status": "complete", "competition": "cells"}
    fields |= {"file": FILE, "ref": ref, "mark": f"{known.sha256[:16]} #{ref}"}
    fields |= {"sha256": known.sha256, "commit": known.commit}
    entry = Entry(**(fields | changes))  # type: ignore[arg-type]
    append(project / paths.LEDGER, entry)
    commit(project)
    return entry


def rebuild(project: Path, what: str, **options: object) -> Verdict:
    with chdir(project):
        entry = find_entry(what, read_ledger(paths.LEDGER))
        return reproduce(entry, confirm=lambda _: True, **options)  # type: ignore[arg-type]


def snapshot(project: Path) -> dict[str, object]:
    """All that a user sees in the repository, ignored files too."""
    hidden = (project / ".git", project / ".dvc" / "cache", project / ".dvc" / "tmp")
    files = [path for path in project.rglob("*") if not path.is_dir()]
    return {
        "status": git(project, "status", "--porcelain", "--untracked-files=all"),
        "branch": git(project, "rev-parse", "HEAD", "--abbrev-ref", "HEAD"),
        "worktrees": git(project, "worktree", "list"),
    } | {
        str(path): (sha256_of(path), path.stat().st_mtime_ns)
        for path in files
        if not any(path.is_relative_to(folder) for folder in hidden)
    }


def write_small(project: Path) -> Path:
    """The project that takes no time, committed, before its first run."""
    (project / "submissions").mkdir(parents=True)
    (project / "work.py").write_text(WORK)
    (project / "dvc.yaml").write_text(DVC_YAML)
    (project / "params.yaml").write_text("seed: 1\nensemble: {name: tiny}\n")
    (project / "requirements.lock").write_text("one==1\n")
    (project / ".gitignore").write_text("/models\n/report\n/.resume\n/.venv\n/competitions\n")
    copy_dvc(project)
    init(project)
    commit(project)
    return project


def repro(project: Path) -> None:
    """Make the submission and commit it."""
    done = run(project, "dvc", "repro", "ensemble")
    assert done.returncode == 0, done.stdout
    commit(project)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Submitted once, as 101, with a file that no stage has made; for what needs no DVC."""
    project = write_small(tmp_path / "project")
    (project / FILE).write_text("id,label\nt00,1\n")
    commit(project)
    record(project, "101")
    return project


@pytest.fixture(scope="module")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_small(tmp_path_factory.mktemp("small") / "project")
    repro(project)
    record(project, "101")
    return project


@pytest.fixture
def ran(small_base: Path, tmp_path: Path) -> Path:
    """The small project after its run, submitted as 101."""
    return Path(shutil.copytree(small_base, tmp_path / "project", symlinks=True))


# What the ledger is asked for


def entry(ref: str, file: str = FILE, **changes: str) -> Entry:
    known = {"time": "", "status": "complete", "submitted": ref, "competition": "cells"}
    known |= {"file": file, "ref": ref, "mark": f"{file} {ref}"}
    return Entry(**(known | changes))  # type: ignore[arg-type]


LEDGER = [
    entry("101"),
    entry("102", "submissions/v1.2.csv", status="pending"),
    entry("103"),
    entry("104", "submissions/late.csv", submitted="999"),
    entry("", "submissions/late.csv", mark="lost", status="lost", submitted="9999"),
    entry("105", "submissions/late.csv"),
    entry("", "submissions/never.csv", status="refused"),
]


@pytest.mark.parametrize(
    ("what", "place"),
    [
        ("101", 0), ("103", 2), ("tiny", 2), ("submissions/tiny", 2), ("submissions/tiny.csv", 2),
        ("./submissions/../submissions/tiny.csv", 2), (str(Path(FILE).absolute()), 2),
        ("v1.2", 1), ("late", 3), ("never", 6),
    ],
)  # fmt: skip
def test_a_submission_is_found_by_its_number_and_by_its_file(what: str, place: int) -> None:
    assert find_entry(what, LEDGER) == LEDGER[place]


def test_the_ledgers_last_line_of_a_submission_is_found() -> None:
    pending = entry("", status="uploading", mark="a")
    scored = entry("101", status="complete", mark="a", public="0.9")
    assert find_entry("tiny", [pending, scored]) == scored


LISTED = "105 submissions/late.csv, no number submissions/never.csv"
LAST = ", ".join(f"{number} submissions/tiny.csv" for number in range(115, 125))
OLD, ELSEWHERE = entry("102", "old/tiny.csv"), entry("102", competition="other-cells")


@pytest.mark.parametrize(
    ("what", "entries", "problem"),
    [
        *((what, LEDGER[5:], f"no submission {what!r}. The last are: {LISTED}")
          for what in ("", "10", "in", "lat", "other/late.csv", "csv")),
        ("x", [entry(str(number)) for number in range(100, 125)], f"no submission 'x'. The last are: {LAST}"),
        ("tiny", [LEDGER[0], OLD], f"'tiny' may be any of: 101 {FILE}, 102 old/tiny.csv"),
        ("tiny", [LEDGER[0], ELSEWHERE], f"'tiny' may be any of: 101 {FILE}, 102 {FILE}"),
        ("101", [], "no submission '101'. The last are: none"),
    ],
)  # fmt: skip
def test_what_fits_no_submission_or_several_is_answered_with_the_ledgers(
    what: str, entries: list[Entry], problem: str
) -> None:
    with pytest.raises(ReproduceError) as error:
        find_entry(what, entries)
    assert str(error.value) == (
        f"submissions/ledger.csv: {problem}. Run: python -m pipeline reproduce NUMBER"
    )


# What is reported


KEPT = Path("/f/submissions/tiny.csv")
MADE = entry("101", commit="a" * 40, sha256="b" * 64)
DIRTY = dataclasses.replace(MADE, ref="", commit="a" * 40 + "-dirty")
START = "submissions/tiny.csv (submission 101): rebuilt from commit aaaaaaaaaaaa, "


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Verdict(MADE, None, "b" * 64, 9, [], None),
         START + "byte for byte what was submitted: 9 rows, SHA-256 bbbbbbbbbbbbbbbb."),
        (Verdict(DIRTY, KEPT, "b" * 64, 9, [], None),
         "submissions/tiny.csv: rebuilt from commit aaaaaaaaaaaa, byte for byte what was submitted: 9 rows, SHA-256 bbbbbbbbbbbbbbbb. It was made with changes that no commit holds. It is /f/submissions/tiny.csv."),
        (Verdict(MADE, KEPT, "c" * 64, 9, list("123456"), None),
         START + "but 6 of 9 rows differ (first: 1, 2, 3). It is /f/submissions/tiny.csv."),
        (Verdict(dataclasses.replace(MADE, metric="accuracy"), None, "c" * 64, 8, ["t1", "t2"], None),
         START + "but 2 of 8 rows differ (first: t1, t2): accuracy moves by at most 0.2500."),
        (Verdict(MADE, None, "c" * 64, 9, ["t1", "t2"], 1.25e-7),
         START + "but 2 of 9 rows differ (first: t1, t2), by at most 1.2e-07."),
        (Verdict(MADE, None, "c" * 64, 9, [], None),
         START + "other bytes, but all 9 rows say the same, so the score is the same."),
        (Verdict(MADE, None, "c" * 64, 0, [], None),
         START + "not the bytes that were submitted: SHA-256 cccccccccccccccc, the ledger has bbbbbbbbbbbbbbbb. The submitted file is neither in the folder nor in the commit."),
    ],
)  # fmt: skip
def test_the_report_says_what_was_found(found: Verdict, text: str) -> None:
    assert report(found) == text


@pytest.mark.parametrize(
    ("metric", "rebuilt", "different", "farthest"),
    [
        ("log_loss", "id,a,b\nx,0.25,0.75\ny,0.875,0.125\n", ["y"], 0.125),
        ("log_loss", "id,a,b\ny,1,0\nx,0.25,0.75\n", [], 0.0),
        ("log_loss", "id,a,b\nx,0.25,0.75\n", ["y"], None),
        ("log_loss", "id,a,b\nx,0.25,0.75\ny,ill,0\n", ["y"], None),
        ("log_loss", "id,a\nx,0.25\ny,1\n", ["x", "y"], None),
        ("accuracy", "id,a,b\nx,0.25,0.75\ny,0.5,0.5\n", ["y"], None),
        ("", "id,a,b\r\nx,0.25,0.75\r\ny,1,0\r\n", [], None),
        ("", "id,a,b\nx,0.25,0.75\nother,1,0\n", ["y", "other"], None),
    ],
)
def test_files_are_compared_row_by_row_and_probabilities_as_numbers(
    tmp_path: Path, metric: str, rebuilt: str, different: list[str], farthest: float | None
) -> None:
    """Rows that one of the files lacks differ; other line ends are other bytes only."""
    submitted, made = tmp_path / "mine.csv", tmp_path / "made.csv"
    submitted.write_text("id,a,b\nx,0.25,0.75\ny,1,0\n")
    made.write_bytes(rebuilt.encode())
    found = compare(entry("101", str(submitted), sha256=sha256_of(submitted), metric=metric), made)
    assert not found.identical
    assert (found.different, found.farthest) == (different, farthest)
    assert found.rows == 3 if "other" in different else 2


def test_what_was_submitted_is_what_kaggle_has(tmp_path: Path) -> None:
    """Though the ledger recorded that the file was sent which its commit makes."""
    made = tmp_path / "mine.csv"
    made.write_text("id,a\nx,0\n")
    sent = entry("101", str(made), sha256=sha256_of(made))
    assert compare(dataclasses.replace(sent, kaggle_sha256=sent.sha256), made).identical
    found = compare(dataclasses.replace(sent, kaggle_sha256="c" * 64), made)
    assert not found.identical
    assert "not the bytes that were submitted" in report(found)


# What cannot be rebuilt


def refused(project: Path, changes: dict[str, str], **options: object) -> str:
    """The message for the project's submission with these fields; nothing was left or changed."""
    before = snapshot(project)
    (recorded,) = read_ledger(project / paths.LEDGER)
    beside = sorted(project.parent.iterdir())
    with pytest.raises(ReproduceError) as error, chdir(project):
        wanted = dataclasses.replace(recorded, **changes)
        reproduce(wanted, confirm=lambda _: True, **options)  # type: ignore[arg-type]
    assert snapshot(project) == before
    assert sorted(project.parent.iterdir()) == beside
    return str(error.value)


@pytest.mark.parametrize("suffix", ["", "-dirty"])
def test_what_was_submitted_from_no_commit_or_an_unknown_one_is_refused(
    small: Path, suffix: str
) -> None:
    title = "submissions/ledger.csv: submissions/tiny.csv (submission 101) was"
    assert refused(small, {"commit": suffix}) == (
        f"{title} submitted from no commit: it cannot be rebuilt. Before the next one, run: git "
        "add --all && git commit, then dvc repro"
    )
    unknown = "0123456789" * 4
    assert refused(small, {"commit": unknown + suffix}) == (
        f"{title} made from commit {unknown}, which is not in this repository. Run: git fetch "
        f"--all, or git fetch origin {unknown}"
    )


def test_a_shallow_clone_is_told_how_to_get_older_commits(small: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{small}", "shallow")
    assert "Run: git fetch --unshallow, or git fetch origin " in refused(tmp_path / "shallow", {})


def test_a_commit_whose_lock_dvc_did_not_write_is_refused(small: Path) -> None:
    (small / "dvc.lock").write_text("<<<<<<< HEAD\nstages: {}\n")
    head = commit(small)
    with pytest.raises(TableError) as error:
        refused(small, {"commit": head})
    assert str(error.value).startswith(f"{head[:12]}:dvc.lock: line 1: an unresolved merge (<<<<")


# Whose code it is


@pytest.mark.parametrize(
    ("author", "own", "in_a_branch", "doubt"),
    [
        ("test@example.org", "test@example.org", True, ""),
        ("mallory@example.org", "test@example.org", True,
         "is by mallory@example.org, not by test@example.org"),
        ("test@example.org", "test@example.org", False, "is in no branch of this repository"),
        ("mallory@example.org", "test@example.org", False,
         "is by mallory@example.org, not by test@example.org and is in no branch of this repository"),
        ("test@example.org", None, True, "is by test@example.org, not by you: git has no user.email"),
    ],
)  # fmt: skip
def test_the_user_is_asked_before_the_code_of_others_runs(
    small: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    author: str,
    own: str | None,
    in_a_branch: bool,
    doubt: str,
) -> None:
    by, tip = f"M. \x1b[2J <{author}>", git(small, "rev-parse", "HEAD")
    git(
        small, "commit", "--quiet", "--allow-empty", "--message", "its \x1b[2J code", "--author", by
    )
    head = git(small, "rev-parse", "HEAD")
    if not in_a_branch:
        git(small, "reset", "--quiet", "--hard", tip)
    if own is None:
        git(small, "config", "--unset", "user.email")
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    asked = []

    def decline(question: str) -> bool:
        asked.append(question)
        return False

    (recorded,) = read_ledger(small / paths.LEDGER)
    changed = dataclasses.replace(recorded, commit=head)
    before = snapshot(small)
    monkeypatch.setattr("pipeline.ledger.reproduce._check_out", decline)
    with chdir(small), pytest.raises((ReproduceError, TypeError)) as error:
        reproduce(changed, confirm=decline)
    assert asked == [
        f"The commit {doubt}, and its code will run with all your rights. Rebuild it?"
    ] * bool(doubt)  # fmt: skip
    assert not doubt or str(error.value) == f"{recorded.title}: not rebuilt"
    assert snapshot(small) == before
    today, branch = (
        git(small, "log", "-1", "--format=%as", head),
        git(small, "branch", "--show-current"),
    )
    place = f"in {branch}" if in_a_branch else "in no branch"
    said = f"the commit is by M. [2J <{author}>, {today}, {place}: its [2J code\n"
    assert capfd.readouterr().err.endswith(said)


def test_without_a_terminal_the_question_is_an_error() -> None:
    with pytest.raises(ReproduceError) as error:
        asking(False, ReproduceError)("Rebuild it?")
    assert str(error.value) == "Rebuild it? There is no terminal to answer on: add --yes"
    assert asking(True, ReproduceError)("Rebuild it?")


def test_a_file_that_no_stage_of_the_commit_makes_is_refused(small: Path) -> None:
    head = git(small, "rev-parse", "HEAD")[:12]
    assert refused(small, {"file": "submissions/other.csv", "commit": head}) == (
        f"dvc.yaml: expected a stage of commit {head} that makes submissions/other.csv, found "
        f"none. See: git show {head}:params.yaml"
    )


@pytest.mark.parametrize("full", [False, True])
def test_a_folder_that_is_there_stays_as_it_is(small: Path, full: bool) -> None:
    (recorded,) = read_ledger(small / paths.LEDGER)
    folder = small.parent / "project-reproduce-101"
    if full:  # a worktree of the user's, of the very commit
        git(small, "worktree", "add", "--quiet", "--detach", str(folder), recorded.commit)
        (folder / "work.py").write_text("changed")
    else:
        folder.mkdir()
    assert refused(small, {}) == (
        f"{folder}: expected no such folder, found one that is no rebuild of commit "
        f"{recorded.commit[:12]}. Name another one: --folder FOLDER; or, if it is a worktree that "
        f"may be deleted: git worktree remove --force {folder}"
    )
    assert not full or (folder / "work.py").read_text() == "changed"
    assert refused(small, {}, folder=small / "sub" / "folder") == (
        f"{small}/sub/folder: is inside the repository, where git and DVC would find it. "
        "Name a folder outside"
    )


# A pipeline that takes no time


@pytest.mark.slow
def test_each_submission_of_one_name_comes_from_its_commit_and_a_repository_full_of_changes_stays(
    ran: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (ran / "params.yaml").write_text("seed: 3\nensemble: {name: tiny}\n")
    repro(ran)
    second = record(ran, "102")
    (first, _) = read_ledger(ran / paths.LEDGER)
    assert first.sha256 != second.sha256
    (ran / "params.yaml").write_text("seed: 2\nensemble: {name: other}\n")
    (ran / "dvc.lock").unlink()
    (ran / FILE).write_text("id,label\n")
    (ran / "models" / "labels").write_text("none")
    (ran / ".resume").mkdir()
    (ran / ".resume" / "half").touch()
    (ran / "new.txt").touch()
    git(ran, "add", "new.txt")
    hook = ran / ".git" / "hooks" / "post-checkout"  # DVC's would check out data
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    before = snapshot(ran)
    capfd.readouterr()
    for what, recorded in (("101", first), ("tiny", second)):
        found = rebuild(ran, what)
        heard = capfd.readouterr()
        assert found.identical
        assert (found.entry, found.rebuilt, found.rows) == (recorded, None, 24)
        assert snapshot(ran) == before
        assert "Stage 'train' is cached" in heard.err
        assert "Running stage 'ensemble'" in heard.err  # not checked out: made
        assert "Running stage 'check'" not in heard.err  # nobody needs it
        assert heard.out == ""
        assert [path.name for path in ran.parent.iterdir()] == ["project"]


@pytest.mark.slow
def test_it_can_be_kept_elsewhere_and_another_call_continues_there(
    ran: Path, tmp_path: Path
) -> None:
    """Or makes it again, where it was deleted by hand; all with the user's competitions/ in it."""
    data = ran / "competitions" / "cells" / "labels.csv"
    data.parent.mkdir(parents=True)
    data.write_text("kept")
    other = ran.parent / "on-an-unplugged-disk"
    git(ran, "worktree", "add", "--quiet", "--detach", str(other))
    shutil.rmtree(other)
    folder = tmp_path / "deep" / "elsewhere"

    def rebuild_there() -> None:
        found = rebuild(ran, "101", keep=True, folder=folder)
        assert found.identical
        assert found.rebuilt == folder / FILE
        assert sha256_of(folder / FILE) == found.entry.sha256
        assert git(folder, "status", "--porcelain") == ""
        assert (folder / "competitions" / "cells" / "labels.csv").read_text() == "kept"

    rebuild_there()
    (folder / "work.py").write_text("broken")
    rebuild_there()
    shutil.rmtree(folder)
    assert rebuild(ran, "101", folder=folder).identical
    assert not folder.exists()
    assert str(other) in git(ran, "worktree", "list")  # `git worktree prune` would forget it


@pytest.mark.slow
def test_a_failing_command_is_named_and_the_same_call_continues_after_it(
    ran: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = ran.parent / "project-reproduce-101"
    (ran.parent / "broken").touch()
    with pytest.raises(ReproduceError) as error:
        rebuild(ran, "101")
    assert str(error.value) == (
        f"{folder}: dvc repro train ensemble: exit code 255, for the reason that it gives above. "
        "The folder is kept: fix the cause and run the same command again, which continues there. "
        "Where it asks Kaggle for the data again, it needs --kaggle"
    )
    assert "the data are not there" in capfd.readouterr().err
    assert folder.is_dir()
    (ran.parent / "broken").unlink()
    assert rebuild(ran, "101").identical
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("kaggle", [False, True])
def test_the_commits_code_gets_kaggles_credentials_only_if_asked_for(
    ran: Path, monkeypatch: pytest.MonkeyPatch, kaggle: bool
) -> None:
    home = ran.parent / "home"
    for file in (".kaggle/kaggle.json", ".kaggle/access_token", ".cache/a"):
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text("secret")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    (ran.parent / "look").touch()
    assert rebuild(ran, "101", kaggle=kaggle).identical
    seen = (ran.parent / "look").read_text().split()
    if kaggle:
        assert seen[:2] == ["KAGGLE_API_TOKEN", "KAGGLE_KEY"]
        assert ".kaggle/access_token" in seen
    else:
        assert seen == ["KAGGLE_CONFIG_DIR", ".cache", ".kaggle", "True"]
        assert (home / ".cache" / "a").read_text() == "secret"
    (ran.parent / "broken").touch()
    with pytest.raises(ReproduceError) as error:
        rebuild(ran, "101", kaggle=kaggle)
    hint = "continues there. Where it asks Kaggle for the data again, it needs --kaggle"
    assert str(error.value).endswith("continues there" if kaggle else hint)


@pytest.mark.slow
def test_the_remotes_credentials_stay_here_and_go_to_its_present_address(
    ran: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A commit's own address of the remote may be anybody's."""
    for name in ("theirs", "ours"):
        at = ["remote", "add", "--force", "--default", "store", str(tmp_path / name)]
        assert run(ran, "dvc", *at).returncode == 0
        commit(ran)
        if name == "theirs":
            record(ran, "102")
    secret = "['remote \"web\"']\n    url = https://example.org\n    password = secret\n"
    (ran / ".dvc" / "config.local").write_text(secret)
    assert run(ran, "dvc", "push").returncode == 0
    shutil.rmtree(ran / ".dvc" / "cache")
    (tmp_path / "theirs").mkdir()
    found = rebuild(ran, "102", keep=True)
    assert found.identical
    assert found.rebuilt
    assert "Stage 'train' is cached" in capfd.readouterr().err
    assert not list((tmp_path / "theirs").iterdir())
    local = (found.rebuilt.parents[1] / ".dvc" / "config.local").read_text()
    assert "secret" not in local
    assert "['remote" not in local


@pytest.mark.slow
def test_it_says_which_labels_changed_where_the_submitted_file_is_not_lost(
    ran: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Found in its commit, since the folder has another one; and a dirty commit, which has none."""
    made = (ran / FILE).read_text()
    other = {"0": "1", "1": "0"}
    lines = [line[:-1] + other[line[-1]] for line in made.splitlines()[1:4]]
    (ran / FILE).write_text("\n".join(["id,label", *lines, *made.splitlines()[4:], ""]))
    commit(ran)
    flipped = record(ran, "102")
    (ran / FILE).write_text(made)
    commit(ran)
    found = rebuild(ran, "102")
    assert not found.identical
    assert (found.rows, found.different) == (24, ["t00", "t01", "t02"])
    assert found.rebuilt == ran.parent / "project-reproduce-102" / FILE
    assert found.rebuilt.read_text() == made

    record(ran, "103", sha256="0" * 64, commit=f"{flipped.commit}-dirty")
    found = rebuild(ran, "103")
    assert (found.identical, found.rows, found.different) == (False, 0, [])
    assert found.sha256 == sha256_of(ran / FILE)
    assert (
        "\nit was made with changes that no commit holds, so the bytes may differ\n"
    ) in capfd.readouterr().err


@pytest.mark.slow
def test_what_a_remote_has_is_fetched_and_the_rest_is_made_anew(
    ran: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert run(ran, "dvc", "remote", "add", "--local", "-d", "store", str(store)).returncode == 0
    assert run(ran, "dvc", "push").returncode == 0
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(ran), str(clone))
    shutil.copy(ran / ".dvc" / "config.local", clone / ".dvc")
    assert rebuild(clone, "101").identical
    heard = capfd.readouterr().err
    assert "Stage 'train' is cached" in heard
    assert "Running stage 'train'" not in heard
    assert (clone / ".dvc" / "cache" / "files").is_dir()

    labels = next(path for path in store.rglob("*") if path.is_file() and path.stat().st_size == 24)
    labels.unlink()
    shutil.rmtree(clone / ".dvc" / "cache")
    assert rebuild(clone, "101").identical
    heard = capfd.readouterr().err
    assert "not everything could be fetched, what is missing is made anew: 2 files failed" in heard
    assert "Running stage 'train'" in heard

    (clone / ".dvc" / "config.local").unlink()  # no remote, no cache: every stage runs again
    shutil.rmtree(clone / ".dvc" / "cache")
    assert rebuild(clone, "101").identical
    heard = capfd.readouterr().err
    assert "Running stage 'train'" in heard
    assert "fetched" not in heard


@pytest.mark.slow
def test_another_requirements_lock_gets_its_own_environment(
    ran: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Instead of an installation the recipe makes a python that says when it is called."""
    real = Path(sys.executable).parent
    (ran / "Makefile").write_text(
        ".venv/.installed: requirements.lock\n"
        "\t@mkdir -p .venv/bin\n"
        f"\t@printf '#!/bin/sh\\necho its own environment\\nexec {real}/python \"$$@\"\\n' > .venv/bin/python\n"
        f"\t@ln -s {real}/dvc .venv/bin/dvc\n"
        "\t@chmod +x .venv/bin/python\n"
        "\t@touch $@\n"
    )
    commit(ran)
    record(ran, "102")
    assert rebuild(ran, "102").identical
    assert "its own environment" not in capfd.readouterr().err
    (ran / "requirements.lock").write_text("two==2\n")
    assert rebuild(ran, "102").identical
    heard = capfd.readouterr().err
    assert "requirements.lock: the commit's is another one: its environment is installed" in heard
    assert "\nits own environment\n" in heard
    assert (real / "dvc").is_file()


@pytest.mark.slow
def test_after_ctrl_c_the_same_call_continues_but_from_scratch_with_nothing_that_was_left(
    ran: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(ran / ".dvc" / "cache")
    (ran.parent / "halt").touch()
    code = (
        "import sys; from pathlib import Path; "
        "from pipeline.ledger.reproduce import find_entry, reproduce; "
        "from pipeline.ledger.ledger import read_ledger; "
        "reproduce(find_entry('101', read_ledger(Path('submissions/ledger.csv'))), "
        "confirm=print)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ran, env=environment() | {"PYTHONPATH": str(ROOT)},
        start_new_session=True, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        for line in process.stderr or []:
            if line == "half trained\n":
                os.killpg(process.pid, signal.SIGINT)
                break
        process.wait()
        assert (ran.parent / "ended").exists()  # it waited for what it had started
    assert process.returncode == -signal.SIGINT
    (ran.parent / "halt").unlink()
    folder = ran.parent / "project-reproduce-101"
    left = folder / ".resume" / "half"
    assert left.exists()
    assert rebuild(ran, "101", keep=True).identical
    assert "\ncontinuing\n" in capfd.readouterr().err
    shutil.rmtree(ran / ".dvc" / "cache")
    left.touch()
    assert rebuild(ran, "101", from_scratch=True).identical
    heard = capfd.readouterr().err
    assert "Running stage 'train'" in heard
    assert "continuing\n" not in heard
    assert not (ran / ".dvc" / "cache").exists()
    assert not folder.exists()


# Real networks


@pytest.mark.slow
def test_a_network_is_taken_from_the_cache_or_trained_again_to_the_same_bytes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path / "project", ONE_NETWORK)
    (project / "requirements.lock").write_text("one==1\n")
    repro(project)
    record(project, "101")
    capfd.readouterr()
    cache = sorted((project / ".dvc" / "cache").rglob("*"))
    assert rebuild(project, "101").identical
    heard = capfd.readouterr().err
    assert "Running stage 'train" not in heard
    assert "Running stage 'ensemble'" in heard

    found = rebuild(project, "101", from_scratch=True, keep=True)
    assert found.identical
    assert found.rebuilt
    heard = capfd.readouterr().err
    for stage in ("download", "prepare", "split", "train@one-0", "ensemble"):
        assert f"Running stage '{stage}'" in heard
    assert "cached" not in heard
    assert git(found.rebuilt.parent, "status", "--porcelain") == ""  # not one byte of git's differs
    assert sorted((project / ".dvc" / "cache").rglob("*")) == cache
