"""The group of each row (patient, slide, …), from a table, a column or the path of its image."""

import json
import subprocess
import sys

from pipeline.core.errors import CompetitionError, require
from pipeline.core.progress import say
from pipeline.core.tables import first_repeated
from pipeline.prepare.rows import LabelledRows, join
from pipeline.prepare.sample import Sample, read_values
from pipeline.prepare.tables import Table
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


def groups_from_file(table: Table, rows: LabelledRows, sample: Sample) -> list[str]:
    """The group of each row; the table may also have ids of the sample submission.

    Raises CompetitionError on other than two columns, an id that is missing, unknown or appears
    twice, and an empty value or one with blanks around it.
    """
    place, columns = table.place, table.columns
    if len(columns) != 2:
        raise CompetitionError(
            f"{place}: expected two columns, the id and the group; found {len(columns)}: "
            f"{columns[:20]}. Set prepare.groups.file in params.yaml to the right file"
        )
    id_columns = (sample.id_column, rows.id_column)
    swapped = columns[1] in id_columns and columns[0] not in id_columns
    id_column, group_column = reversed(columns) if swapped else columns
    ids = read_values(place, table.cells, id_column)
    group_of = dict(zip(ids, read_values(place, table.cells, group_column), strict=True))
    without = [row_id for row_id in dict.fromkeys(rows.ids) if row_id not in group_of]
    known = {*rows.ids, *rows.unlabelled, *sample.ids}
    unknown = sorted(set(group_of) - known)
    require(
        CompetitionError,
        place,
        f"{len(ids)} rows",
        ("each id once", first_repeated(ids), _ANOTHER_FILE),
        ("only ids of the labels or the sample submission", unknown, _ANOTHER_FILE),
    )
    requirement = ("a group for each labelled id", without, _ANOTHER_FILE)
    require(CompetitionError, place, f"{len(rows.ids)} ids", requirement)
    say(f"groups: {group_column} of {table.name}, {len(set(group_of.values()))} of them")
    return [group_of[row_id] for row_id in rows.ids]


def groups_from_column(rows: LabelledRows, column: str) -> list[str]:
    """The group of each row, from a column of the labels file, or a template of several.

    Raises CompetitionError where it is not there, or has an empty value.
    """
    return join(rows.place, rows.table, column)


def groups_from_names(place: str, pattern: str, ids: list[str], files: list[str]) -> list[str]:
    """The group of each row: the pattern's capture group in its image's name, or else in its path.

    A row without an image, whose file is empty, is its own group. place: for messages.
    Raises CompetitionError on a path without a group, and where the pattern takes too long.
    """
    there = [file for file in files if file]
    names = _search(pattern, [file_name(file) for file in there])
    paths = _search(pattern, there)
    groups = [name or path for name, path in zip(names, paths, strict=True)]
    nameless = [file for file, group in zip(there, groups, strict=True) if not group]
    expected = f"a group in each image's name or path by the pattern {pattern}"
    requirement = (expected, nameless, "Set prepare.groups.pattern in params.yaml")
    require(CompetitionError, place, f"{len(there)} names", requirement)
    group_of = dict(zip(there, groups, strict=True))
    return [group_of.get(file, row_id) for row_id, file in zip(ids, files, strict=True)]


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
