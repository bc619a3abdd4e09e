"""The group of each training image (patient, slide, …), from a table or from its file's name."""

import re
from pathlib import Path

from pipeline.core.errors import CompetitionError, require
from pipeline.core.tables import first_repeated, read_csv
from pipeline.prepare.labels import Labelled, Sample, read_values
from pipeline.raw.archive import file_name

_ANOTHER_FILE = "Set prepare.groups in params.yaml to the right file, or to {source: none}"


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
    without = [image_id for image_id in labelled.image_ids if image_id not in group_of]
    unknown = sorted(set(group_of) - set(labelled.image_ids) - set(sample.image_ids))
    require(
        CompetitionError,
        path,
        f"{len(image_ids)} rows",
        ("each id once", first_repeated(image_ids), _ANOTHER_FILE),
        ("only ids of the labels or the sample submission", unknown, _ANOTHER_FILE),
    )
    requirement = ("a group for each labelled id", without, _ANOTHER_FILE)
    require(CompetitionError, path, f"{len(labelled.image_ids)} ids", requirement)
    return [group_of[image_id] for image_id in labelled.image_ids]


def groups_from_names(
    place: str, pattern: str, image_ids: list[str], members: dict[str, str]
) -> list[str]:
    """The group of each id: the pattern's capture group in its image's file name.

    An id without an image is its own group. place: the archive, for messages.
    Raises CompetitionError on a name without a group.
    """
    group_of, nameless = {}, []
    for image_id, member in members.items():
        match = re.search(pattern, name := file_name(member))
        if match and match[1]:
            group_of[image_id] = match[1]
        else:
            nameless.append(name)
    expected = f"a group in each image's name by the pattern {pattern}"
    requirement = (expected, nameless, "Set prepare.groups.pattern in params.yaml")
    require(CompetitionError, place, f"{len(members)} names", requirement)
    return [group_of.get(image_id, image_id) for image_id in image_ids]
