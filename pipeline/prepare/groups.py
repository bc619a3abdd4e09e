"""The group of each training image (patient, slide, …), from a table or from its file's name."""

import json
import subprocess
import sys
from pathlib import Path

from pipeline.core.errors import CompetitionError, require
from pipeline.core.tables import first_repeated, read_csv
from pipeline.prepare.labels import Labelled, Sample, read_values
from pipeline.raw.archive import file_name

_MATCH_S = 60.0
"""200,000 names take less than a second, unless the pattern tries every way to repeat something."""

_MATCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = [re.search(pattern, name) for name in names]
json.dump([match and match[1] or "" for match in found], sys.stdout)
"""

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
    Raises CompetitionError on a name without a group, and where the pattern takes too long.
    """
    names = [file_name(member) for member in members.values()]
    groups = _search(pattern, names)
    nameless = [name for name, group in zip(names, groups, strict=True) if not group]
    group_of = dict(zip(members, groups, strict=True))
    expected = f"a group in each image's name by the pattern {pattern}"
    requirement = (expected, nameless, "Set prepare.groups.pattern in params.yaml")
    require(CompetitionError, place, f"{len(members)} names", requirement)
    return [group_of.get(image_id, image_id) for image_id in image_ids]


def _search(pattern: str, names: list[str]) -> list[str]:
    """What the capture group finds in each name; in a process of its own, since nothing else can
    stop a pattern that backtracks for ever."""
    command = [sys.executable, "-I", "-c", _MATCH]
    asked = json.dumps([pattern, names])
    try:
        done = subprocess.run(
            command, input=asked, capture_output=True, text=True, check=True, timeout=_MATCH_S
        )
    except subprocess.SubprocessError as error:
        raise CompetitionError(
            f"params.yaml: prepare.groups.pattern: expected a pattern that finds the group in "
            f"{len(names)} names within {_MATCH_S:.0f} s, found that {pattern} takes longer: it "
            "tries every way to repeat something. Write it without a repeat inside a repeat"
        ) from error
    groups: list[str] = json.loads(done.stdout)
    return groups
