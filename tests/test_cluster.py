"""Trainings on a cluster: real nodes of Ray on this machine, real DVC, a small competition."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from project import (
    PARAMS,
    ROOT,
    commit_all,
    copy_project,
    digests,
    environment,
    make_project,
    run,
    stage,
)
from ray.cluster_utils import Cluster

from pipeline.cluster import engine, worker
from pipeline.cluster.nodes import Need, choose_nodes
from pipeline.cluster.order import pack, share
from pipeline.cluster.worker import NodeFacts, TrainingOrder
from pipeline.commands.board import LOGS, Training
from pipeline.commands.processes import Signals
from pipeline.core import files
from pipeline.core.errors import DiskError, TrainError
from pipeline.params import Config, read_config

THREE = PARAMS.replace("split: {folds: 2", "split: {folds: 3").replace(
    "folds: [0, 1]", "folds: [0, 1, 2]"
)
LONG = PARAMS.replace("epochs: 2\n", "epochs: 150\n").replace("[one, two]", "[one]")
RUINOUS = PARAMS.replace(
    "two: {<<: *model, seed: 2,",
    "two: {<<: *model, seed: 2, lr: 10, weight_decay: 1.0e+30, clip_norm: null, batch_size: 4,",
)
SECTION = read_config(ROOT / "params.yaml").train
RESULTS = ["models/*/*/*", "dvc.lock", "folds/*"]
GIB = 2**30


class Nodes:
    """A cluster on this machine; the node of its head runs no trainings."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nodes"))  # short, for the names of sockets
        os.environ |= {"RAY_TMPDIR": str(self.folder), "RAY_USAGE_STATS_ENABLED": "0"}
        os.environ["TMPDIR"] = str(self.folder)
        memory = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0} | memory)
        self.address: str = self._cluster.address
        self._memory = 80 * 2**20

    def add(self) -> Any:
        """One more node, of one CPU."""
        return self._cluster.add_node(num_cpus=1, object_store_memory=self._memory)

    def close(self) -> None:
        self._cluster.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)

    def trainings(self) -> list[psutil.Process]:
        """The processes of trainings on all nodes."""
        found = []
        for process in psutil.process_iter(["cmdline", "cwd"]):
            words, cwd = process.info["cmdline"] or [], process.info["cwd"] or ""
            if "pipeline" in words and cwd.startswith(str(self.folder)):
                found.append(process)
        return found


@contextmanager
def running(count: int) -> Iterator[Nodes]:
    """So many nodes."""
    before = {name: os.environ.get(name) for name in ("RAY_TMPDIR", "TMPDIR")}
    made = Nodes()
    try:
        for _ in range(count):
            made.add()
        yield made
        assert not made.trainings()
    finally:
        made.close()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with running(2) as made:
        yield made


def project_of(params: str, folder: Path) -> Path:
    """A project up to the stage before its trainings, and its commit."""
    project = make_project(folder, params)
    done = stage(project, "repro", "split")
    assert done.returncode == 0, done.stdout
    commit_all(project, "split")
    return project


