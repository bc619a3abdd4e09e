"""The group of each training image (patient, slide, …), from a table or from its file's name."""

import re
from pathlib import Path

from pipeline.core.errors import CompetitionError, examples
from pipeline.core.tables import first_repeated, read_csv
from pipeline.prepare.labels import Labelled, Sample, read_values
from pipeline.raw.archive import file_name


def groups_from_file(path: Path, labelled: Labelled, sample: Sample) -> list[str]:
    """The group of each labelled id; the table may also have ids of the sample submission.

    Raises CompetitionError on other than two columns, an id that is missing, unknown or appears
    twice, and an empty value or one with blanks around it.
    """
    table = read_csv(path)
    columns = list(table.columns)
    if len(columns) != 2:
        raise CompetitionError(
            f"{path}: expected two columns with a comma between, the id and the group; found "
            f"{len(columns)}: {columns}. Set prepare.groups.file in params.yaml to the right file"
        )
    id_columns = (sample.columns[0], labelled.id_column)
    swapped = columns[1] in id_columns and columns[0] not in id_columns
    id_column, group_column = reversed(columns) if swapped else columns
    image_ids = read_values(path, table, id_column)
    group_of = dict(zip(image_ids, read_values(path, table, group_column), strict=True))
    faults = {
        "each id once, found twice": first_repeated(image_ids),
        "a group for each labelled id, found none for": [
            image_id for image_id in labelled.image_ids if image_id not in group_of
        ],
        "only ids of the labels or the sample submission, found unknown": sorted(
            set(group_of) - set(labelled.image_ids) - set(sample.image_ids)
        ),
    }
    for fault, broken in faults.items():
        if broken:
            raise CompetitionError(
                f"{path}: expected {fault}: {len(broken)} ids {examples(broken)}. Set "
                "prepare.groups in params.yaml to the right file, or to {source: none}"
            )
    return [group_of[image_id] for image_id in labelled.image_ids]


def groups_from_names(
    place: str, pattern: str, image_ids: list[str], members: dict[str, str]
) -> list[str]:
    """The group of each id: the pattern's capture group in its image's file name.

    An id without an image is its own group. place: the archive, for messages.
    Raises CompetitionError on a name without a group.
    """
    names = {image_id: file_name(member) for image_id, member in members.items()}
    matches = {image_id: re.search(pattern, name) for image_id, name in names.items()}
    group_of = {image_id: match[1] for image_id, match in matches.items() if match and match[1]}
    if nameless := [name for image_id, name in names.items() if image_id not in group_of]:
        raise CompetitionError(
            f"{place}: expected a group in each image's name by the pattern {pattern}, "
            f"found none in {len(nameless)} of {len(members)} {examples(nameless)}. Set "
            "prepare.groups.pattern in params.yaml"
        )
    return [group_of.get(image_id, image_id) for image_id in image_ids]
