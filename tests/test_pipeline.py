"""The whole pipeline, as its users run it: real DVC, real processes, on a small competition."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from project import (
    FIRST_RUN,
    PARAMS,
    TRAINED_PARAMS,
    copy_project,
    digests,
    environment,
    make_project,
    run,
    stage,
)
from ruamel.yaml import YAML
from sklearn.metrics import accuracy_score

from pipeline.core.tables import read_csv
from pipeline.scoring.card import read_card
from pipeline.scoring.leaderboard import read_leaderboard

pytestmark = pytest.mark.slow

RESULTS = ["folds/*", "models/*/*/*", "ensemble/*", "submissions/*", "data/store/*", "data/raw/*"]


@pytest.fixture(scope="module")
def built(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after its first `make run` and a commit; tests leave it as they find it."""
    return copy_project(trained, tmp_path_factory.mktemp("built") / "project")


@contextmanager
def replaced(file: Path, old: bytes, new: bytes) -> Iterator[None]:
    """A file with another content while the block runs."""
    kept = file.read_bytes()
    assert old in kept
    file.write_bytes(kept.replace(old, new))
    try:
        yield
    finally:
        file.write_bytes(kept)


def run_until(
    project: Path, heard_of: str, sent: signal.Signals, *command: str
) -> tuple[int, list[str]]:
    """Run a command, send it and its children a signal at a line; the exit code and all lines."""
    with subprocess.Popen(
        command, cwd=project, env=environment(), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        heard = []
        for line in process.stdout or []:
            heard.append(line)
            if heard_of in line:
                os.killpg(process.pid, sent)
    return process.returncode, heard


def test_make_run_ends_with_what_it_made(built: Path) -> None:
    table = (built / FIRST_RUN).read_text().splitlines()[-7:]
    card = read_card(built / "submissions/tiny.json")
    solution = read_leaderboard(built / "reports/leaderboard.json", "accuracy").solution
    assert f"{card.out_of_fold.accuracy:.4f}  (95% interval" in table[1]
    assert f"{solution.public.scores['accuracy']:.4f}" in table[2]
    assert f"{solution.private.scores['accuracy']:.4f}" in table[3]
    assert "submissions/tiny.csv" in table[4]
    assert "reports/index.html" in table[5]
    assert table[6].startswith("next")


def test_a_second_make_run_does_nothing_and_says_so(built: Path) -> None:
    before = digests(built, *RESULTS, "dvc.lock")
    done = run(built, "make", "-o", ".venv/.installed", "run")
    assert "Data and pipelines are up to date." in done.stdout
    assert "cross-validated accuracy" in done.stdout
    assert "Running stage" not in done.stdout
    assert digests(built, *RESULTS, "dvc.lock") == before


def test_git_sees_folds_and_submissions_and_nothing_else(trained: Path) -> None:
    changed = run(trained, "git", "show", "--name-only", "--format=", "HEAD").stdout
    assert changed.splitlines() == [
        "dvc.lock",
        "folds/folds.csv",
        "folds/summary.json",
        "submissions/tiny.csv",
        "submissions/tiny.json",
    ]


def test_the_submission_is_the_samples_form_and_scores_as_reported(built: Path) -> None:
    submission = read_csv(built / "submissions/tiny.csv")
    sample = read_csv(built / "data/raw/sample_submission.csv")
    solution = read_csv(built / "data/hidden/solution.csv").set_index("id").loc[submission["id"]]
    assert list(submission.columns) == list(sample.columns)
    assert list(submission["id"]) == list(sample["id"])
    report = read_leaderboard(built / "reports/leaderboard.json", "accuracy").solution
    for half, found in (("Public", report.public), ("Private", report.private)):
        rows = (solution["Usage"] == half).to_numpy()
        score = accuracy_score(solution["label"][rows], submission["label"][rows])
        assert found.rows == rows.sum()
        assert found.scores == {"accuracy": pytest.approx(score, abs=1e-6)}


def test_without_the_hidden_files_and_without_dvc_every_byte_is_the_same(
    built: Path, tmp_path: Path
) -> None:
    """No stage but `check` reads the solution; and two runs of one input give the same bytes."""
    other = make_project(tmp_path / "other", TRAINED_PARAMS)
    assert stage(other, "download").returncode == 0
    for file in (other / "data/hidden").iterdir():
        file.unlink()
    (other / "data/hidden").rmdir()
    for name in ("prepare", "split", "train", "ensemble"):
        done = stage(other, name)
        assert done.returncode == 0, done.stdout
    assert digests(other, *RESULTS) == digests(built, *RESULTS)
    assert len(digests(other, "models/*/*/weights.safetensors")) == 4


def test_another_solution_changes_the_report_alone(built: Path) -> None:
    report = built / "reports/leaderboard.json"
    said, before = report.read_bytes(), digests(built, *RESULTS)
    with replaced(built / "data/hidden/solution.csv", b",0,P", b",1,P"):
        for name in ("prepare", "split", "ensemble", "check"):
            assert stage(built, name).returncode == 0
        assert digests(built, *RESULTS) == before
        assert report.read_bytes() != said
    assert stage(built, "check").returncode == 0
    assert report.read_bytes() == said


def test_changing_one_model_retrains_that_one_alone(built: Path) -> None:
    with replaced(built / "params.yaml", b"seed: 2,", b"seed: 3,"):
        dry = run(built, "dvc", "repro", "--dry").stdout
    assert "Running stage 'train@two-0'" in dry
    assert "Running stage 'train@two-1'" in dry
    assert "train@one-0' didn't change" in dry or "Running stage 'train@one-0'" not in dry
    assert "Running stage 'train@one-1'" not in dry


def test_going_to_another_profile_and_back_trains_nothing_again(built: Path) -> None:
    before = digests(built, *RESULTS)
    other = PARAMS
    for known, changed in (
        ("name: tiny", "name: other"),
        ("duplicates: 0.05, seed: 1", "duplicates: 0.05, seed: 2"),
        ("members: [one, two]", "members: [one]"),
        ("folds: [0, 1]", "folds: [0]"),
    ):
        other = other.replace(known, changed)
    (built / "profiles/here.yaml").write_text(TRAINED_PARAMS)
    (built / "profiles/other.yaml").write_text(other)
    use = ("make", "-o", ".venv/.installed", "use")
    assert run(built, *use, "PROFILE=other").returncode == 0
    there = run(built, "dvc", "repro", "ensemble")
    assert there.returncode == 0, there.stdout
    assert "Running stage 'prepare'" in there.stdout  # of another seed
    assert digests(built, "data/store/train.npy")["data/store/train.npy"] not in before.values()
    assert (built / "submissions/other.csv").is_file()
    assert run(built, *use, "PROFILE=here").returncode == 0
    back = run(built, "dvc", "repro").stdout
    for name in ("download", "prepare", "train@one-0", "train@one-1", "train@two-0", "train@two-1"):
        assert f"Running stage '{name}'" not in back
        assert f"Stage '{name}' is cached" in back or f"Stage '{name}' didn't change" in back
    after = digests(built, *RESULTS)
    for file in ("submissions/other.csv", "submissions/other.json"):
        after.pop(file)
    assert after == before


def test_uncommitted_parameters_are_never_overwritten(built: Path) -> None:
    params = built / "params.yaml"
    (built / "profiles/here.yaml").write_text(TRAINED_PARAMS)
    with replaced(params, b"lr: 0.01", b"lr: 0.02"):
        done = run(built, "make", "-o", ".venv/.installed", "use", "PROFILE=here")
        assert done.returncode != 0
        assert (
            "params.yaml: has changes that are neither in the last commit nor in a profile"
            in done.stdout
        )
        assert "lr: 0.02" in params.read_text()
        unknown = stage(built, "use", "nowhere")
        assert unknown.returncode == 1
        assert "profiles/nowhere.yaml: no such profile; known: here" in unknown.stdout


def test_the_profiles_are_listed_with_their_results(built: Path) -> None:
    (built / "profiles/here.yaml").write_text(TRAINED_PARAMS)
    (built / "profiles/unmeasured.yaml").write_text("download: {}\n")
    listed = stage(built, "profiles").stdout.splitlines()
    assert "* here               a test" in listed
    assert "  unmeasured         not measured" in listed


@pytest.fixture(scope="module")
def unbroken(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after one long training; tests leave it as they find it."""
    params = PARAMS.replace("epochs: 2\n", "epochs: 30\n")
    project = make_project(tmp_path_factory.mktemp("unbroken") / "project", params)
    for name in ("data", "folds"):
        shutil.copytree(built / name, project / name)
    done = stage(project, "train", "one", "0")
    assert done.returncode == 0, done.stdout
    return project


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_training_goes_on_and_gives_the_same_bytes(
    unbroken: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    project = copy_project(unbroken, tmp_path / "project")
    expected = digests(project, "models/one/fold0/*")
    shutil.rmtree(project / "models")
    command = [sys.executable, "-m", "pipeline", "train", "one", "0"]
    code, heard = run_until(project, "epoch 5,", sent, *command)
    assert not (project / "models").exists()
    if sent is signal.SIGINT:
        assert code == 130
        assert heard[-1] == "interrupted: the same command goes on where it was\n"
        assert not any("Traceback" in line for line in heard)

    resumed = run(project, *command)
    assert resumed.returncode == 0
    assert "going on after epoch " in resumed.stdout
    assert "epoch 1," not in resumed.stdout
    assert digests(project, "models/one/fold0/*") == expected
    assert not list((project / ".resume").iterdir())


@pytest.mark.parametrize("command", ["dvc repro", f"{sys.executable} -m pipeline repro"])
def test_ctrl_c_leaves_a_pipeline_that_goes_on_and_is_told_once(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("SHELL", "/bin/sh")  # in which DVC runs its stages: dash dies of Ctrl-C too
    project = copy_project(trained, tmp_path / "project")
    params = PARAMS.replace("epochs: 2\n", "epochs: 30\n").replace("[one, two]", "[one]")
    (project / "params.yaml").write_text(params.replace("folds: [0, 1]", "folds: [0]"))
    words = [*command.split(), "ensemble"]
    code, heard = run_until(project, "epoch 3,", signal.SIGINT, *words)
    assert code != 0
    assert heard.count("interrupted: the same command goes on where it was\n") == 1
    again = run(project, "dvc", "repro", "ensemble")
    assert again.returncode == 0, again.stdout
    assert "going on after epoch " in again.stdout
    assert (project / "submissions/tiny.csv").is_file()


def test_a_typo_in_params_stops_dvc_with_one_sentence(built: Path) -> None:
    with replaced(built / "params.yaml", b"batch_size: 16", b"batch_sise: 16"):
        done = run(built, "dvc", "repro")
    assert done.returncode != 0
    assert (
        "params.yaml: train.models.one.batch_sise: unknown parameter; did you mean 'batch_size'?"
        in done.stdout
    )
    assert "Traceback" not in done.stdout


def test_live_metrics_can_be_plotted(built: Path) -> None:
    done = run(built, "dvc", "plots", "show", "--out", "plots_out", "--json")
    assert done.returncode == 0, done.stdout
    assert "loss" in done.stdout


WATCHED = (
    "data/",
    "folds/",
    "models/",
    "ensemble/",
    "explain/",
    "submissions/",
    "reports/",
    "corrections/",
    "leaks/",
    "metrics/",
)
TELL_WHAT_IS_OPENED = f"""\
import os, sys
root, opened = os.getcwd() + os.sep, set()
def note(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, os.PathLike)):
        path = os.path.abspath(os.fspath(arguments[0]))
        if path.startswith(root) and os.path.isfile(path) and ".partial" not in path:
            opened.add(path.removeprefix(root))
sys.addaudithook(note)
from pipeline.__main__ import main
try:
    sys.exit(main())
finally:
    print(*sorted(path for path in opened if path.startswith({WATCHED!r})), sep="\\n")
"""


def named_in_dvc(project: Path, stage_name: str) -> tuple[set[str], set[str]]:
    """Deps and outs of a stage as dvc.lock holds them, the project's modules left out."""
    lock = YAML(typ="safe").load((project / "dvc.lock").read_text())
    entry = lock["stages"][stage_name]
    deps = {dep["path"] for dep in entry["deps"] if not dep["path"].startswith("pipeline/")}
    return deps, {out["path"] for out in entry.get("outs", [])}


@pytest.mark.parametrize(
    "command",
    ["prepare", "split", "train one 0", "ensemble", "check", "explain one", "report"],
)
def test_a_stage_reads_what_dvc_yaml_names_and_nothing_else(built: Path, command: str) -> None:
    arguments = command.split()
    name = "@".join([arguments[0], *filter(None, ["-".join(arguments[1:])])])
    deps, outs = named_in_dvc(built, name)
    done = subprocess.run(
        [sys.executable, "-c", TELL_WHAT_IS_OPENED, *arguments],
        cwd=built, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    opened = set(done.stdout.split())
    own = {path for path in opened if any(path.startswith(out) for out in outs)}
    assert not {path for path in opened - own if not any(path.startswith(dep) for dep in deps)}
    unread = {dep for dep in deps if not any(path.startswith(dep) for path in opened)}
    assert unread <= {"corrections", "leaks", "metrics"}  # there for a day when they are not empty