@pytest.fixture(scope="module")
def long_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trainings of some seconds each."""
    return project_of(LONG, tmp_path_factory.mktemp("long") / "project")


def on(nodes: Nodes, *arguments: str) -> list[str]:
    return ["jobs", "--cluster", nodes.address, *arguments]


def wait_for(happens: Callable[[], Any], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := happens():
            return found
        time.sleep(0.1)
    raise AssertionError("nothing happened")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_and_three_nodes_give_the_bytes_of_dvc_repro_and_its_lock(
    nodes: Nodes, tmp_path: Path
) -> None:
    serial = project_of(THREE, tmp_path / "serial")
    projects = [copy_project(serial, tmp_path / name) for name in ("two", "three")]
    assert stage(serial, "repro", "train").returncode == 0
    expected = digests(serial, *RESULTS)
    assert len([name for name in expected if name.endswith("weights.safetensors")]) == 6
    for project in projects:
        done = stage(project, *on(nodes))
        assert done.returncode == 0, done.stdout
        assert "6 of 6 to train on " in done.stdout
        assert digests(project, *RESULTS) == expected
        again = stage(project, *on(nodes))
        assert again.stdout.endswith("nothing to train: every model and fold is up to date\n")
        assert "up to date" in run(project, "dvc", "repro", "train").stdout
        nodes.add()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_lost_node_costs_an_epoch_and_no_bits(
    nodes: Nodes, long_project: Path, tmp_path: Path
) -> None:
    project = copy_project(long_project, tmp_path / "project")
    shared = tmp_path / "shared"
    live = project / "live/one-fold0.csv"
    (project / "params.yaml").write_text(LONG.replace("folds: [0, 1]", "folds: [0]"))
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", *on(nodes, "--shared", str(shared))], cwd=project,
        env=environment(), stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for(live.exists)
        (training,) = [each for each in nodes.trainings() if each.is_running()][:1]
        raylet = next(each for each in training.parents() if "raylet" in each.name())
        raylet.send_signal(signal.SIGKILL)
        said = process.stderr.read() if process.stderr else ""
    assert process.returncode == 0, said
    assert "going on after epoch" in (project / ".resume/logs/train@one-0.log").read_text()
    alone = copy_project(long_project, tmp_path / "alone")
    assert stage(alone, "train", "one", "0").returncode == 0
    assert digests(project, "models/*/*/*") == digests(alone, "models/*/*/*")
    nodes.add()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_ends_all_tasks_and_what_came_back_is_not_trained_again(
    nodes: Nodes, tmp_path: Path
) -> None:
    """The first model is soon done, the second one is not."""
    params = LONG.replace("[one]", "[quick, one]").replace(
        "    two: {<<: *model,", "    quick: {<<: *model, epochs: 1}\n    two: {<<: *model,"
    )
    project = project_of(params, tmp_path / "project")
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", *on(nodes)], cwd=project, env=environment(),
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for(lambda: len([*project.glob("models/quick/*")]) == 2 and nodes.trainings())
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read() if process.stderr else ""
    assert process.returncode == 130, said
    assert time.monotonic() - started < 20
    assert "Traceback" not in said
    wait_for(lambda: not nodes.trainings(), 2)
    (project / "params.yaml").write_text(params.replace("epochs: 150", "epochs: 2"))
    done = stage(project, *on(nodes))
    assert done.returncode == 0, done.stdout
    assert "2 of 4 to train on " in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_training_starts_again_where_it_was_as_often_as_asked(
    nodes: Nodes, long_project: Path, tmp_path: Path
) -> None:
    project = copy_project(long_project, tmp_path / "project")
    live = project / "live/one-fold0.csv"
    (project / "params.yaml").write_text(LONG.replace("folds: [0, 1]", "folds: [0]"))
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", *on(nodes, "--retries", "1")], cwd=project,
        env=environment(), stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for(live.exists)
        for training in nodes.trainings():
            training.send_signal(signal.SIGKILL)
        said = process.stderr.read() if process.stderr else ""
    assert process.returncode == 0, said
    assert "one fold 0: failed on " in said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_task_that_fails_is_named_and_the_others_go_on(nodes: Nodes, tmp_path: Path) -> None:
    project = project_of(RUINOUS, tmp_path / "project")
    done = stage(project, *on(nodes))
    assert done.returncode == 1
    assert "TrainError: 2 of 4 trainings failed, the others are done: " in done.stdout
    assert "two fold 0 (.resume/logs/train@two-0.log): TrainError: params.yaml: " in done.stdout
    assert len([*project.glob("models/one/*/weights.safetensors")]) == 2
    (project / "params.yaml").write_text(RUINOUS.replace("threads: 1", "threads: 64"))
    done = stage(project, *on(nodes))
    assert done.returncode == 1
    assert "no node of the cluster has 64 CPUs and 2 GiB of memory" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_inputs_that_change_while_a_cluster_trains_stop_it_and_nothing_more_is_placed(
    nodes: Nodes, long_project: Path, tmp_path: Path
) -> None:
    project = copy_project(long_project, tmp_path / "project")
    lock = (project / "dvc.lock").read_bytes()
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", *on(nodes)], cwd=project, env=environment(),
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for((project / "live/one-fold0.csv").exists)
        (project / "params.yaml").write_text(LONG.replace("lr: 0.01", "lr: 0.02"))
        said = process.stderr.read() if process.stderr else ""
    assert process.returncode == 1, said
    assert "TrainError: the code, params.yaml or an input was changed while the cluster" in said
    assert "Traceback" not in said
    assert not [*project.glob("models/one/*/*")]
    assert (project / "dvc.lock").read_bytes() == lock


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_a_node_that_joined_later_trains_is_refused_and_the_same_command_then_works(
    long_project: Path, tmp_path: Path
) -> None:
    project = copy_project(long_project, tmp_path / "project")
    with running(1) as one:
        command = [sys.executable, "-m", "pipeline", *on(one)]
        with subprocess.Popen(
            command, cwd=project, env=environment(), stderr=subprocess.PIPE, text=True
        ) as process:
            wait_for(lambda: [*project.glob("live/*.csv")])
            one.add()
            said = process.stderr.read() if process.stderr else ""
        assert process.returncode == 1, said
        assert "TrainError: this node joined after the nodes were compared. Run the same" in said
        assert "1 of 2 trainings failed, the others are done: " in said
        assert len([*project.glob("models/one/*/weights.safetensors")]) == 1
        done = run(project, *command)
    assert done.returncode == 0, done.stdout
    assert "2 nodes of 3 can train" in done.stdout
    assert "1 of 2 to train on " in done.stdout
    assert len([*project.glob("models/one/*/weights.safetensors")]) == 2


@pytest.mark.slow
def test_without_a_cluster_one_sentence_says_so(long_project: Path, tmp_path: Path) -> None:
    project = copy_project(long_project, tmp_path / "project")
    done = stage(project, "jobs", "--cluster", "127.0.0.1:9")
    assert done.returncode == 1
    assert "TrainError: --cluster 127.0.0.1:9: expected a running cluster of Ray " in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.slow
def test_code_that_is_in_no_commit_is_refused_by_name(long_project: Path, tmp_path: Path) -> None:
    project = copy_project(long_project, tmp_path / "project")
    (project / "pipeline/train/fit.py").write_text("changed = True\n")
    (project / "metrics/mine.py").write_text("new = True\n")
    done = run(
        project, sys.executable, "-c",
        "from pathlib import Path; from pipeline.params import read_config\n"
        "from pipeline.cluster.order import pack; pack(read_config(Path('params.yaml')))",
    )  # fmt: skip
    assert "found 2 files that differ from it (first: pipeline/train/fit.py, metrics/mine.py)" in (
        done.stdout
    )


def node(name: str, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "NodeManagerHostname": name, "Resources": resources}


LARGE = {"CPU": 4, "memory": 8 * GIB}
ONE = NodeFacts({"torch": "2.9"}, "AVX2")
OTHER = NodeFacts({"torch": "2.8"}, "AVX2")


@pytest.mark.parametrize(
    ("device", "world", "share", "nodes", "cpus", "gpus"),
    [
        ("auto", 1, 1.0, [node("a", **LARGE)], 2, 0),
        ("auto", 1, 0.5, [node("a", **LARGE), node("b", GPU=1, **LARGE)], 1, 0.5),
        ("cuda", 1, 1.0, [node("a", **LARGE)], 1, 1.0),
        ("cpu", 1, 1.0, [node("b", GPU=1, **LARGE)], 2, 0),
        ("cpu", 3, 1.0, [node("a", **LARGE)], 6, 0),
        ("cuda", 3, 1.0, [node("b", GPU=4, **LARGE)], 3, 3.0),
    ],
)
def test_each_process_of_a_training_asks_for_a_gpu_or_for_its_threads(
    device: str, world: int, share: float, nodes: list[dict[str, Any]], cpus: int, gpus: float
) -> None:
    train = SECTION.model_copy(update={"device": device, "threads": 2, "world": world})
    need = Need.of(train, share, nodes)
    assert (need.cpus, need.gpus, need.memory) == (cpus, gpus, 2 * GIB * world)


def test_processes_that_train_one_network_share_no_gpu() -> None:
    train = SECTION.model_copy(update={"device": "cuda", "world": 2})
    with pytest.raises(TrainError, match=r"--gpu-share: expected 1 with train\.world: 2"):
        Need.of(train, 0.5, [node("b", GPU=4, **LARGE)])


def test_nodes_that_compute_other_bits_are_refused_or_recorded() -> None:
    need = Need(1, 0, GIB)
    nodes = [node("a", **LARGE), node("b", **LARGE), node("small", CPU=0.5)]
    assert choose_nodes(need, nodes[:1], {"a": ONE}, ONE, mixed=False) == {"a": "AVX2, torch 2.9"}
    facts = {"a": ONE, "b": OTHER}
    with pytest.raises(TrainError, match=r"first: a: AVX2, torch 2\.9, b: AVX2, torch 2\.8"):
        choose_nodes(need, nodes, facts, ONE, mixed=False)
    with pytest.raises(TrainError, match="this machine: AVX2, torch 2.9"):
        choose_nodes(need, nodes[1:2], facts, ONE, mixed=False)
    recorded = choose_nodes(need, nodes, facts, ONE, mixed=True)
    assert recorded == {"a": "AVX2, torch 2.9", "b": "AVX2, torch 2.8"}


def test_gpus_of_another_kind_are_refused() -> None:
    nodes = [
        node(name, GPU=1, **LARGE, **{f"accelerator_type:{kind}": 1})
        for name, kind in (("a", "H100"), ("b", "A100"))
    ]
    with pytest.raises(TrainError, match="GPU H100"):
        choose_nodes(Need(1, 1, GIB), nodes, {"a": ONE, "b": ONE}, OTHER, mixed=False)
    assert choose_nodes(Need(1, 1, GIB), nodes[:1], {"a": ONE}, OTHER, mixed=False) == {
        "a": "GPU H100, torch 2.9"
    }


@pytest.fixture
def order(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[TrainingOrder, dict[str, Any], Path]:
    """A training of the trained project, its files, and an empty disk for the node."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    project = copy_project(trained, tmp_path / "project")
    monkeypatch.chdir(project)
    config: Config = read_config(Path("params.yaml"))
    luggage = pack(config)
    blobs = {
        sha256: content if isinstance(content, bytes) else content.read_bytes()
        for sha256, content in luggage.contents().items()
    }
    training = Training("one", 0, 2)
    share(luggage, tmp_path / "shared")
    return luggage.order(training, config, None), blobs, tmp_path / "shared"


