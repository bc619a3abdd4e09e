"""Array types that recur, with their axes named; checked at run time in the tests only."""

from jaxtyping import Bool, Float, Float32, Int, UInt8
from numpy import ndarray

Images = UInt8[ndarray, "images height width channels"]
"""RGB or, with one channel, grey; 0 to 255."""

Image = UInt8[ndarray, "height width channels"]
"""RGB or, with one channel, grey; 0 to 255."""

Signals = Float32[ndarray, "signals length channels"]
"""As they were measured."""

Packed = Images | Signals
"""Rows of the packed arrays of data/store/."""

Signal = Float32[ndarray, "length channels"]
"""Samples as they are."""

Probabilities = Float[ndarray, "rows classes"]
"""After softmax: in [0, 1], each row adds up to 1."""

Outputs = Float[ndarray, "rows outputs"]
"""Predictions, one column for each output of the task (core/task.py)."""

Labels = Int[ndarray, " rows"] | Bool[ndarray, "rows outputs"] | Float[ndarray, "rows outputs"]
"""Class indices in [0, classes); whether each of several labels holds; or numbers."""
