"""Whether anything besides the content of the pictures predicts the label.

Sizes, names, order and encoding of the files are each cut into a few bins, and an image is scored
by how often its bin has the class in the other folds: a rule that finds rising, falling and
scattered connections alike. The figure is the ROC AUC within each fold, averaged over folds by
their number of pairs, and over classes, one against the rest. Chance is its range over permuted
labels. Both keep a group's images together: patients with their own camera and their own diagnosis
give high figures by chance.

A figure is a hint and no proof: that parasitized cells are larger than others is biology, that
they are in another folder is not. So each says what it may mean. The size of the file predicts
parasitized cells with AUC 0.82 and pneumonia with 0.90, since it grows with detail.
"""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.stats import rankdata

from pipeline.core import paths
from pipeline.core.audit import LeakCheck, Leaks
from pipeline.core.ranks import ordered_pairs
from pipeline.core.task import AnyOf, Number, Task
from pipeline.raw.archive import file_name
from pipeline.raw.files import ImageFiles

FOLDS = 5
PERMUTATIONS = 200

NOTABLE_AUC = 0.6
"""Below it nothing is flagged: with thousands of images, even 0.52 is beyond chance."""

_MOST_SETS = 10

_BINS = 16
_ROWS_A_BIN = 25
_VALUES = 32
_SEED = 0

_DETAIL = (
    "A compressed file grows with the detail in its picture, which may be the thing itself; it is "
    "a leak where the classes were saved in different ways, whose traces a network may see"
)
_SIZE = (
    "The things may differ in size; it is a leak where the classes were photographed or cropped "
    "in different ways. All images are resized, so that a network sees no size, but blur, and "
    "with prepare.fit: pad the shape"
)
_PROGRAM = (
    "What is in the picture has no file format: the classes were probably saved by different "
    "programs, whose traces a network may see"
)
_FILING = (
    "No network sees it and no stage uses it; but what was filed by class was often made class by "
    "class, and a network sees what differs between such series: device, place, light"
)
_MEANINGS = {
    "width": ("The width of the original", _SIZE),
    "height": ("The height of the original", _SIZE),
    "aspect": ("The width of the original over its height", _SIZE),
    "mode": ("The file's colour mode", _PROGRAM),
    "encoding": ("The file's format, quality and metadata", _PROGRAM),
    "name": ("The file's path without its numbers", _FILING),
    "order": ("The order of the labels file", _FILING),
    "number": ("The last number in the file's name", _FILING),
    "place": ("The place in the archive", _FILING),
    "time": ("The file's time in the archive", _FILING),
    "file_size": ("The size of the file in bytes", _DETAIL),
}
"""Each trace: something about an image that is not in its pixels, and what a leak would mean."""

_LENGTH = (
    "The things may differ in it; it is a leak where the classes were recorded or cut in different "
    "ways, as a network sees where a padded signal ends (prepare.length)"
)
_MEANINGS_OF_SIGNALS = _MEANINGS | {
    "width": ("The length of the original", _LENGTH),
    "height": ("The number of channels", _PROGRAM),
    "aspect": ("The length of the original over its channels", _LENGTH),
    "mode": ("The kind of the file's numbers, or its rate", _PROGRAM),
    "encoding": ("The file's format", _PROGRAM),
}


