"""Trainings as tasks of Ray, on whatever machines its cluster has.

Ray decides where each one runs, by the CPUs, GPUs and memory that it asks for, and runs it again
where its node is lost. The results come back here, and this process alone puts them in their place
and lets DVC record them: so dvc.lock has one writer, and `dvc repro` finds nothing left to train.
"""

import contextlib
import logging
import socket
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.cloudpickle
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.cluster import worker
from pipeline.cluster.nodes import Need, choose_nodes
from pipeline.cluster.order import Luggage, require_same, share
from pipeline.cluster.worker import NodeFacts, Outcome
from pipeline.commands import repro
from pipeline.commands.board import Training
from pipeline.commands.jobs import Ended, Engine
from pipeline.commands.processes import Signals
from pipeline.core import paths
from pipeline.core.errors import TrainError
from pipeline.core.files import new_folder, write_text
from pipeline.core.progress import say
from pipeline.params import Config

warnings.simplefilter("ignore", DeprecationWarning)  # those of others, which Ray shows

MOST_IN_MEMORY = 2 * 2**30
"""Bytes of inputs that Ray's object store passes on; larger ones need a shared folder."""

_GRACE_S = 20.0
_LOST = 5
"""How often Ray runs a training again whose node or process was lost."""


@dataclass(frozen=True)
class Options:
    """What the command line says of a cluster.

    address: `auto` for the one of this machine, or HOST:PORT of its head. shared: a folder that
    all nodes see at the same path. gpu_share: the part of a GPU that a training takes. retries: of
    a training that fails. mixed: whether nodes may differ in what decides a network's bits.
    """

    address: str
    shared: Path | None
    gpu_share: float
    retries: int
    mixed: bool


