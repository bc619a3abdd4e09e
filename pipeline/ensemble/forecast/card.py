"""The forecast as a part of a submission's card: figures, and what they take for granted.

Nothing that a solution file or Kaggle knows is read here.
"""

import base64
import hashlib
import math
import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from pipeline.core.shapes import Labels, Probabilities
from pipeline.ensemble.blend import Prediction
from pipeline.ensemble.calibrate import fit_temperature
from pipeline.ensemble.forecast.averaging import Gain, estimate_gain
from pipeline.ensemble.forecast.config import ForecastConfig
from pipeline.ensemble.forecast.drift import Drift
from pipeline.ensemble.forecast.intervals import LEVELS, Forecast, Halves, forecast, mean_of
from pipeline.scoring.metrics import Metric, Scorer

_BOUNDS = {"log_loss": (0.0, math.inf), "quadratic_kappa": (-1.0, 1.0)}
"""Of a metric; of all others 0 and 1."""


@dataclass(frozen=True)
class Scored:
    """The out-of-fold rows of the blend that is submitted."""

    image_ids: list[str]
    probabilities: Probabilities
    predicted: Labels
    labels: Labels
    groups: list[str]


def forecast_card(
    metric: Metric,
    oof: Scored,
    test: Prediction,
    test_by_fold: list[Prediction],
    drift: Drift | None,
    config: ForecastConfig,
) -> dict[str, object]:
    """What to expect on both leaderboards, before anything is submitted.

    test: the submission's predictions. test_by_fold: for each fold, what its models say of the test
    images, blended as the out-of-fold rows are: one fold of each repeat, all models.
    drift: None where it was not measured. Raises EnsembleError.
    """
    temperature = fit_temperature(oof.probabilities, oof.labels)
    gain = estimate_gain(metric, test, test_by_fold, temperature, config.seed)
    correct = oof.predicted == oof.labels
    halves = part_rows(len(test.predicted), config.public_share)
    found = forecast(
        scorer=_scorer(metric, oof),
        groups=oof.groups,
        halves=halves,
        gain=gain,
        weights=_weights(oof.groups, drift),
        test_groups=None,
        bounds=_BOUNDS.get(metric.name, (0.0, 1.0)),
        confidence=config.confidence,
        resamples=config.resamples,
        seed=config.seed,
    )
    return {
        "metric": metric.name,
        "greater_is_better": metric.greater_is_better,
        "confidence": config.confidence,
        "public": _rounded(found.public),
        "private": _rounded(found.private),
        "mean": round(found.mean, 6),
        "sd": _rounded(found.sd),
        "correlation": round(found.correlation, 4),
        "shake_up": round(found.shake_up, 6),
        "rows": {"public": halves.public, "private": halves.private},
        "levels": list(LEVELS),
        "quantiles": {
            name: _rounded(tuple(values))
            for name, values in zip(("public", "private"), found.quantiles.tolist(), strict=True)
        },
        "gain": {
            "mean": round(gain.mean, 6),
            "spread": round(gain.spread, 6),
            "disagreement": round(gain.disagreement, 6),
            "folds": len(test_by_fold),
        },
        "drift": _describe_drift(drift),
        "correct": pack_correct(oof.image_ids, correct),
        "assumptions": _assumptions(oof, found, gain, halves, drift, len(test_by_fold)),
    }


def _scorer(metric: Metric, oof: Scored) -> Scorer:
    """By row; accuracy as a mean, since a confusion matrix a row is large with many classes."""
    if metric.name == "accuracy":
        return mean_of((oof.predicted == oof.labels).astype(np.float64))
    return metric.scorer(oof.probabilities, oof.predicted, oof.labels)


def part_rows(rows: int, public_share: float) -> Halves:
    """The sizes of both halves, each with a row at least where there are two."""
    public = min(max(1, round(rows * public_share)), max(1, rows - 1))
    return Halves(public, rows - public)


def pack_correct(image_ids: list[str], correct: Bool[ndarray, " rows"]) -> dict[str, object]:
    """Which out-of-fold rows are right, in the order of the sorted ids: about 100 bytes a 1,000.

    So two cards, years apart, can be compared on the same rows.
    """
    order = sorted(range(len(image_ids)), key=image_ids.__getitem__)
    packed = zlib.compress(np.packbits(correct[order]).tobytes(), 9)
    return {
        "rows": len(image_ids),
        "ids_sha256": _sha256([image_ids[place] for place in order]),
        "bits": base64.b64encode(packed).decode(),
    }


def unpack_correct(
    packed: dict[str, object], image_ids: list[str]
) -> Bool[ndarray, " rows"] | None:
    """What pack_correct packed, by sorted id; None where it was of other images than these."""
    if packed["ids_sha256"] != _sha256(sorted(image_ids)):
        return None
    raw = zlib.decompress(base64.b64decode(str(packed["bits"])))
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=len(image_ids))
    return bits.astype(np.bool_)


def _sha256(image_ids: list[str]) -> str:
    return hashlib.sha256("\n".join(image_ids).encode()).hexdigest()


def _weights(groups: list[str], drift: Drift | None) -> ndarray | None:
    """None where the training groups count alike."""
    if drift is None or not drift.material:
        return None
    return np.array([drift.weights.get(group, 1.0) for group in groups])


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [round(value, 6) for value in values]


def _describe_drift(drift: Drift | None) -> dict[str, object] | None:
    if drift is None:
        return None
    return {
        "auc": round(drift.auc, 4),
        "band": [round(end, 4) for end in drift.band],
        "p": round(drift.p, 4),
        "splits": drift.splits,
        "strongest": drift.strongest,
        "weighted": drift.material,
    }


def _assumptions(
    oof: Scored, found: Forecast, gain: Gain, halves: Halves, drift: Drift | None, folds: int
) -> list[str]:
    groups = len(set(oof.groups))
    patients = halves.rows * groups / len(oof.labels)
    lines = [
        f"test groups are new, and drawn like the {groups} training groups: about {patients:.0f} "
        f"of them, from {len(oof.labels) / groups:.1f} rows a group",
        f"public are {halves.public} of the {halves.rows} test rows, by chance, row by row",
    ]
    if folds < 2:
        lines.append("one fold's models predict test, as they do the out-of-fold rows: no gain")
    else:
        lines.append(
            f"averaging {folds} folds shifts the score by {gain.mean:+.4f} ± {gain.spread:.4f}: "
            f"each disagrees with their mean on {gain.disagreement:.2%} of the test images"
        )
    if drift is None:
        lines.append("train and test are of one kind: not measured")
    elif drift.material:
        lines.append(
            f"train and test differ (AUC {drift.auc:.3f}, among training groups {drift.band[0]:.3f}"
            f" to {drift.band[1]:.3f}, p {drift.p:.3f}; most in {drift.strongest[0]}): training "
            f"groups count as much as they look like test, {found.score:.4f} instead of as they are"
        )
    else:
        lines.append(
            f"train and test are of one kind: AUC {drift.auc:.3f}, among training groups "
            f"{drift.band[0]:.3f} to {drift.band[1]:.3f} (p {drift.p:.2f})"
        )
    return lines
