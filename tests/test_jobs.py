"""Trainings side by side: real DVC and real processes, on a small competition."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from project import (
    PARAMS,
    ROOT,
    copy_project,
    digests,
    environment,
    make_project,
    processes_with,
    run,
    stage,
)
from zc.lockfile import LockFile

from pipeline.commands import board
from pipeline.commands.board import Board, Training
from pipeline.commands.jobs import choose_jobs, find_gpus, share

RUINOUS = PARAMS.replace(
    "two: {<<: *model, seed: 2,",
    "two: {<<: *model, seed: 2, lr: 10, weight_decay: 1.0e+30, clip_norm: null, batch_size: 4,",
)
RESULTS = ["models/*/*/*", "folds/*"]


def run_on_terminal(folder: Path, *command: str) -> tuple[int, str]:
    """The exit code, and what the command wrote to a terminal, control sequences included."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.execvpe(command[0], command, environment() | {"TERM": "xterm", "COLUMNS": "100"})
    written = b""
    try:
        while read := os.read(terminal, 65536):
            written += read
    except OSError:  # Linux's way of saying that nobody has the terminal open any more
        pass
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), written.decode()


GIB = 2**30


@pytest.mark.parametrize(
    ("gpus", "names"), [([], [None, None]), (["0", "1"], "0101"), (["GPU-aa"], ["GPU-aa"] * 2)]
)
def test_each_job_gets_the_threads_of_params_yaml_and_gpus_by_turns(
    gpus: list[str], names: list[str | None]
) -> None:
    shares = [share(gpus, 3, 1, slot) for slot in range(len(names))]
    assert [own["OMP_NUM_THREADS"] for own in shares] == ["3"] * len(names)
    assert [own.get("CUDA_VISIBLE_DEVICES") for own in shares] == list(names)


