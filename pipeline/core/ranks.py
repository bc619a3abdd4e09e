"""The count of ordered pairs from which every ROC AUC of the project is made."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray


def ordered_pairs(
    positive: Float[ndarray, "*shape values"], negative: Float[ndarray, "*shape values"]
) -> Float[ndarray, "*shape"]:
    """The number of pairs whose positive row has the larger value; ties count half.

    positive, negative: how many rows of each kind have each value, the values ascending. Divided by
    the number of all pairs it is the area under the ROC curve (the statistic of Mann and Whitney).
    """
    return np.asarray(np.vecdot(positive, np.cumsum(negative, axis=-1) - negative / 2))