@pytest.mark.slow
def test_a_node_trains_in_a_folder_of_its_own_what_dvc_repro_trains(
    order: tuple[TrainingOrder, dict[str, Any], Path], trained: Path
) -> None:
    told: list[tuple[str, ...]] = []
    for shared in (None, str(order[2])):
        asked = TrainingOrder(**{**vars(order[0]), "shared": shared})
        blobs = order[1] if shared is None else {}
        done = worker.train(asked, blobs, lambda blob: blob, lambda *word: told.append(word))
        assert done.exit_code == 0, done.log.decode()
        expected = {
            path.name: path.read_bytes() for path in (trained / "models/one/fold0").iterdir()
        }
        assert done.files == expected
    assert told[0] == ("one-fold0", os.uname().nodename, "")
    assert told[-1][2].startswith("epoch,")


def test_a_damaged_file_and_a_full_disk_are_said_by_the_training_that_met_them(
    order: tuple[TrainingOrder, dict[str, Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(blob: bytes) -> bytes:
        return blob[:-1] + b"x"

    done = worker.train(order[0], order[1], damaged, lambda *_: None)
    assert done.exit_code == 1
    assert b"a file came with another SHA-256 than " in done.log

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    done = worker.train(order[0], order[1], lambda blob: blob, lambda *_: None)
    assert (done.exit_code, done.files) == (1, {})
    assert b"No space left on device" in done.log


@pytest.fixture
def came_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> engine.RayEngine:
    """An engine to which two trainings have come back since it looked, without Ray and DVC."""
    monkeypatch.chdir(tmp_path)
    LOGS.mkdir(parents=True)
    made: Any = object.__new__(engine.RayEngine)
    made._tasks = {Training("one", fold, 2): fold for fold in (0, 1)}
    made._begun, made._tries, made._kinds, made._luggage = {}, {}, {"id": "AVX2"}, None
    made._options = engine.Options("auto", None, 1.0, 0, mixed=False)
    made._signals, made._hear = Signals(), lambda: None
    monkeypatch.setattr(engine.ray, "wait", lambda tasks, **_: (tasks, []))
    outcome = worker.Outcome("host", 0, b"log", {"weights.safetensors": b"w"})
    monkeypatch.setattr(engine.ray, "get", lambda _: ("id", outcome))
    found: engine.RayEngine = made
    return found


PLACED = ["models/one/fold0/weights.safetensors", "models/one/fold1/weights.safetensors"]


def test_all_that_have_come_back_are_recorded_at_once_when_they_are_placed(
    came_back: engine.RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[tuple[list[str], list[str]]] = []

    def record(stages: list[str]) -> None:
        recorded.append((stages, sorted(map(str, Path().glob("models/*/*/*")))))

    monkeypatch.setattr(engine, "require_same", lambda _: None)
    monkeypatch.setattr(engine.repro, "record", record)
    assert [one.exit_code for one in came_back.wait()] == [0, 0]
    assert recorded == [(["train@one-0", "train@one-1"], PLACED)]


def test_what_is_placed_is_recorded_also_where_the_next_one_finds_no_room(
    came_back: engine.RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[list[str]] = []

    def new_folder(folder: Path) -> Any:
        if folder.name == "fold1":
            raise DiskError("no space left")
        return files.new_folder(folder)

    monkeypatch.setattr(engine, "require_same", lambda _: None)
    monkeypatch.setattr(engine.repro, "record", recorded.append)
    monkeypatch.setattr(engine, "new_folder", new_folder)
    with pytest.raises(DiskError):
        came_back.wait()
    assert recorded == [["train@one-0"]]


def test_nothing_is_recorded_where_an_input_changed_after_it_was_placed(
    came_back: engine.RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC would record the new input as that of the network."""

    def require_same(_: object) -> None:
        if Path(PLACED[1]).exists():
            raise TrainError("changed")

    monkeypatch.setattr(engine, "require_same", require_same)
    monkeypatch.setattr(engine.repro, "record", lambda _: pytest.fail("recorded"))
    with pytest.raises(TrainError, match="changed"):
        came_back.wait()


NOTHING = TrainingOrder("one-fold0", ["train"], "models", "live", "lock", 1, "0" * 64, {}, None, {})


def linked(scratch: Path) -> None:
    (scratch.parent / "elsewhere").mkdir(mode=0o700)
    scratch.symlink_to("elsewhere")


def open_to_others(scratch: Path) -> None:
    scratch.mkdir()
    scratch.chmod(0o750)


@pytest.mark.parametrize("prepare", [linked, open_to_others])
def test_a_scratch_folder_that_others_could_have_filled_is_refused(
    prepare: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch = tmp_path / f"kaggle-pipeline-{os.getuid()}"
    prepare(scratch)
    refused(scratch, tmp_path)


def test_a_scratch_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    another = os.getuid() + 1
    scratch = tmp_path / f"kaggle-pipeline-{another}"
    scratch.mkdir(mode=0o700)
    monkeypatch.setattr(worker.os, "getuid", lambda: another)
    refused(scratch, tmp_path)


def refused(scratch: Path, folder: Path) -> None:
    done = worker.train(NOTHING, {}, lambda blob: blob, lambda *_: None)
    assert (done.exit_code, done.files) == (1, {})
    assert f"{scratch}: expected a folder that this user alone may read" in done.log.decode()
    assert not [*folder.rglob("files")]
