"""Which nodes of a cluster can train, and whether they give the same bits."""

from dataclasses import dataclass
from typing import Any

from pipeline.cluster.worker import NodeFacts
from pipeline.core.errors import TrainError, examples, plural
from pipeline.core.progress import say
from pipeline.train.config import TrainConfig

TRAINING_BYTES = 2 * 2**30
"""Memory of a training, as pipeline/commands/jobs.py states it."""

_MODEL = "accelerator_type:"


@dataclass(frozen=True)
class Need:
    """What a training asks Ray for."""

    cpus: int
    gpus: float
    memory: int

    @classmethod
    def of(cls, train: TrainConfig, gpu_share: float, nodes: list[dict[str, Any]]) -> "Need":
        """All processes of a training; `device: auto` takes GPUs where a node has one.

        Raises TrainError where processes of one network would share a GPU.
        """
        device, world = train.device, train.world
        has_gpu = any(node["Resources"].get("GPU", 0) > 0 for node in nodes)
        if device == "cuda" or (device == "auto" and has_gpu):
            if world > 1 and gpu_share < 1:
                raise TrainError(
                    f"--gpu-share: expected 1 with train.world: {world}, whose processes each "
                    f"have a GPU of their own, found {gpu_share:g}"
                )
            return cls(world, gpu_share * world, world * TRAINING_BYTES)
        return cls(world * train.threads, 0, world * TRAINING_BYTES)

    def fits(self, node: dict[str, Any]) -> bool:
        """Whether a node, when idle, has all of it."""
        has = node["Resources"]
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        return all(has.get(name, 0) >= amount for name, amount in asked.items())

    def __str__(self) -> str:
        gpu = f"{self.gpus:g} GPU and " if self.gpus else ""
        return f"{gpu}{plural(self.cpus, 'CPU')} and {self.memory / 2**30:.0f} GiB of memory"


def choose_nodes(
    need: Need,
    nodes: list[dict[str, Any]],
    facts: dict[str, NodeFacts],
    here: NodeFacts,
    mixed: bool,
) -> dict[str, str]:
    """Say which nodes train; what each is, by its id.

    facts: of the nodes that fit. here: of this machine, whose `dvc repro` would give the bits.
    Raises TrainError where no node is large enough, or they differ and may not.
    """
    able = [node for node in nodes if need.fits(node)]
    if not able:
        largest = max(nodes, key=lambda node: node["Resources"].get("CPU", 0), default=None)
        has = {} if largest is None else largest["Resources"]
        raise TrainError(
            f"no node of the cluster has {need}, which one training takes; of "
            f"{plural(len(nodes), 'node')} the largest has {has.get('GPU', 0):g} GPU, "
            f"{has.get('CPU', 0):g} CPUs and {has.get('memory', 0) / 2**30:.1f} GiB. Lower "
            "train.threads, train.world or --gpu-share, or add a node"
        )
    kinds = {node["NodeID"]: _kind(need, node, facts[node["NodeID"]]) for node in able}
    names = {node["NodeID"]: node["NodeManagerHostname"] for node in able}
    ours = None if need.gpus else _kind(need, {"Resources": {}}, here)
    found = sorted({*kinds.values()} | ({ours} if ours else set()))
    say(f"{plural(len(able), 'node')} of {len(nodes)} can train: {need} each; {'; '.join(found)}")
    if len(found) > 1 and not mixed:
        listed = [f"{names[node]}: {kind}" for node, kind in kinds.items()]
        listed += [f"this machine: {ours}"] if ours else []
        raise TrainError(
            "expected machines that compute the same bits, found machines that differ "
            f"{examples(listed)}. Install the same requirements.lock and take one kind of machine, "
            "or allow it, and have each network's machine recorded: --mixed"
        )
    return kinds


def _kind(need: Need, node: dict[str, Any], facts: NodeFacts) -> str:
    """All that decides the last bits of a network there."""
    models = [name.removeprefix(_MODEL) for name in node["Resources"] if name.startswith(_MODEL)]
    device = f"GPU {'/'.join(models) or 'of unknown kind'}" if need.gpus else facts.instructions
    versions = [f"{name} {text or 'missing'}" for name, text in facts.versions.items()]
    return ", ".join([device, *versions])