def find_leaks(
    train: pd.DataFrame, task: Task, images: ImageFiles, encodings: dict[str, str], row: str
) -> Leaks:
    """Each trace's figure, chance, and whether it is flagged, with a sentence; for the audit.

    train: tables.IMAGE_COLUMNS, in the order of the labels file. encodings: Decoded.encoding of
    each image_id. row: what rows are called. A trace is flagged where the AUC of a class is at
    least NOTABLE_AUC and above all permutations. If several traces say the same, such as order and
    number, the first counts.
    """
    classes, labels = np.unique(_coarse(train["label"], task), return_inverse=True)
    groups = np.unique(train["group"].to_numpy(str), return_inverse=True)[1]
    grouped = groups.max() + 1 >= FOLDS
    if not grouped:
        groups = np.arange(len(train))
    folds = deal_folds(groups)
    permuted = _permute(labels, groups)
    checks, constant = [], []
    first_with: dict[bytes, str] = {}
    for name, bins in _traces(train, images, encodings).items():
        same_as = first_with.setdefault(bins.tobytes(), name)
        if bins.max() == 0:
            constant.append(name)
        elif same_as != name:
            checks.append(LeakCheck(name=name, same_as=same_as))
        else:
            score = scorer(bins, folds, len(classes))
            chance = np.array([score(one) for one in permuted])
            what = (_MEANINGS if row == "image" else _MEANINGS_OF_SIGNALS)[name]
            checks.append(_judge(name, what, score(labels), chance, classes.tolist()))
    method = (
        f"ROC AUC of {_BINS} bins over {FOLDS} folds"
        f"{' that keep groups together' if grouped else ''}, one class against the rest; chance is "
        f"the range over {PERMUTATIONS} permutations of the labels; flagged from {NOTABLE_AUC} on"
    )
    return Leaks(method=method, checks=checks, constant=constant)


def _coarse(labels: "pd.Series[str]", task: Task) -> ndarray:
    """A class for each row: of several labels the frequent sets, of numbers their quarter."""
    if isinstance(task, Number):
        first = pd.Series(task.encode(paths.TRAIN_TABLE, labels)[:, 0])
        quarter = first.rank(method="first").to_numpy() * 4 // (len(labels) + 1)
        return np.array([f"quarter {place + 1:.0f} by size" for place in quarter])
    if isinstance(task, AnyOf):
        frequent = labels.value_counts().index[:_MOST_SETS]
        return labels.where(labels.isin(frequent), "another set").to_numpy(str)
    return labels.to_numpy(str)


def deal_folds(groups: Int[ndarray, " rows"]) -> Int[ndarray, " rows"]:
    """The fold of each row: whole groups in random order, as many rows a fold as that allows."""
    sizes = np.bincount(groups)
    order = np.random.default_rng(_SEED).permutation(len(sizes))
    middles = np.cumsum(sizes[order]) - sizes[order] / 2
    fold_of_group = np.empty(len(sizes), np.int64)
    fold_of_group[order] = middles * FOLDS // len(groups)
    return np.asarray(fold_of_group[groups])


def cut_numbers(numbers: Float[ndarray, " rows"]) -> Int[ndarray, " rows"]:
    """Bins between quantiles; a quantile's own value, and NaN, are bins too."""
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return np.zeros(len(numbers), np.int64)
    bins = int(np.clip(len(known) // _ROWS_A_BIN, 2, _BINS))
    edges = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="lower"))
    places = np.searchsorted(edges, numbers, "left") + np.searchsorted(edges, numbers, "right")
    places[np.isnan(numbers)] = -1
    return np.asarray(np.unique(places, return_inverse=True)[1])


