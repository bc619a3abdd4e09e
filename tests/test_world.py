"""Several processes train one network: parts, sums, bits, and what happens when one ends."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from in_world import (
    CUT,
    LENET,
    break_down,
    config_of,
    fail_as_others_lose_it,
    fail_later,
    fail_slowly,
    learn,
    learn_in_turns,
    normalise,
    work_there,
)
from project import PARAMS, digests, environment, make_project, processes_with, stage

from pipeline.core.errors import FoldError, TrainError
from pipeline.train.batches import Steps
from pipeline.train.config import TrainConfig
from pipeline.train.device import deterministic
from pipeline.train.world import ALONE, World, launch

TWO = PARAMS.replace("world: 1", "world: 2").replace("folds: [0, 1]", "folds: [0]")
LONG = TWO.replace("epochs: 2\n", "epochs: 500\n").replace("[one, two]", "[one]")
RUINOUS = TWO.replace("lr: 0.01", "lr: 10").replace(
    "weight_decay: 0.01", "weight_decay: 1.0e+30").replace("clip_norm: 1.0", "clip_norm: null")  # fmt: skip
TRAINING = np.arange(80)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_parts_of_a_batch_follow_each_other_and_leave_nothing_out(size: int) -> None:
    parts = [World(size, rank).part(TRAINING) for rank in range(size)]
    assert np.array_equal(np.concatenate(parts), TRAINING)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("rows", [6, 7, 80])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_an_epoch_shows_each_image_to_one_process_and_none_has_fewer_than_two(
    size: int, rows: int
) -> None:
    worlds = [World(size, rank) for rank in range(size)]
    of_each = [Steps(np.arange(rows), config_of(batch_size=16), world) for world in worlds]
    alone = Steps(np.arange(rows), config_of(batch_size=16), ALONE)
    batches = [[steps[number] for steps in of_each] for number in range(of_each[0].per_epoch)]
    assert sorted(row for batch in batches for part in batch for row in part) == list(range(rows))
    assert min(len(part) for batch in batches for part in batch) >= 2
    for number, batch in enumerate(batches):
        assert {steps.size_of(number) for steps in of_each} == {sum(map(len, batch))}
    if alone.per_epoch == of_each[0].per_epoch:
        assert all(
            np.array_equal(np.concatenate(batch), alone[n]) for n, batch in enumerate(batches)
        )


def test_no_two_parts_are_augmented_alike_and_one_process_alone_augments_as_ever() -> None:
    of_each = [Steps(TRAINING, config_of(), World(3, rank)) for rank in range(3)]
    seeds = {
        steps.own_seed(purpose, n) for steps in of_each for purpose in (1, 2) for n in range(9)
    }
    assert len(seeds) == 3 * 2 * 9
    alone = Steps(TRAINING, config_of(), ALONE)
    assert [alone.own_seed(1, n) for n in range(9)] == [alone.seed(1, n) for n in range(9)]
    assert [steps.seed(0, 4) for steps in of_each] == [alone.seed(0, 4)] * 3


def section(**changes: Any) -> TrainConfig:
    values = {
        "device": "cpu", "threads": 1, "world": 2, "sync_batch_norm": False, "members": ["one"],
        "folds": [0], "models": {"one": config_of()},
    }  # fmt: skip
    return TrainConfig.model_validate(values | changes)


def test_a_batch_has_two_images_for_each_process() -> None:
    with pytest.raises(ValueError, match=r"of at least 18, two images for each .*, found 16"):
        section(world=9)
    assert section(world=8).world == 8


def test_a_compiled_step_does_not_wait_for_other_processes() -> None:
    compiled = {"one": config_of(compiled=True)}
    with pytest.raises(ValueError, match=r"expected `compiled: false` of member 'one'"):
        section(models=compiled, sync_batch_norm=True)
    assert section(models=compiled).sync_batch_norm is False


def test_a_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(TrainError, match=r"train\.world: 2 needs 2 GPUs .*, found 1 \(cuda\)"):
        launch(print, "cuda", 2)


def in_world(size: int, work: Callable[..., Any], *arguments: Any, folder: Path) -> list[Any]:
    """What `work` returns in each process."""
    launch(work_there, "cpu", size, work, arguments, folder)
    return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(size)]


@pytest.mark.slow
def test_synchronised_batch_normalisation_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    output, gradients, buffers, later = normalise(ALONE)
    found = in_world(3, normalise, folder=tmp_path)
    together = torch.cat([each[0] for each in found])
    torch.testing.assert_close(together, output, rtol=1e-4, atol=1e-5)
    for each in found:
        assert len(each[1]) == len(gradients) == 4
        torch.testing.assert_close(each[1], gradients, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(each[2], buffers, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(each[3], later, rtol=1e-4, atol=1e-5)


def equal(one: Any, other: Any) -> bool:
    (state, history, values), (state_2, history_2, values_2) = one, other
    same = all(torch.equal(state[name], state_2[name]) for name in state)
    return same and history == history_2 and np.array_equal(values, values_2)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_three_processes_have_one_network_whose_bits_a_kill_does_not_change(tmp_path: Path) -> None:
    found = in_world(3, learn_in_turns, tmp_path, folder=tmp_path)
    for each in found:
        assert equal(each["one"], found[0]["one"])
        assert equal(each["one"], each["again"])
        assert equal(each["synced"], found[0]["synced"])
        assert equal(each["sound"], found[0]["sound"])
    with pytest.raises(TrainError, match=r"^process 0 of the training ended: Signal 9 \(SIGKILL\)"):
        in_world(3, learn, tmp_path / "killed", CUT, False, 1, folder=tmp_path)
    assert len(list((tmp_path / "killed").rglob("checkpoint.pt"))) == 1
    for each in in_world(3, learn, tmp_path / "killed", CUT, False, None, folder=tmp_path):
        assert equal(each, found[0]["one"])


@pytest.mark.slow
def test_parts_of_unequal_size_give_the_gradients_of_the_whole_batch(tmp_path: Path) -> None:
    deterministic(1)
    state, history, values = learn(tmp_path / "alone", LENET, False, None, ALONE)
    found = in_world(2, learn, tmp_path / "two", LENET, False, None, folder=tmp_path)
    for name, value in found[1][0].items():
        torch.testing.assert_close(value, state[name], rtol=1e-3, atol=2e-4)
    assert [row["accuracy"] for row in found[1][1]] == [row["accuracy"] for row in history]
    assert [row["loss"] for row in found[0][1]] == pytest.approx([r["loss"] for r in history], 1e-4)
    assert found[0][2] == pytest.approx(values, abs=1e-3)


@pytest.mark.slow
def test_the_error_is_that_of_the_process_that_failed_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    for failing in (fail_later, fail_slowly, fail_as_others_lose_it):
        with pytest.raises(FoldError, match=r"^fold 7: no rows$"):
            in_world(2, failing, folder=tmp_path)
    with pytest.raises(RuntimeError, match=r"KeyError: 'a mistake of ours'"):
        in_world(2, break_down, folder=tmp_path)
    assert not capfd.readouterr().err.strip()
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_project(tmp_path_factory.mktemp("world") / "project", TWO)
    assert stage(made, "repro", "split").returncode == 0
    return made


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_stage_of_two_processes_gives_the_same_bytes_twice_and_others_than_one(
    project: Path,
) -> None:
    results = ["models/*/*/*"]
    done = stage(project, "jobs")
    assert done.returncode == 0, done.stdout
    assert "2 of 2 to train, 1 at a time, 1 thread each of 2 processes" in done.stdout
    first = digests(project, *results)
    assert len(first) == 8
    for member in ("one", "two"):
        done = stage(project, "train", member, "0")
        assert done.returncode == 0, done.stdout
        assert done.stdout.count(f"{member} fold 0: out-of-fold accuracy") == 1
    assert digests(project, *results) == first
    (project / "params.yaml").write_text(TWO.replace("world: 2", "world: 1"))
    assert stage(project, "train", "one", "0").returncode == 0
    weights = "models/one/fold0/weights.safetensors"
    assert digests(project, weights)[weights] != first[weights]


@pytest.mark.slow
def test_a_network_that_no_process_can_train_is_one_sentence(project: Path) -> None:
    (project / "params.yaml").write_text(RUINOUS)
    done = stage(project, "train", "one", "0")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith(
        "TrainError: params.yaml: train.models.one (fold 0): the loss is nan in epoch "
    )
    assert "Traceback" not in done.stdout
    assert "elastic" not in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "how", ["interrupted", "interrupted at once", "one killed", "all killed", "killed at once"]
)
def test_no_process_outlives_a_training_however_it_ends(project: Path, how: str) -> None:
    mark = f"world-{os.getpid()}-{how.replace(' ', '-')}"
    process = start_long(project, mark, signal.SIGINT, signal.default_int_handler)
    live, deadline = project / "live/one-fold0.csv", time.monotonic() + 60
    ranks: list[psutil.Process] = []
    while len(ranks) < 2 or not (live.exists() or how.endswith("at once")):
        assert time.monotonic() < deadline
        children = psutil.Process(process.pid).children(recursive=True)
        ranks = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        time.sleep(0.1)
    if how.startswith("interrupted"):
        os.killpg(process.pid, signal.SIGINT)
    elif how == "one killed":
        ranks[1].kill()
    else:
        process.kill()
    said = process.communicate(timeout=30)[0]
    expected = {"interrupted": 130, "interrupted at once": 130, "one killed": 1}
    assert process.returncode == expected.get(how, -signal.SIGKILL), said
    assert "Traceback" not in said
    if how == "one killed":
        assert "process 1 of the training ended: Signal 9 (SIGKILL)" in said.splitlines()[-1]
    while processes_with(mark) and time.monotonic() < deadline + 60:
        time.sleep(0.2)
    assert not processes_with(mark)
    with suppress(FileNotFoundError):
        live.unlink()


@pytest.mark.slow
def test_a_signal_that_nohup_ignores_ends_no_training(project: Path) -> None:
    mark, live = f"world-{os.getpid()}-nohup", project / "live/one-fold0.csv"
    live.unlink(missing_ok=True)
    process = start_long(project, mark, signal.SIGHUP, signal.SIG_IGN)
    deadline = time.monotonic() + 60
    try:
        while not live.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGHUP)
        begun = live.read_bytes()
        time.sleep(1)
        while live.read_bytes() == begun and time.monotonic() < deadline:
            time.sleep(0.1)
        assert process.poll() is None
        assert live.read_bytes() != begun
    finally:
        process.kill()
        process.communicate(timeout=30)
    while processes_with(mark) and time.monotonic() < deadline + 60:
        time.sleep(0.2)
    live.unlink()


def start_long(project: Path, mark: str, number: int, handler: Any) -> "subprocess.Popen[str]":
    """Start a training that takes minutes, with another handler of a signal."""
    (project / "params.yaml").write_text(LONG)
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train", "one", "0"], cwd=project, text=True,
        env=environment() | {"MARK": mark}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, preexec_fn=lambda: signal.signal(number, handler),
    )  # fmt: skip