@ray.remote(num_cpus=0)
class _Mailbox:
    """The last word of each training."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, str]] = {}

    def put(self, name: str, node: str, table: str) -> None:
        self._last[name] = node, table

    def read(self) -> dict[str, tuple[str, str]]:
        return self._last


class RayEngine(Engine):
    """A cluster of Ray's."""

    def __init__(self, options: Options, config: Config, luggage: Luggage) -> None:
        """Connect. Raises TrainError where that fails, or no node can train."""
        if options.shared is None and luggage.size > MOST_IN_MEMORY:
            raise TrainError(
                f"the data are {luggage.size / 1e9:.1f} GB, more than goes through Ray's memory: "
                "name a folder that all nodes see at the same path: --shared FOLDER, or let nodes "
                "fetch them from DVC's default remote: --remote"
            )
        self._options, self._config, self._luggage = options, config, luggage
        self._signals = Signals()
        self._tasks: dict[Training, Any] = {}
        self._begun: dict[Training, str] = {}
        self._tries: dict[Training, int] = {}
        _connect(options.address)
        try:
            ray.cloudpickle.register_pickle_by_value(worker)  # type: ignore[no-untyped-call]
            self._need = self._choose()
            self._blobs = self._send()
            here = NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=False
            )
            self._mailbox = _Mailbox.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
            self._task = self._make_task()
        except BaseException:
            ray.shutdown()
            raise

    def _choose(self) -> Need:
        """What a training asks for, on nodes that give the same bits; they are said."""
        options, train = self._options, self._config.train
        nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        need = Need.of(train, options.gpu_share, nodes)
        asked = {node["NodeID"]: self._ask(node["NodeID"]) for node in nodes if need.fits(node)}
        here = worker.describe_node()  # at the same time
        facts: dict[str, NodeFacts] = dict(zip(asked, ray.get([*asked.values()]), strict=True))
        self._kinds = choose_nodes(need, nodes, facts, here, options.mixed)
        return need

    def _ask(self, node: str) -> Any:
        """A node's facts, when it has found them: all nodes are asked at the same time."""
        task = ray.remote(num_cpus=0)(worker.describe_node)
        where = NodeAffinitySchedulingStrategy(node, soft=False)
        return task.options(scheduling_strategy=where).remote()

    def _send(self) -> dict[str, Any]:
        """Give the inputs to the shared folder, or to Ray; what Ray has, by SHA-256."""
        if self._options.shared is not None:
            share(self._luggage, self._options.shared)
            return {}
        contents = self._luggage.contents()
        return {
            sha256: ray.put(each if isinstance(each, bytes) else each.read_bytes())
            for sha256, each in contents.items()
        }

    def __enter__(self) -> "RayEngine":
        self._signals.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for task in self._tasks.values():
                with contextlib.suppress(RayError, ValueError):
                    ray.cancel(task, force=True)
            if self._tasks:
                ray.wait([*self._tasks.values()], num_returns=len(self._tasks), timeout=_GRACE_S)
            ray.shutdown()
        finally:
            self._signals.__exit__()

    def has_room(self) -> bool:
        return True  # Ray lets them wait

    def start(self, training: Training) -> None:
        order = self._luggage.order(training, self._config, self._options.shared)
        self._tasks[training] = self._task.options(name=order.name).remote(order, self._blobs)

    def _make_task(self) -> Any:
        """What runs on a node: one function for all trainings, which Ray sends there once."""
        mailbox, need = self._mailbox, self._need

        def train(order: Any, blobs: dict[str, Any]) -> Any:
            def tell(*word: str) -> None:
                mailbox.put.remote(*word)

            place = ray.get_runtime_context().get_node_id()
            return place, worker.train(order, blobs, ray.get, tell)

        return ray.remote(
            max_retries=_LOST, num_cpus=need.cpus, num_gpus=need.gpus, memory=need.memory
        )(train)

    def running(self) -> dict[Training, str]:
        return {
            training: self._begun[training] for training in self._tasks if training in self._begun
        }

    def wait(self) -> list[Ended]:
        self._signals.wait()
        self._hear()
        done, _ = ray.wait([*self._tasks.values()], num_returns=len(self._tasks), timeout=0)
        ended = list[Ended]()
        try:
            for training in [each for each, task in self._tasks.items() if task in done]:
                if one := self._end(training):
                    ended.append(one)
        finally:  # what is placed already is whole, also where the next one finds a full disk
            if placed := [one.training.stage for one in ended if one.exit_code == 0]:
                require_same(self._luggage)
                repro.record(placed)
        return ended

    def _hear(self) -> None:
        """Note where trainings have begun, and put their tables where ours would be."""
        try:
            words: dict[str, tuple[str, str]] = ray.get(self._mailbox.read.remote())
        except RayError as error:
            raise TrainError(
                f"--cluster {self._options.address}: lost: {type(error).__name__}. What came back "
                "is recorded; the same command trains what is left"
            ) from error
        for training in self._tasks:
            name = f"{training.model}-fold{training.fold}"
            if name in words:
                self._begun[training], table = words[name]
                if table and (not training.live.exists() or training.live.read_text() != table):
                    write_text(training.live, table)

    def _end(self, training: Training) -> Ended | None:
        """Place what a training has left, for `wait` to record, or start it again; None where it
        goes on."""
        node, outcome = "", Outcome("", 1, b"")
        try:
            node, outcome = ray.get(self._tasks.pop(training))
        except RayError as error:
            reason = error.cause if isinstance(error, RayTaskError) else error
            outcome = Outcome("", 1, f"{type(reason).__name__}: {reason}\n".encode())
        if outcome.exit_code == 0 and node not in self._kinds:
            later = "TrainError: this node joined after the nodes were compared"
            outcome = Outcome(outcome.node, 1, f"{later}. Run the same command\n".encode())
        training.log.write_bytes(outcome.log)
        place = outcome.node or self._begun.get(training, "")
        if outcome.exit_code:
            tried = self._tries.get(training, 0)
            if tried < self._options.retries:
                self._tries[training] = tried + 1
                say(f"{training}: failed on {place}, starts again (log in {training.log})")
                self.start(training)
                return None
            return Ended(training, outcome.exit_code, place)
        files = dict(outcome.files)
        if len(set(self._kinds.values())) > 1 or self._options.mixed:
            files["machine.txt"] = f"{self._kinds[node]}\n".encode()
        require_same(self._luggage)
        with new_folder(paths.model_folder(training.model, training.fold)) as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)
        return Ended(training, 0, place)


def _connect(address: str) -> None:
    """Join a cluster as its driver. Raises TrainError where that fails."""
    started = time.monotonic()
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdecimal():  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:400]
        raise TrainError(
            f"--cluster {address}: expected a running cluster of Ray {ray.__version__}: {reason}. "
            "docs/CLUSTER.md says how to start one"
        ) from error
    say(f"joined the cluster {address}, {time.monotonic() - started:.0f} s")
