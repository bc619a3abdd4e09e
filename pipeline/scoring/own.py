"""A metric of the user's own: a function in a file of theirs, `ensemble.metric: NAME:FUNCTION`.

    score(labels, predictions) of metrics/NAME.py

Both are arrays as core/task.py has them. Attributes of the function say the rest (docs/ENSEMBLE.md
has an example): `needs` ("labels": the predictions are decided labels; "predictions": they are
probabilities or numbers) and `greater_is_better` must stand there. `tasks`, `range` and
`uses_order` need not. DVC watches the folder, so that a change of the file scores again.
"""

import math
import traceback
from collections.abc import Callable
from functools import lru_cache, partial
from numbers import Real
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from pipeline.core.errors import EnsembleError, MetricError, shown
from pipeline.core.task import Kind
from pipeline.scoring.metric import Metric, Rows, Scorer, Weights
from pipeline.scoring.names import file_of

_LARGEST = 1e9
"""Of a score: a record of the pipeline has this bound."""

_STEPS = 10
"""Weights that are no whole numbers are rounded to tenths: a function knows no weights."""

Function = Callable[[ndarray, ndarray], object]


def own_metric(name: str) -> Metric:
    """The metric of such a name. Raises EnsembleError, in a sentence, where it cannot be used."""
    file = file_of(name)
    assert file is not None, name
    try:
        source = file.read_bytes()
    except OSError as error:
        raise EnsembleError(
            f"{name}: expected the function {name.split(':')[1]} in {file}: {error.strerror}"
        ) from error
    return _load(name, file, source)


@lru_cache
def _load(name: str, file: Path, source: bytes) -> Metric:
    names: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    try:
        exec(compile(source, str(file), "exec"), names)
    except Exception as error:
        raise EnsembleError(f"{file}: cannot be imported: {_fault(error, file)}") from error
    wanted = name.split(":")[1]
    function = names.get(wanted)
    if not callable(function):
        found = sorted(key for key, value in names.items() if callable(value))
        raise EnsembleError(f"{file}: expected a function {wanted}, found {found}")

    def attribute(key: str, expected: str, valid: Callable[[Any], bool], *default: Any) -> Any:
        value = getattr(function, key, *default) if default else getattr(function, key, None)
        if not valid(value):
            raise EnsembleError(
                f"{file}: {wanted}.{key}: expected {expected}, found {shown(value)}. Write it "
                f"below the function: {wanted}.{key} = …"
            )
        return value

    kinds = get_args(Kind)
    needs = attribute(
        "needs", "'labels' or 'predictions'", lambda value: value in ("labels", "predictions")
    )
    greater = attribute("greater_is_better", "True or False", lambda value: isinstance(value, bool))
    tasks = attribute(
        "tasks", f"some of {kinds}", lambda value: bool(value) and set(value) <= set(kinds), kinds
    )
    bounds = attribute("range", "its least and largest score", _is_range, (-math.inf, math.inf))
    lowest, highest = map(float, bounds)
    ordered = attribute("uses_order", "True or False", lambda value: isinstance(value, bool), True)
    return Metric(
        name,
        tuple(tasks),
        partial(_build, name, file, function, needs == "labels", (lowest, highest)),
        needs=needs,
        greater_is_better=greater,
        uses_order=ordered,
        lowest=lowest,
        highest=highest,
    )


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(end, Real) for end in value)
        and value[0] < value[1]
    )


def _build(
    name: str,
    file: Path,
    function: Function,
    of_labels: bool,
    bounds: tuple[float, float],
    rows: Rows,
) -> Scorer:
    predictions = rows.decided if of_labels else rows.values

    def score(weights: Weights) -> float:
        times = _times(weights[rows.units])
        chosen = np.repeat(np.arange(len(times)), times)
        if not len(chosen):
            return math.nan
        try:
            found = function(rows.labels[chosen], predictions[chosen])
        except Exception as error:
            raise MetricError(f"{name}: {_fault(error, file)}, on {len(chosen)} rows") from error
        number = float(found) if isinstance(found, Real) else math.inf
        if isinstance(found, bool) or abs(number) > _LARGEST:
            raise MetricError(
                f"{name}: expected a number up to {_LARGEST:g}, or nan where it is not defined, "
                f"found {shown(found)} on {len(chosen)} rows. Correct {file}"
            )
        if not (math.isnan(number) or bounds[0] <= number <= bounds[1]):
            raise MetricError(
                f"{name}: expected a score from {bounds[0]:g} to {bounds[1]:g}, its range, found "
                f"{number:g} on {len(chosen)} rows. Correct {file}"
            )
        return number

    return score


def _times(weights: Float[ndarray, " rows"]) -> Int[ndarray, " rows"]:
    """How often each row counts."""
    whole = np.rint(weights)
    if not np.array_equal(whole, weights):
        whole = np.rint(weights * _STEPS)
    times: Int[ndarray, " rows"] = whole.astype(np.int64)
    return times


def _fault(error: Exception, file: Path) -> str:
    """What went wrong, with the line of the user's file where that is known."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {' '.join(str(error).split())[:200]}"
