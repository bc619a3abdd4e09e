"""Rows without a labels file: each training image is one, and its path has the label.

It is the folder that the image is in, or the beginning of its name, as `cat` of `cat.0.jpg`.
"""

import re
from collections import Counter
from pathlib import Path

import pandas as pd

from pipeline.core.errors import CompetitionError, examples, short_list
from pipeline.core.progress import say
from pipeline.core.task import Kind
from pipeline.prepare.config import LabelsFromFolder, LabelsFromName, PrepareConfig
from pipeline.prepare.labels import read_labels
from pipeline.prepare.matching import short_names, without_suffix
from pipeline.prepare.rows import LabelledRows
from pipeline.prepare.sample import Sample
from pipeline.prepare.sides import folders, roots
from pipeline.raw.archive import file_name

_BEGINNING = re.compile(r"([A-Za-z]+(?:[_ -][A-Za-z]+)*)[_ .-]*[0-9]")
_MASK = re.compile(r"(?i)(.+?)[_ -]+(mask|masks|seg|segmentation|gt|annotation)([_ -]?[0-9]+)?")
_FEWEST_IN_CLASS = 2


def rows_of_files(
    members: list[str], sample: Sample | None, config: PrepareConfig, kind: Kind | None, raw: Path
) -> LabelledRows | None:
    """The rows where labels are folders or parts of names; None where auto finds neither.

    members: the training images. sample: None where there is none, whose ids then are the images
    that have no label.
    """
    found = _classes(_without_masks(members), config, raw, sample)
    if not found:
        return None
    ids = short_names(list(found))
    table = pd.DataFrame({"image": list(found), "label": list(found.values())}, dtype=str)
    place = raw / (roots(list(found), config.files_of("train")) or [""])[0]
    shown_sample = sample or Sample(raw, table, None, ["label"], [], [""])
    labels, task = read_labels(
        place, table, ["label"], shown_sample, kind or "one_of", config.classes
    )
    return LabelledRows(place, "image", "label", ids, list(found), labels, task, table, [], [])


def _classes(
    members: list[str], config: PrepareConfig, raw: Path, sample: Sample | None
) -> dict[str, str]:
    """The class of each image; nothing where auto finds none."""
    place = config.files_of("train")
    match config.labels:
        case LabelsFromFolder():
            found = _classes_by_folder(members, place, sample)
            if not found:
                shown = examples(sorted(set(map(_folder, members))))
                raise CompetitionError(
                    f"{raw}: expected the training {config.row}s in at least two folders, one for "
                    f"each class, as prepare.labels says; found other folders {shown}. Set "
                    f"prepare.train_{config.row}s in params.yaml to the folder that holds these"
                )
        case LabelsFromName(pattern=pattern):
            found = {m: one[1] for m in members if (one := re.search(pattern, m)) and one[1]}
            if without := [m for m in members if m not in found]:
                raise CompetitionError(
                    f"{raw}: expected a label in each path by the pattern {pattern}, found none in "
                    f"{len(without)} of {len(members)} {examples(without)}. Set "
                    "prepare.labels.pattern in params.yaml"
                )
        case _:
            found, how = _classes_by_folder(members, place, sample), "the folder"
            if not found:
                found, how = _classes_by_name(members), "the beginning of the name"
            counts = Counter(found.values())
            shown = short_list([f"{name}: {counts[name]}" for name in sorted(counts)], most=10)
            if found:
                say(f"labels: {how} of each training {config.row} ({len(counts)} classes; {shown})")
    return found


def _without_masks(members: list[str]) -> list[str]:
    """Without files that are called as another one in the same folder, and mask or the like: they
    are no images of a class."""
    bare = {without_suffix(member) for member in members}
    return [
        member
        for member in members
        if not ((found := _MASK.fullmatch(without_suffix(member))) and found[1] in bare)
    ]


def _folder(member: str) -> str:
    return "/".join(folders(member))


def _classes_by_folder(members: list[str], place: str, sample: Sample | None) -> dict[str, str]:
    """The folder of each image below the one that they share, if that makes classes.

    place: of prepare.train_images. sample: of folders in folders, those that it shows are classes.
    """
    tops = roots(members, place)
    if len(tops) != 1:
        return {}
    found = {}
    for member in members:
        inside = _folder(member).removeprefix(tops[0]).strip("/").split("/")
        if inside[0]:
            found[member] = inside
    while found and len({tuple(parts[:1]) for parts in found.values()}) == 1:
        found = {member: parts[1:] for member, parts in found.items() if len(parts) > 1}
    shown = {*sample.label_columns, *sample.values} if sample else set()
    levels = range(min(map(len, found.values()), default=0))
    each = [{member: parts[level] for member, parts in found.items()} for level in levels]
    classes = next((one for one in each if shown & set(one.values())), each[0] if each else {})
    return classes if _make_classes(list(classes.values())) else {}


def _classes_by_name(members: list[str]) -> dict[str, str]:
    found = {member: _BEGINNING.match(file_name(member)) for member in members}
    classes = {member: one[1] for member, one in found.items() if one}
    if len(classes) < len(members) or not _make_classes(list(classes.values())):
        return {}
    return classes


def _make_classes(names: list[str]) -> bool:
    counts = Counter(names)
    return len(counts) > 1 and min(counts.values()) >= _FEWEST_IN_CLASS
