"""Several models' predictions into one: what is fitted, and how it is applied to other rows.

weighted and stack minimise the loss that networks are trained by, whatever the metric is: most
metrics move only in jumps, and among weights with equal scores the loss still shows which are
better. greedy uses the metric itself, and between equal scores the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from pipeline.core.errors import EnsembleError
from pipeline.core.shapes import Labels, Outputs
from pipeline.core.task import AnyOf, OneOf, Task
from pipeline.ensemble.calibrate import fit_cuts, fit_temperature, sharpen
from pipeline.ensemble.config import Kind
from pipeline.scoring.metric import Metric

Stacked = Float[ndarray, "models rows outputs"]
"""The models' predictions of the same rows."""

Loss = Callable[[ndarray], tuple[float, ndarray]]
"""A loss of the weights, and its gradient."""

_FLATTEST = 1e-6
"""Lower bound of the probabilities whose logits are features: a few rows of 1e-30 would otherwise
decide a linear model."""


@dataclass(frozen=True)
class Recipe:
    """What to fit: params.yaml's choices, with one kind of blend."""

    kind: Kind
    task: Task
    metric: Metric
    calibration: Literal["none", "temperature"]
    threshold: Literal["none", "fitted"]
    greedy_rounds: int
    stack_l2: float

    @property
    def is_fitted(self) -> bool:
        """Whether anything is learned from labels."""
        return (self.kind, self.calibration, self.threshold) != ("mean", "none", "none")


@dataclass(frozen=True)
class Prediction:
    """Predictions, and the labels decided from them."""

    values: Outputs
    decided: Labels

    def subset(self, chosen: Bool[ndarray, " rows"]) -> "Prediction":
        """Some of the rows."""
        return Prediction(self.values[chosen], self.decided[chosen])


@dataclass(frozen=True)
class WeightedMean:
    """The weighted mean of the predictions."""

    weights: Float[ndarray, " models"]
    """Not negative, adding up to one."""

    def apply(self, members: Stacked) -> Outputs:
        """The sum over the models, one after the other: the same bits on every machine."""
        total: Outputs = sum(
            (weight * member for weight, member in zip(self.weights, members, strict=True)),
            np.zeros(members.shape[1:]),
        )
        return total


@dataclass(frozen=True)
class Ranks:
    """The log-odds of a row's mean rank, over the models, among the rows fitted on.

    A rank among fixed rows, and not among those that are predicted, makes a row's prediction
    independent of the other rows of the test set.
    """

    known: Float[ndarray, "models fitted_rows"]
    """Each model's probabilities of the second of two classes on the rows fitted on, ascending."""

    def __call__(self, members: Stacked) -> Float[ndarray, "rows features"]:
        """A single feature."""
        ranks = np.zeros(members.shape[1])
        for column, values in zip(self.known, members[:, :, 1], strict=True):
            ranks += np.searchsorted(column, values, side="left")
            ranks += np.searchsorted(column, values, side="right")
        models, rows = self.known.shape
        share = np.clip(ranks / (2 * rows * models), 0.5 / rows, 1 - 0.5 / rows)
        return np.asarray(np.log(share / (1 - share))[:, None])


