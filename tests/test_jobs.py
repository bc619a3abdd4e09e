"""Trainings side by side: real DVC and real processes, on a small competition."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import PARAMS, digests, environment, make_project, stage
from ruamel.yaml import YAML
from zc.lockfile import LockFile

from pipeline.commands.jobs import (
    Machine,
    choose_jobs,
    find_machine,
    share,
    stage_names,
    visible_gpus,
)
from pipeline.train.config import TrainConfig

RUINOUS = PARAMS.replace(
    "two: {<<: *model, seed: 2,",
    "two: {<<: *model, seed: 2, lr: 10, weight_decay: 1.0e+30, clip_norm: null, batch_size: 4,",
)
RESULTS = ["models/*/*/*", "folds/*"]


def train_config(params: str) -> TrainConfig:
    return TrainConfig.model_validate(YAML(typ="safe").load(params)["train"])


def run(folder: Path, *command: str, **own: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment() | own, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def processes_with(mark: str) -> list[str]:
    """The command lines of all processes that inherited a mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


GIB = 2**30


@pytest.mark.parametrize(
    ("gpus", "slots"),
    [
        ([], [{"OMP_NUM_THREADS": "3"}] * 2),
        (
            ["0", "1"],
            [{"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": gpu} for gpu in "0101"],
        ),
        (["GPU-aa"], [{"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "GPU-aa"}] * 2),
    ],
)
def test_each_job_gets_the_threads_of_params_yaml_and_gpus_by_turns(
    gpus: list[str], slots: list[dict[str, str]]
) -> None:
    machine = Machine(16, 64 * GIB, gpus)
    assert [share(machine, 3, slot) for slot in range(len(slots))] == slots


@pytest.mark.parametrize(
    ("count", "chosen", "names"),
    [
        (0, None, []),
        (3, None, ["0", "1", "2"]),
        (3, "", ["0", "1", "2"]),
        (2, "5, 3", ["5", "3"]),
        (1, "GPU-aa", ["GPU-aa"]),
        (1, "2,-1,4", ["2"]),  # CUDA stops at the first name that is none
    ],
)
def test_only_the_gpus_that_the_user_left_are_used(
    count: int, chosen: str | None, names: list[str]
) -> None:
    already = {} if chosen is None else {"CUDA_VISIBLE_DEVICES": chosen}
    assert visible_gpus(count, already) == names


@pytest.mark.parametrize(
    ("machine", "threads", "jobs"),
    [
        (Machine(2, 24 * GIB, []), 1, 2),
        (Machine(2, 24 * GIB, []), 2, 1),
        (Machine(2, 24 * GIB, []), 8, 1),
        (Machine(16, 64 * GIB, []), 3, 5),
        (Machine(16, 9 * GIB, []), 1, 4),
        (Machine(16, GIB, []), 1, 1),
        (Machine(16, 64 * GIB, ["0"]), 1, 1),
        (Machine(16, 64 * GIB, ["0", "1", "2"]), 8, 3),
    ],
)
def test_as_many_jobs_as_find_cores_and_memory(machine: Machine, threads: int, jobs: int) -> None:
    assert choose_jobs(machine, threads) == jobs


@pytest.mark.parametrize(("device", "gpus"), [("cpu", []), ("mps", ["0"])])
def test_the_cpu_is_no_gpu_and_apples_is_one(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: list[str]
) -> None:
    monkeypatch.setattr("torch.mps.is_available", lambda: True)
    machine = find_machine(device)
    assert machine.gpus == gpus
    assert machine.cores >= 1
    assert GIB / 8 < machine.free_bytes < 2**50


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model of two is ruined, the other is trained; tests follow each other in this order."""
    folder = make_project(tmp_path_factory.mktemp("jobs") / "project", RUINOUS)
    done = run(folder, "make", "-o", ".venv/.installed", "train", "JOBS=2")
    (folder / ".resume/first_run.txt").write_text(f"{done.returncode}\n{done.stdout}")
    return folder


@pytest.mark.slow
def test_the_stages_have_the_names_that_dvc_gives_them(project: Path) -> None:
    listed = run(project, "dvc", "stage", "list", "--name-only", "train").stdout.split()
    assert listed == stage_names(train_config(RUINOUS))


@pytest.mark.slow
def test_a_failed_training_is_named_and_leaves_the_others_intact(project: Path) -> None:
    code, *lines = (project / ".resume/first_run.txt").read_text().splitlines()
    assert code == "2"  # make's, for an exit code of 1
    assert "4 of 4 to train, 2 at a time, 1 thread each; logs in .resume/logs" in lines
    assert lines[-1].startswith("make: *** ")
    assert lines[-1].endswith("Error 1")
    message = lines[-2]
    assert message.startswith("TrainError: 2 of 4 trainings failed, the others are done: ")
    for fold in (0, 1):
        assert (
            f"train@two-{fold} (.resume/logs/train@two-{fold}.log): TrainError: params.yaml: "
            f"train.models.two (fold {fold}): the loss is nan in epoch 1 of 2"
        ) in message
        assert any(line.startswith(f"train@two-{fold}: FAILED, exit code ") for line in lines)
        assert any(line.startswith(f"train@one-{fold}: done, ") for line in lines)
        assert (project / f"models/one/fold{fold}/weights.safetensors").is_file()
        log = (project / f".resume/logs/train@one-{fold}.log").read_text()
        assert f"one fold {fold}: epoch 2, " in log
        assert f"train@one-{fold} | one fold {fold}: epoch 2, " in "\n".join(lines)
    assert not (project / "models/two").exists()
    assert not any("git add" in line for line in lines if line.startswith("train@"))


@pytest.mark.slow
def test_the_same_command_trains_what_is_left_and_dvc_repro_then_trains_nothing(
    project: Path, tmp_path: Path
) -> None:
    """And the bytes are those of `dvc repro` alone, on as many threads as the machine has."""
    before = digests(project, "models/one/*/*")
    (project / "params.yaml").write_text(PARAMS)
    done = run(project, sys.executable, "-m", "pipeline", "jobs", "2")
    assert done.returncode == 0, done.stdout
    assert "2 of 4 to train, 2 at a time, 1 thread each; logs in .resume/logs" in done.stdout
    assert "Running stage 'train@one" not in done.stdout
    assert digests(project, "models/one/*/*") == before

    rest = run(project, "dvc", "repro", "ensemble")
    assert rest.returncode == 0, rest.stdout
    assert "Running stage 'train" not in rest.stdout
    assert "Running stage 'ensemble'" in rest.stdout
    again = run(project, sys.executable, "-m", "pipeline", "jobs", "2")
    assert again.returncode == 0
    assert again.stdout.endswith("nothing to train: every model and fold is up to date\n")

    serial = make_project(tmp_path / "serial")
    assert run(serial, "dvc", "repro", "train").returncode == 0
    assert digests(serial, *RESULTS) == digests(project, *RESULTS)
    assert len(digests(serial, "models/*/*/weights.safetensors")) == 4


@pytest.mark.slow
def test_dvcs_lock_is_waited_for(project: Path) -> None:
    """DVC alone gives up after three seconds; the trainings meet at that lock all the time."""
    lock = LockFile(str(project / ".dvc/tmp/lock"))
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "jobs", "2"], cwd=project,
        env=environment(), stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        refused = run(project, "dvc", "status")
        assert "Unable to acquire lock" in refused.stdout
        time.sleep(8)  # it started together with this one, and has to give up too if it would
        lock.close()
        said = process.stderr.read() if process.stderr else ""
    assert process.returncode == 0, said
    assert "nothing to train" in said


@pytest.mark.slow
def test_a_failure_before_the_trainings_is_said_once(tmp_path: Path) -> None:
    project = make_project(
        tmp_path / "project", PARAMS.replace("split: {folds: 2", "split: {folds: 40")
    )
    done = stage(project, "jobs", "2")
    assert done.returncode == 1
    assert "FoldError: " in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "TrainError: a stage before the trainings failed, see above. Nothing was trained"


@pytest.fixture
def interrupted(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Path, int, list[str]]]:
    """A project whose trainings got a signal while two ran: its folder, exit code and lines."""
    sent: signal.Signals = request.param
    params = PARAMS.replace("epochs: 2\n", "epochs: 60\n").replace("[one, two]", "[one]")
    project = make_project(tmp_path / "project", params)
    mark = f"JOBS_TEST_MARK={project}"
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "jobs", "2"], cwd=project,
        env=environment() | {"JOBS_TEST_MARK": str(project)},
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        lines, training = [], set()
        for line in process.stderr or []:
            lines.append(line)
            training |= {fold for fold in (0, 1) if f"one fold {fold}: epoch " in line}
            if training == {0, 1}:
                training = {-1}
                assert len(processes_with(mark)) >= 5  # this one, and each: DVC and the training
                os.killpg(process.pid, sent)  # as a terminal does: to the foreground's group
    left = processes_with(mark)
    yield project, process.returncode, lines
    assert not left


@pytest.mark.slow
@pytest.mark.parametrize("interrupted", [signal.SIGINT], indirect=True)
def test_ctrl_c_leaves_no_process_and_the_same_command_goes_on(
    interrupted: tuple[Path, int, list[str]],
) -> None:
    project, code, lines = interrupted
    assert code == 130
    assert lines[-1] == "interrupted: the same command goes on where it was\n"
    assert "stopping train@one-0, train@one-1\n" in lines
    assert "Traceback" not in "".join(lines), "".join(lines)
    for fold in (0, 1):
        said = "interrupted: the same command goes on where it was"
        assert said in (project / f".resume/logs/train@one-{fold}.log").read_text()
    again = run(project, sys.executable, "-m", "pipeline", "jobs", "2")
    assert again.returncode == 0, again.stdout
    assert again.stdout.count("going on after epoch ") == 2
    assert "Running stage 'train" not in run(project, "dvc", "repro", "--dry", "ensemble").stdout


@pytest.mark.slow
@pytest.mark.parametrize("interrupted", [signal.SIGTERM], indirect=True)
def test_an_end_from_outside_leaves_no_process(
    interrupted: tuple[Path, int, list[str]],
) -> None:
    _, code, lines = interrupted
    assert code == 128 + signal.SIGTERM
    assert "stopping train@one-0, train@one-1\n" in lines
