"""The training loop.

The number of epochs is fixed in advance, or the epoch is chosen by the loss on inner rows
that are part of the training folds. The rows that the network is scored on are not known here.

All randomness of an epoch comes from the model's seed and the epoch's number, so that a run
resumed after any epoch gives the same bits as an unbroken one.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, Int, Num
from numpy import ndarray
from torch import Tensor

from pipeline.core.errors import TrainError
from pipeline.core.progress import say, track
from pipeline.core.shapes import Labels, Packed
from pipeline.core.task import Number
from pipeline.train.batches import Batch, Feed
from pipeline.train.checkpoint import Checkpoint
from pipeline.train.config import InnerEpoch, LastEpoch, ModelConfig
from pipeline.train.device import Compute
from pipeline.train.head import freeze_body
from pipeline.train.infer import predict
from pipeline.train.models import Classifier
from pipeline.train.normalise import synchronise
from pipeline.train.objective import RawOutputs, Targets, count_right, loss_of, targets_of
from pipeline.train.optim import MovingAverage, build_optimizers, learning_rate
from pipeline.train.world import ALONE, World

EpochRow = dict[str, int | float]
History = list[EpochRow]
"""One row an epoch: epoch (from 1), lr (at its end), loss and, but for numbers, accuracy (on
augmented training images, in training mode), and with inner rows inner_loss and inner_accuracy."""

Forward = Callable[[Classifier, Tensor, Tensor, float, Compute], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TrainingRows:
    """Row numbers of the stored array, disjoint. Raises TrainError for too few to train on."""

    training: Int[ndarray, " training"]
    inner: Int[ndarray, " inner"]
    """Those that choose the epoch; empty where it is fixed."""

    def __post_init__(self) -> None:
        if len(self.training) < 2:
            raise TrainError(
                f"expected at least 2 rows to train on, found {len(self.training)}: batch "
                "normalisation has no variance of one. Add some, or raise split.folds (and "
                "`folds` of `epoch: {rule: inner}`), which leaves more to train on"
            )


def fit(
    model: Classifier,
    images: Packed,
    labels: Labels,
    rows: TrainingRows,
    config: ModelConfig,
    compute: Compute,
    checkpoint: Checkpoint,
    on_epoch: Callable[[History], None],
    world: World = ALONE,
    sync_batch_norm: bool = False,
) -> tuple[Classifier, History]:
    """Train `model` on `rows.training` and return the network that predicts, and its history.

    images, labels: all that are stored, be they signals; only `rows` are read. on_epoch is called
    with the history after each epoch. world: the processes that train it, each of which calls this
    and gets the same network; the one that leads keeps the checkpoint. Raises TrainError where the
    loss is no finite number, or there are too few rows for all processes.
    """
    if len(rows.training) < 2 * world.size:
        raise TrainError(
            f"expected at least two training rows for each of {world.size} processes, found "
            f"{len(rows.training)}. Lower train.world"
        )
    model.set_scale(labels[rows.training])
    model.set_input(images, rows.training)
    targets = targets_of(model.task.learn(labels), model.offset, model.spread)
    feed = Feed(images, targets, rows.training, config, compute.device, world)
    if sync_batch_norm and world.size > 1:
        synchronise(model, world)
    model = model.to(compute.device).to(memory_format=torch.channels_last)
    state = _State(model, config, compute, world)
    if saved := checkpoint.load(compute.device):
        try:
            state.restore(saved)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise TrainError(
                f"{checkpoint.folder}: expected a state of this training, found another one "
                f"({reason}). Delete the folder to start from the beginning"
            ) from error
        say(f"going on after epoch {len(state.history)} of {config.epochs}")
    first_step = len(state.history) * feed.steps_per_epoch
    batches = track(feed.batches(first_step), "training", len(feed) - first_step)
    for epoch in range(len(state.history), config.epochs):
        if _has_waited(state.history, config.epoch):
            say(f"ends after epoch {epoch} of {config.epochs}: patience is over")
            break
        # Dropout draws from the global generator.
        torch.manual_seed((config.seed * 100_003 + epoch) * world.size + world.rank)
        row = _train_epoch(state, feed, batches, epoch, config, compute)
        if isinstance(config.epoch, InnerEpoch):
            row |= _score_inner(state.average, images, labels, rows.inner, compute, world)
            if all(row["inner_loss"] < before["inner_loss"] for before in state.history):
                state.best = copy.deepcopy(state.average.state_dict())
        state.history.append(row)
        if world.leads:
            checkpoint.save(state.dump())
            on_epoch(state.history)
    if state.best is not None:
        state.average.load_state_dict(state.best)
    return state.average, state.history


def _has_waited(history: History, rule: LastEpoch | InnerEpoch) -> bool:
    """Whether the lowest inner loss is as many epochs old as patience allows."""
    if isinstance(rule, LastEpoch) or rule.patience is None or not history:
        return False
    losses = [row["inner_loss"] for row in history]
    return len(losses) - 1 - losses.index(min(losses)) >= rule.patience


class _State:
    """Everything that changes while training."""

    _STATEFUL = ("model", "average", "scaler")

    def __init__(
        self, model: Classifier, config: ModelConfig, compute: Compute, world: World
    ) -> None:
        self.model = model
        self.world = world
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        self.moving_average = MovingAverage(model, self.average, config.ema)
        self.forward = _compile(score_batch, compute) if config.compiled else score_batch
        self.optimizers = build_optimizers(model, config)
        self.scaler = torch.amp.GradScaler(
            compute.device.type, enabled=compute.dtype == torch.float16
        )
        self.decaying = [each for each in model.parameters() if each.ndim > 1]
        self.history: History = []
        self.best: dict[str, Tensor] | None = None

    def dump(self) -> dict[str, Any]:
        states = {name: getattr(self, name).state_dict() for name in self._STATEFUL}
        optimizers = [each.state_dict() for each in self.optimizers]
        return {**states, "optimizers": optimizers, "history": self.history, "best": self.best}

    def restore(self, saved: dict[str, Any]) -> None:
        for name in self._STATEFUL:
            getattr(self, name).load_state_dict(saved[name])
        for optimizer, values in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        self.history = saved["history"]
        self.best = saved["best"]


def _train_epoch(
    state: _State,
    feed: Feed,
    batches: Iterator[Batch],
    epoch: int,
    config: ModelConfig,
    compute: Compute,
) -> EpochRow:
    state.model.train()
    if config.freeze_epochs:
        freeze_body(state.model.backbone, frozen=epoch < config.freeze_epochs)
    device, task, steps = compute.device, state.model.task, feed.steps_per_epoch
    total_loss = torch.zeros((), device=device)
    correct = torch.zeros((), device=device)
    seen = 0
    rate = config.lr
    for step in range(epoch * steps, (epoch + 1) * steps):
        images, targets = next(batches)
        rate = learning_rate(config, step, steps)
        for group in chain.from_iterable(each.param_groups for each in state.optimizers):
            group["lr"] = rate * group.get("lr_scale", 1.0)
        loss, outputs = state.forward(state.model, images, targets, config.label_smoothing, compute)
        _update_weights(state, state.world.weigh(loss, len(targets), feed.size_of(step)), config)
        state.moving_average.update(step + 1)
        total_loss += loss.detach() * len(targets)
        correct += count_right(outputs, targets, task)
        seen += len(targets)
    sums = torch.stack([total_loss, correct, total_loss.new_tensor(seen)])
    total_loss, correct, images_seen = state.world.add(sums)
    mean_loss = float(total_loss) / float(images_seen)
    if not math.isfinite(mean_loss):
        raise TrainError(
            f"the loss is {mean_loss} in epoch {epoch + 1} of {config.epochs}: expected a finite "
            f"number. Lower lr (now {config.lr}), or set precision: float32, or clip_norm: 1.0"
        )
    row: EpochRow = {"epoch": epoch + 1, "lr": rate, "loss": mean_loss}
    return (
        row if isinstance(task, Number) else row | {"accuracy": float(correct) / float(images_seen)}
    )


def score_batch(
    model: Classifier,
    images: Num[Tensor, "batch channels *axes"],
    targets: Targets,
    label_smoothing: float,
    compute: Compute,
) -> tuple[Float[Tensor, ""], RawOutputs]:
    """The mean loss of a batch, and its outputs."""
    with compute.autocast():
        outputs = model(images)
    return loss_of(outputs.float(), targets, model.task, label_smoothing), outputs


def _compile(forward: Forward, compute: Compute) -> Forward:
    """The same function, compiled once for each batch size and side of the images.

    On a GPU a small network's step is hundreds of kernels that take less time than their launch.
    Compiled, neighbours become one, and on CUDA the whole is a graph that is launched at once,
    whose results the next call overwrites. A call raises TrainError where nothing can be compiled,
    as without a C++ compiler.
    """
    # PyTorch stops at 8, which two batch sizes of five sides, or a frozen body, exceed.
    torch._dynamo.config.recompile_limit = 256
    mode = "reduce-overhead" if compute.device.type == "cuda" else "default"
    compiled = torch.compile(forward, mode=mode, dynamic=False, fullgraph=True)

    def call(*arguments: Any) -> tuple[Tensor, Tensor]:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        try:
            return compiled(*arguments)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise TrainError(
                f"compiled: true: torch.compile failed: {type(error).__name__}: {reason}. "
                "It needs a C++ compiler (on a GPU also Triton). Set compiled: false"
            ) from error

    return call


def _update_weights(state: _State, loss: Tensor, config: ModelConfig) -> None:
    if config.l1:
        loss = loss + config.l1 * mean_size(state.decaying)
    state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    state.world.combine(state.model)
    if config.clip_norm is not None:
        for optimizer in state.optimizers:
            state.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
    for optimizer in state.optimizers:
        state.scaler.step(optimizer)
    state.scaler.update()
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)


def mean_size(weights: list[torch.nn.Parameter]) -> Float[Tensor, ""]:
    """The mean absolute value of those that learn."""
    learning = [each for each in weights if each.requires_grad]
    total = torch.stack([each.abs().sum() for each in learning]).sum()
    return total / sum(each.numel() for each in learning)


def _score_inner(
    model: Classifier,
    images: Packed,
    labels: Labels,
    inner: Int[ndarray, " inner"],
    compute: Compute,
    world: World,
) -> EpochRow:
    task, truth = model.task, labels[inner]
    values = predict(model, images, inner, compute, tta=False, world=world)
    row: EpochRow = {"inner_loss": float(task.losses(values, truth).mean())}
    right = task.right(task.decide(values, None), truth)
    return row if isinstance(task, Number) else row | {"inner_accuracy": float(right.mean())}