@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regression on features of the members."""

    features: Callable[[Stacked], Float[ndarray, "rows features"]]
    coefficients: Float[ndarray, "outputs features"]
    intercepts: Float[ndarray, " outputs"]
    """One output for two classes (the second's log-odds), else one per class."""

    def apply(self, members: Stacked) -> Outputs:
        """The softmax of the linear functions.

        The features are added one after the other: a row has the same bits whatever the other rows
        are, which a matrix product does not promise.
        """
        columns = self.features(members).T
        scores = np.zeros((columns.shape[1], len(self.intercepts)))
        for column, of_outputs in zip(columns, self.coefficients.T, strict=True):
            scores += column[:, None] * of_outputs
        scores += self.intercepts
        if scores.shape[1] == 1:
            scores = np.hstack([np.zeros_like(scores), scores])
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class FittedBlend:
    """A blend with its temperature and cuts, if any."""

    task: Task
    blend: WeightedMean | Logistic
    temperature: float | None
    cuts: list[float] | None
    """As the task's `decide` takes them."""

    def apply(self, members: Stacked) -> Prediction:
        """Blend, calibrate, decide."""
        values = self.blend.apply(members)
        if self.temperature is not None:
            values = sharpen(self.task, values, self.temperature)
        return Prediction(values, self.task.decide(values, self.cuts))


def fit(recipe: Recipe, members: Stacked, labels: Labels) -> FittedBlend:
    """Fit the recipe's blend, then its temperature, then its cuts, on the same rows.

    With one model every kind is the mean, which is that model. The recipe is for such a task:
    scoring/plan.py has refused others.
    """
    blend = fit_blend(recipe, members, labels)
    values = blend.apply(members)
    temperature = cuts = None
    if recipe.calibration == "temperature":
        temperature = fit_temperature(recipe.task, values, labels)
        values = sharpen(recipe.task, values, temperature)
    if recipe.threshold == "fitted" and recipe.metric.needs == "labels":
        cuts = fit_cuts(recipe.task, values, labels, recipe.metric)
    return FittedBlend(recipe.task, blend, temperature, cuts)


def fit_blend(recipe: Recipe, members: Stacked, labels: Labels) -> WeightedMean | Logistic:
    """Fit the blend alone."""
    count = len(members)
    if recipe.kind == "mean" or count == 1:
        return WeightedMean(np.full(count, 1 / count))
    match recipe.kind:
        case "single":
            return WeightedMean(np.eye(count)[_order(recipe, members, labels)[0]])
        case "weighted":
            return WeightedMean(fit_weights(recipe.task, members, labels))
        case "greedy":
            return WeightedMean(select_greedily(recipe, members, labels))
        case "rank_mean":
            return _fit_logistic(recipe, rank_features(members), members, labels)
        case "stack":
            return _fit_logistic(recipe, logit_features, members, labels)


def fit_weights(task: Task, members: Stacked, labels: Labels) -> Float[ndarray, " models"]:
    """The weighted mean of the smallest loss of the task, which is convex in the weights.

    weights: not negative, adding up to one. With classes the ratio of each model's likelihood to
    the blend's is, at the optimum, at most 1, averaged over the rows (tests/test_blends.py).
    """
    from scipy.optimize import minimize  # 0.3 s

    if isinstance(task, OneOf):
        loss = _log_loss(members[:, np.arange(len(labels)), labels])
    elif isinstance(task, AnyOf):
        loss = _log_loss(np.where(labels, members, 1 - members).reshape(len(members), -1))
    else:
        loss = _squared_error((members - labels).reshape(len(members), -1))
    count = len(members)
    found = minimize(
        loss,
        np.full(count, 1 / count),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    weights = np.maximum(found.x, 0)
    return np.asarray(weights / weights.sum())


def _log_loss(of_label: Float[ndarray, "models events"]) -> Loss:
    of_label = np.maximum(of_label, 2.0**-52)

    def loss(weights: ndarray) -> tuple[float, ndarray]:
        mixture = weights @ of_label
        return -float(np.log(mixture).mean()), -(of_label / mixture).mean(axis=1)

    return loss


def _squared_error(errors: Float[ndarray, "models numbers"]) -> Loss:
    def loss(weights: ndarray) -> tuple[float, ndarray]:
        error = weights @ errors  # the blend's, as the weights add up to one
        return float((error**2).mean()), 2 * (errors * error).mean(axis=1)

    return loss


def select_greedily(recipe: Recipe, members: Stacked, labels: Labels) -> Float[ndarray, " models"]:
    """Ensemble selection (Caruana, Niculescu-Mizil, Crew and Ksikes 2004): each model's share.

    The start is the best of the means of the one, two, … best models (their sorted
    initialisation). Each round adds the model, with replacement, whose addition scores best; the
    best set of all rounds is returned, of equal ones the smallest. Their bagging of the library is
    left out: it protects a choice among thousands of models, and here are only a few.
    """

    def merit(taken: ndarray) -> tuple[float, float]:
        return _merit(recipe, WeightedMean(taken / taken.sum()).apply(members), labels)

    count = len(members)
    order = _order(recipe, members, labels)
    starts = [np.bincount(order[:size], minlength=count) for size in range(1, count + 1)]
    best = taken = max(starts, key=merit)
    best_merit = merit(best)
    for _ in range(recipe.greedy_rounds):
        additions = taken + np.eye(count, dtype=np.int64)
        merits = [merit(row) for row in additions]
        place = max(range(count), key=merits.__getitem__)
        taken = additions[place]
        if merits[place] > best_merit:
            best, best_merit = taken, merits[place]
    return np.asarray(best / best.sum())


def logit_features(members: Stacked) -> Float[ndarray, "rows features"]:
    """The logits of each model: log-odds of the second of two classes, else centred logarithms."""
    logs = np.log(np.clip(members, _FLATTEST, 1))
    logits = logs - logs.mean(axis=2, keepdims=True)
    if members.shape[2] == 2:
        logits = 2 * logits[:, :, 1:]
    return np.asarray(logits.transpose(1, 0, 2).reshape(members.shape[1], -1))


def rank_features(fitted_on: Stacked) -> Ranks:
    """Ranks among these rows, of two classes."""
    return Ranks(np.sort(fitted_on[:, :, 1], axis=1))


def _fit_logistic(
    recipe: Recipe, features: Callable[[Stacked], ndarray], members: Stacked, labels: Labels
) -> Logistic:
    from sklearn.linear_model import LogisticRegression  # 1.3 s

    present = np.bincount(labels, minlength=members.shape[2])
    if not present.all():
        raise EnsembleError(
            f"logistic regression over {len(labels)} rows: expected rows of each class, found "
            f"{present.tolist()} (in the order of the classes)"
        )
    model = LogisticRegression(C=1 / recipe.stack_l2, tol=1e-8, max_iter=10_000)
    model.fit(features(members), labels)
    return Logistic(features, model.coef_, model.intercept_)


def _order(recipe: Recipe, members: Stacked, labels: Labels) -> list[int]:
    """The models from best to worst; equal ones in their own order."""
    merits = [_merit(recipe, member, labels) for member in members]
    return sorted(range(len(members)), key=merits.__getitem__, reverse=True)


def _merit(recipe: Recipe, values: Outputs, labels: Labels) -> tuple[float, float]:
    """What to maximise: the metric, then minus the loss."""
    score = recipe.metric.score(values, recipe.task.decide(values, None), labels)
    return recipe.metric.gain(score), -float(recipe.task.losses(values, labels).mean())