@pytest.mark.parametrize(
    ("count", "chosen", "names"),
    [
        (3, None, ["0", "1", "2"]),
        (3, "", ["0", "1", "2"]),
        (2, "5, 3", ["5", "3"]),
        (1, "GPU-aa", ["GPU-aa"]),
        (1, "2,-1,4", ["2"]),  # CUDA stops at the first invalid name
    ],
)
def test_only_the_gpus_that_the_user_left_are_used(
    monkeypatch: pytest.MonkeyPatch, count: int, chosen: str | None, names: list[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert find_gpus("cuda") == names


@pytest.mark.parametrize(
    ("gpus", "threads", "world", "cores", "free_bytes", "left", "jobs"),
    [
        ([], 1, 1, 2, 24 * GIB, 6, 2),
        ([], 1, 1, 2, 24 * GIB, 1, 1),
        ([], 2, 1, 2, 24 * GIB, 5, 1),
        ([], 8, 1, 2, 24 * GIB, 5, 1),
        ([], 3, 1, 16, 64 * GIB, 20, 5),
        ([], 3, 2, 16, 64 * GIB, 20, 2),
        ([], 1, 1, 16, 9 * GIB, 20, 4),
        ([], 1, 2, 16, 9 * GIB, 20, 2),
        ([], 1, 1, 16, GIB, 20, 1),
        (["0"], 1, 1, 16, 64 * GIB, 5, 1),
        (["0"], 1, 2, 16, 64 * GIB, 5, 1),
        (["0", "1", "2"], 8, 1, 16, 64 * GIB, 5, 3),
        (["0", "1", "2", "3"], 8, 2, 16, 64 * GIB, 5, 2),
    ],
)
def test_as_many_jobs_as_find_cores_and_memory(
    gpus: list[str], threads: int, world: int, cores: int, free_bytes: int, left: int, jobs: int
) -> None:
    assert choose_jobs(gpus, threads, world, cores, free_bytes, left) == jobs


@pytest.mark.parametrize(
    ("cores", "left", "jobs"), [(2, 5, 3), (2, 7, 4), (3, 5, 5), (4, 5, 5), (4, 8, 4), (16, 50, 17)]
)
def test_no_core_is_idle_at_the_end_where_one_more_training_at_a_time_prevents_it(
    cores: int, left: int, jobs: int
) -> None:
    assert choose_jobs([], 1, 1, cores, 99 * GIB, left) == jobs


@pytest.mark.parametrize(("device", "gpus"), [("cpu", []), ("mps", ["0"])])
def test_the_cpu_is_no_gpu_and_apples_is_one(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: list[str]
) -> None:
    monkeypatch.setattr("torch.mps.is_available", lambda: True)
    assert find_gpus(device) == gpus


def live_table(training: Training, epochs: int, **last: float) -> None:
    """The table of stage `train` after so many epochs, the first two of an earlier process."""
    rows = [
        {"epoch": epoch, "loss": 1 / epoch, "accuracy": 0.5 + epoch / 20}
        | {"seconds": 4.0 if epoch > 2 else None, "images_per_s": 250.0 if epoch > 2 else None}
        for epoch in range(1, epochs + 1)
    ]
    rows[-1] |= last
    training.live.parent.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(training.live, index=False)


def test_progress_is_a_line_each_time_that_one_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    trainings = [Training("vgg", fold, epochs=500) for fold in range(3)]
    live_table(trainings[1], 2)
    live_table(trainings[2], 5)
    with Board() as shown:
        shown.show(dict.fromkeys(trainings, ""), 4, 9)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(board, "_LINE_EVERY_S", 0.0)
        shown.show(dict.fromkeys(trainings, ""), 4, 9)
    assert capsys.readouterr().err == (
        "4 of 9 done; vgg fold 0: epoch 0/500; "
        "vgg fold 1: epoch 2/500, loss 0.5000, accuracy 0.6000; "
        "vgg fold 2: epoch 5/500, loss 0.2000, accuracy 0.7500, images/s 250, left 0:33:00\n"
    )


def test_the_end_of_a_training_is_told_with_its_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, restored = Training("vgg", 0, epochs=3), Training("vgg", 1, epochs=3)
    live_table(ended, 3, out_of_fold_accuracy=0.91666)
    of_numbers = Training("vgg", 2, epochs=3)
    live_table(of_numbers, 3, out_of_fold_squared_error=46.05621)
    with Board() as shown:
        shown.show_end(ended, "done, 12 s", "1 of 3")
        shown.show_end(restored, "done, 3 s", "2 of 3")
        shown.show_end(of_numbers, "done, 9 s", "3 of 3")
    assert capsys.readouterr().err == (
        "vgg fold 0: done, 12 s, out-of-fold accuracy 0.9167 (1 of 3)\n"
        "vgg fold 1: done, 3 s (2 of 3)\n"
        "vgg fold 2: done, 9 s, out-of-fold squared error 46.0562 (3 of 3)\n"
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model of two is ruined, the other is trained; tests follow each other in this order."""
    folder = make_project(tmp_path_factory.mktemp("jobs") / "project", RUINOUS)
    done = run(folder, "make", "-o", ".venv/.installed", "train", "JOBS=2")
    (folder / ".resume/first_run.txt").write_text(f"{done.returncode}\n{done.stdout}")
    return folder


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
        log = f".resume/logs/train@two-{fold}.log"
        assert (
            f"two fold {fold} ({log}): TrainError: params.yaml: "
            f"train.models.two (fold {fold}): the loss is nan in epoch 1 of 2"
        ) in message
        failure = f"two fold {fold}: FAILED, exit code 1, log in {log}, "
        assert [line for line in lines if line.startswith(failure)]
        assert f"one fold {fold}: begins, log in .resume/logs/train@one-{fold}.log" in lines
        (end,) = (line for line in lines if line.startswith(f"one fold {fold}: done, "))
        live = pd.read_csv(project / f"live/one-fold{fold}.csv")
        accuracy = live["out_of_fold_accuracy"].iloc[-1]
        assert f"out-of-fold accuracy {accuracy:.4f} (" in end
        assert (project / f"models/one/fold{fold}/weights.safetensors").is_file()
        said = (project / f".resume/logs/train@one-{fold}.log").read_text()
        assert f"one fold {fold}: epoch 2, " in said
        assert f"one fold {fold}: out-of-fold accuracy {accuracy:.4f} on " in said
    assert not (project / "models/two").exists()
    assert not [line for line in lines if ", lr " in line]  # each epoch's line is in the log alone


HINTS = ["git add", "autostage", "dvc push", "lock file", "didn't change"]
"""DVC gives them to a person who types its commands."""


@pytest.mark.slow
def test_nothing_that_dvc_says_to_others_is_repeated(project: Path) -> None:
    said = (project / ".resume/first_run.txt").read_text()
    assert "Running stage 'prepare':\n> python -m pipeline prepare\n" in said
    rest = stage(project, "repro", "split").stdout
    assert not [hint for hint in HINTS if hint in said + rest]


@pytest.mark.slow
def test_the_time_that_a_training_took_is_in_no_output(project: Path) -> None:
    live = pd.read_csv(project / "live/one-fold0.csv")
    history = pd.read_csv(project / "models/one/fold0/history.csv")
    assert list(history.columns) == ["epoch", "lr", "loss", "accuracy"]
    assert live[history.columns].equals(history)
    assert (live["seconds"] > 0).all()
    trained = len(pd.read_csv(project / "models/one/fold1/oof.csv"))  # two folds: the other one
    assert live["images_per_s"].to_list() == pytest.approx((trained / live["seconds"]).to_list())


@pytest.mark.slow
def test_the_same_command_trains_what_is_left_and_dvc_repro_then_trains_nothing(
    project: Path, tmp_path: Path
) -> None:
    """And the bytes are those of `dvc repro` alone, on as many threads as the machine has."""
    before = digests(project, "models/one/*/*")
    (project / "params.yaml").write_text(PARAMS)
    code, screen = run_on_terminal(project, sys.executable, "-m", "pipeline", "jobs", "2")
    assert code == 0, screen
    assert "2 of 4 to train, 2 at a time, 1 thread each; logs in .resume/logs" in screen
    assert "images/s" in screen
    assert "two    0     0/2" in screen
    for fold in (0, 1):
        assert f"two fold {fold}: done, " in screen
    assert "begins" not in screen
    assert "one fold" not in screen
    assert digests(project, "models/one/*/*") == before

    rest = stage(project, "repro", "ensemble")
    assert rest.returncode == 0, rest.stdout
    assert "Running stage 'train" not in rest.stdout
    assert "Running stage 'ensemble'" in rest.stdout
    assert not [hint for hint in HINTS if hint in rest.stdout]
    again = stage(project, "jobs", "2")
    assert again.returncode == 0
    assert again.stdout.endswith("nothing to train: every model and fold is up to date\n")
    assert "up to date" in run(project, "dvc", "repro", "ensemble").stdout

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
    *_, error, by_dvc = done.stdout.splitlines()
    assert error.startswith("FoldError: ")
    assert by_dvc == (
        "PipelineError: dvc repro: failed to reproduce 'split': "
        "failed to run: python -m pipeline split, exited with 1"
    )


@pytest.fixture(scope="module")
def split_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two long trainings, up to the stage before them."""
    params = PARAMS.replace("epochs: 2\n", "epochs: 60\n").replace("[one, two]", "[one]")
    folder = make_project(tmp_path_factory.mktemp("split") / "project", params)
    done = stage(folder, "repro", "split")
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def interrupted(
    tmp_path: Path, split_project: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Path, int, list[str]]]:
    """A project whose trainings got a signal while two ran: its folder, exit code and lines."""
    sent: signal.Signals = request.param
    project = copy_project(split_project, tmp_path / "project")
    mark = f"JOBS_TEST_MARK={project}"
    lives = [project / f"live/one-fold{fold}.csv" for fold in (0, 1)]
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "jobs", "2"], cwd=project,
        env=environment() | {"JOBS_TEST_MARK": str(project)},
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while not all(live.exists() for live in lives) and process.poll() is None:
            time.sleep(0.05)
        assert len(processes_with(mark)) >= 5  # this one, and each: DVC and the training
        os.killpg(process.pid, sent)  # as a terminal does: to the foreground's group
        lines = process.stderr.readlines() if process.stderr else []
    left = processes_with(mark)
    yield project, process.returncode, lines
    assert sent is signal.SIGKILL or not left


def test_commands_end_even_where_nobody_reads_standard_error(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from pipeline.commands.processes import Processes
with Processes() as processes:
    processes.start("sleeper", ["sleep", "60"], {}, None)
    Path(sys.argv[1]).write_text(str(processes.running["sleeper"].pid))
    os.kill(os.getpid(), signal.SIGINT)
    processes.wait()
"""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", code, str(tmp_path / "pid")]
    done = subprocess.run(command, cwd=ROOT, stderr=writer, check=False, timeout=30)
    os.close(writer)
    assert done.returncode != 0
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.slow
@pytest.mark.parametrize("interrupted", [signal.SIGINT], indirect=True)
def test_ctrl_c_leaves_no_process_and_the_same_command_goes_on(
    interrupted: tuple[Path, int, list[str]],
) -> None:
    project, code, lines = interrupted
    assert code == 130
    assert lines[-1] == "interrupted: the same command goes on where it was\n"
    assert "stopping one fold 0, one fold 1\n" in lines
    assert "Traceback" not in "".join(lines), "".join(lines)
    logs = [project / f".resume/logs/train@one-{fold}.log" for fold in (0, 1)]
    for log in logs:
        assert "interrupted: the same command goes on where it was" in log.read_text()
    again = stage(project, "jobs", "2")
    assert again.returncode == 0, again.stdout
    assert all("going on after epoch " in log.read_text() for log in logs)
    assert "Running stage 'train" not in run(project, "dvc", "repro", "--dry", "ensemble").stdout


@pytest.mark.slow
@pytest.mark.parametrize("interrupted", [signal.SIGTERM], indirect=True)
def test_an_end_from_outside_leaves_no_process(
    interrupted: tuple[Path, int, list[str]],
) -> None:
    _, code, lines = interrupted
    assert code == 128 + signal.SIGTERM
    assert "stopping one fold 0, one fold 1\n" in lines


@pytest.mark.slow
@pytest.mark.parametrize("interrupted", [signal.SIGKILL], indirect=True)
def test_a_killed_command_can_be_run_again_at_once_and_leaves_no_process(
    interrupted: tuple[Path, int, list[str]],
) -> None:
    """The second one waits for what is still ending, instead of refusing."""
    project, code, _ = interrupted
    assert code == -signal.SIGKILL
    again = stage(project, "jobs", "2")
    assert again.returncode == 0, again.stdout
    assert "remove" not in again.stdout
    assert "killed" not in again.stdout
    for fold in (0, 1):
        assert (
            "going on after epoch " in (project / f".resume/logs/train@one-{fold}.log").read_text()
        )
    assert not processes_with(f"JOBS_TEST_MARK={project}")
