"""The training of a probe: features once for all folds, then scikit-learn's linear models.

The features do not depend on the fold: the first training computes those of all images, the
others, side by side or later, read them. They lie outside the outputs, in a folder named by a hash
of everything that decides them, whole or not at all.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from filelock import FileLock, Timeout
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from threadpoolctl import threadpool_limits
from torch import Tensor

from pipeline.core import paths
from pipeline.core.errors import TrainError
from pipeline.core.files import keep_newest
from pipeline.core.progress import say, track
from pipeline.core.shapes import Images, Labels, Outputs
from pipeline.core.task import AnyOf, Number, Task
from pipeline.train.checkpoint import Checkpoint, hash_of_inputs
from pipeline.train.config import ProbeConfig
from pipeline.train.device import Compute
from pipeline.train.fit import EpochRow
from pipeline.train.infer import BATCH
from pipeline.train.models import Classifier
from pipeline.train.objective import RawOutputs, count_right, loss_of, targets_of

FEATURES = paths.RESUME / "features"
_KEPT = 2
"""The features that stay: those of the networks or images that were used last."""

Layer = tuple[Float[ndarray, "outputs features"], Float[ndarray, " outputs"]]


@dataclass(frozen=True)
class Features:
    """Those of all stored images, row by row."""

    train: Float[Tensor, "rows features"]
    test: Float[Tensor, "test_rows features"]


def compute_features(
    model: Classifier,
    images: Images,
    test_images: UInt8[ndarray, "tests height width channels"],
    config: ProbeConfig,
    compute: Compute,
    threads: int,
) -> Features:
    """The features of all images, from .resume/features where another training computed them.

    model: a probe, on its device.
    """
    description = f"{config.network.model_dump_json()} {compute.kind} {threads}"
    key = hash_of_inputs(description, [paths.TRAIN_IMAGES, paths.TEST_IMAGES])
    FEATURES.mkdir(parents=True, exist_ok=True)
    lock = FileLock(FEATURES / ".lock")  # the system frees that of a process that is killed
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say("waiting for the features that another training computes")
        lock.acquire()
    try:
        cache = Checkpoint(FEATURES / key)
        if saved := cache.load(torch.device("cpu")):
            cache.folder.touch()
            return Features(**saved)
        count = len(images) + len(test_images)
        say(f"computing the features of {count} images, once for all folds")
        features = Features(_compute(model, images, compute), _compute(model, test_images, compute))
        if not all(bool(each.isfinite().all()) for each in (features.train, features.test)):
            raise TrainError(
                f"the network gives features that are no finite numbers in {compute.dtype}. Set "
                "precision: float32"
            )
        cache.save({"train": features.train, "test": features.test})
        keep_newest(FEATURES, _KEPT)
        return features
    finally:
        lock.release()


@torch.inference_mode()
def _compute(model: Classifier, images: Images, compute: Compute) -> Float[Tensor, "rows features"]:
    """All features, in the batches of `infer.predict`, so that a prediction has the same bits."""
    model.eval()
    found = []
    for start in track(range(0, len(images), BATCH), "features", -(-len(images) // BATCH)):
        chunk = np.array(images[start : start + BATCH])
        batch = torch.from_numpy(chunk).to(compute.device).movedim(-1, 1)
        with compute.autocast():
            found.append(model.network.features(model.normalise(batch)).float().cpu())  # type: ignore[operator]
    return torch.cat(found)


def fit_probe(
    model: Classifier,
    features: Float[Tensor, "rows features"],
    labels: Labels,
    training: Int[ndarray, " training"],
    config: ProbeConfig,
    compute: Compute,
    threads: int,
) -> EpochRow:
    """Fit the classifier of a probe on the training rows, and no others; the row of its history."""
    task = model.task
    model.set_scale(labels[training])
    targets = targets_of(task.learn(labels[training]), model.offset, model.spread)
    known = features[torch.from_numpy(training)]
    with threadpool_limits(threads):
        weight, bias = fit_layer(known.numpy(), targets, task, config.l2)
    layer = model.network.classifier
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))  # type: ignore[operator,union-attr]
        layer.bias.copy_(torch.from_numpy(bias))  # type: ignore[operator,union-attr]
    outputs, truth = _classify(model, known, compute).cpu(), torch.from_numpy(targets)
    row: EpochRow = {"epoch": 1, "loss": float(loss_of(outputs, truth, task, 0.0))}
    if isinstance(task, Number):
        return row
    return row | {"accuracy": float(count_right(outputs, truth, task)) / len(training)}


def predict_features(
    model: Classifier, features: Float[Tensor, "rows features"], compute: Compute
) -> Outputs:
    """The predictions of images with these features; those of `infer.predict`."""
    values: Outputs = model.activate(_classify(model, features, compute)).double().cpu().numpy()
    return values


@torch.inference_mode()
def _classify(
    model: Classifier, features: Float[Tensor, "rows features"], compute: Compute
) -> RawOutputs:
    with compute.autocast():
        chunks = torch.split(features, BATCH)
        found = [model.network.classifier(each.to(compute.device)) for each in chunks]  # type: ignore[operator]
    return torch.cat(found).float()


def fit_layer(
    features: Float[ndarray, "rows features"], targets: Labels, task: Task, l2: float
) -> Layer:
    """The weights and biases of the linear layer, which standardises the features as well.

    targets: as `objective.targets_of` has them.
    """
    from sklearn.linear_model import Ridge  # 1.3 s
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    known = scaler.fit_transform(features)
    if isinstance(task, Number):
        ridge = Ridge(alpha=l2 * len(known)).fit(known, targets)
        weight, bias = np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)
    elif isinstance(task, AnyOf):
        columns = [_fit_classes(known, column > 0.5, 2, l2) for column in targets.T]
        weight = np.stack([each[1] - each[0] for each, _ in columns])
        bias = np.array([each[1] - each[0] for _, each in columns])
    else:
        weight, bias = _fit_classes(known, targets, len(task.learned), l2)
    weight = np.asarray(weight, np.float64) / scaler.scale_
    return weight, np.asarray(bias, np.float64) - weight @ scaler.mean_


def _fit_classes(
    known: Float[ndarray, "rows features"], targets: ndarray, classes: int, l2: float
) -> Layer:
    """The layer of standardised features.

    A class that no row has gets the odds of half a row, everywhere.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weight = np.zeros((classes, known.shape[1]))
    bias = np.full(classes, -math.log(2 * len(known)))
    there = np.unique(targets.astype(np.int64))
    bias[there] = 0.0
    if len(there) == 1:
        return weight, bias
    model = LogisticRegression(C=1 / (l2 * len(known)), max_iter=2000)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(known, targets)
    if any(issubclass(each.category, ConvergenceWarning) for each in said):
        say(f"the fit stopped after {model.n_iter_.max()} steps, before its end: raise l2")
    if len(there) == 2:
        weight[there[1]], bias[there[1]] = model.coef_[0], model.intercept_[0]
    else:
        weight[there], bias[there] = model.coef_, model.intercept_
    return weight, bias