def cut_names(values: list[str]) -> Int[ndarray, " rows"]:
    """A bin for each of the most frequent values, and one for the others."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.empty_like(counts)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return np.minimum(rank, _VALUES - 1)[places]


def scorer(
    bins: Int[ndarray, " rows"], folds: Int[ndarray, " rows"], classes: int
) -> Callable[[Int[ndarray, " rows"]], Float[ndarray, " classes"]]:
    """A function of labels: for each class, the AUC of its share in an image's bin in other folds.

    0.5 for a class that shares no fold with another. The share counts one image more, of the other
    folds' average, so that an empty bin has one too.
    """
    count = int(bins.max()) + 1
    cells = (folds * count + bins) * classes
    starts = np.arange(FOLDS * classes).reshape(FOLDS, classes, 1) * count

    def score(labels: Int[ndarray, " rows"]) -> Float[ndarray, " classes"]:
        here = np.bincount(cells + labels, minlength=starts.size * count)
        here = here.reshape(FOLDS, count, classes).swapaxes(1, 2)
        others = here.sum(axis=0) - here
        rows = others.sum(axis=(1, 2), keepdims=True)
        average = others.sum(axis=2, keepdims=True) / np.maximum(rows, 1)
        shares = (others + average) / (others.sum(axis=1, keepdims=True) + 1)
        # Rounded since equal fractions may differ in their last bit.
        ranks = starts + rankdata(shares.round(12), "dense", axis=2).astype(np.int64) - 1
        positive, negative = (
            np.bincount(ranks.ravel(), counts.ravel(), here.size).reshape(here.shape)
            for counts in (here, here.sum(axis=1, keepdims=True) - here)
        )
        pairs = (positive.sum(axis=2) * negative.sum(axis=2)).sum(axis=0)
        in_order = ordered_pairs(positive, negative).sum(axis=0)
        return np.where(pairs > 0, in_order / np.maximum(pairs, 1), 0.5)

    return score


def _permute(
    labels: Int[ndarray, " rows"], groups: Int[ndarray, " rows"]
) -> list[Int[ndarray, " rows"]]:
    """The labels, group after group in a random order, put on the rows group after group."""
    # Eight bytes a label would be 320 MB for 200 copies of 200,000.
    labels = labels.astype(np.min_scalar_type(-1 - int(labels.max())))
    rng = np.random.default_rng(_SEED)
    places = np.argsort(groups, kind="stable")
    permuted = []
    for _ in range(PERMUTATIONS):
        dealt = np.empty_like(labels)
        order = rng.permutation(int(groups.max()) + 1)
        dealt[places] = labels[np.argsort(order[groups], kind="stable")]
        permuted.append(dealt)
    return permuted


def _judge(
    name: str,
    meaning: tuple[str, str],
    found: Float[ndarray, " classes"],
    chance: Float[ndarray, "permutations classes"],
    classes: list[str],
) -> LeakCheck:
    auc, means = float(found.mean()), chance.mean(axis=1)
    # One class of ten that has its own folder hardly changes the mean.
    best = int(found.argmax())
    flagged = bool(found[best] >= NOTABLE_AUC and found[best] > chance.max())
    what, means_as_leak = meaning
    most = f" ({classes[best]!r} with {found[best]:.2f})" if len(classes) > 2 else ""
    sentence = (
        f"{what} predicts the label with AUC {auc:.2f}{most}, by chance with "
        f"{means.min():.2f} to {means.max():.2f}"
    )
    if flagged:
        sentence += f": a leak only if it does not come from the thing itself. {means_as_leak}"
    chances = (means.min(), means.max())
    return LeakCheck(name=name, auc=auc, chance=chances, flagged=flagged, sentence=f"{sentence}.")


def _traces(
    train: pd.DataFrame, images: ImageFiles, encodings: dict[str, str]
) -> dict[str, Int[ndarray, " rows"]]:
    """The bins of each of _MEANINGS, in the same order."""
    files = list(train["file"])
    there = set(images.members)
    entries = [images.entry(file) for file in files if file in there]  # not of pixels in tables
    width, height = (train[side].to_numpy(np.float64) for side in ("width", "height"))
    digits = [re.findall(r"[0-9]+", file_name(file).rpartition(".")[0]) for file in files]
    bins = {
        "width": cut_numbers(width),
        "height": cut_numbers(height),
        "aspect": cut_numbers(width / height),
        "mode": cut_names(list(train["mode"])),
        "encoding": cut_names([encodings[image_id] for image_id in train["image_id"]]),
        "name": cut_names([re.sub(r"\d+", "#", file) for file in files]),
        "order": cut_numbers(np.arange(len(files), dtype=np.float64)),
        "number": cut_numbers(np.array([float(of[-1]) if of else np.nan for of in digits])),
    }
    if entries:
        times = np.unique([entry.date_time for entry in entries], axis=0, return_inverse=True)[1]
        bins |= {
            "place": cut_numbers(np.array([entry.place for entry in entries], np.float64)),
            "time": cut_numbers(times.astype(np.float64)),
            "file_size": cut_numbers(np.array([entry.bytes for entry in entries], np.float64)),
        }
    return bins
