"""What rows mean, images or signals: files that they name or that a table lists, or numbers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, get_args

from numpy import ndarray

from pipeline.core.errors import CompetitionError, examples, plural, short_list
from pipeline.core.progress import say
from pipeline.prepare.config import PrepareConfig
from pipeline.prepare.matching import ENOUGH, FileNames, Matched
from pipeline.prepare.pictures import Picture, each_a_picture
from pipeline.prepare.roles import Roles
from pipeline.prepare.rows import CHANNEL_IN_BRACES, LabelledRows
from pipeline.prepare.sample import Sample
from pipeline.prepare.sides import SplitName, choose, folders, roots
from pipeline.raw.files import ImageFiles


@dataclass(frozen=True)
class Found:
    """The images or signals of rows; a row may stand several times, and have none or several.

    members: all files that are claimed. places: the folders in which each image should have a row.
    """

    ids: list[str]
    pictures: list[list[Picture]]
    members: list[str]
    places: list[str]


class RowFinder(ABC):
    """Finds what the rows of train and of test mean among a competition's files.

    files: those that may be of a row. others: all that are not, for messages.
    """

    suffixes: tuple[str, ...]
    """The suffixes of the files that are looked for, for messages."""

    def __init__(
        self, raw: Path, config: PrepareConfig, files: ImageFiles, others: list[str], roles: Roles
    ) -> None:
        self._raw, self._config, self.files, self._roles = raw, config, files, roles
        self._others = others
        self._pools = {split: self._choose(split) for split in get_args(SplitName)}

    def parameter(self, split: SplitName) -> str:
        """What names a split's files."""
        return f"prepare.{split}_{self._config.row}s"

    def members(self, split: SplitName) -> list[str]:
        """The files that most likely are a split's."""
        return self._pools[split][0].members if self._pools[split] else []

    def share(self, values: list[str], split: SplitName = "train") -> float:
        """How many of some values mean a file of a split, from 0 to 1."""
        return self._pools[split][-1].share(values) if self._pools[split] else 0.0

    def of_labelled(self, rows: LabelledRows) -> Found:
        """Raises CompetitionError where no row has an image or a signal."""
        if rows.pixels:
            return self._from_numbers(rows.ids, rows.pixels, "train", rows.place)
        return self._from_files(rows.ids, rows.keys, "train", rows.place)

    @abstractmethod
    def of_sample(self, sample: Sample) -> Found:
        """Raises CompetitionError where no row has an image or a signal."""

    def listed_test(self, rows: LabelledRows) -> Sample | None:  # noqa: ARG002
        """The rows to predict, where a table of numbers has others than those with a label."""
        return None

    def left_over(self, known: set[str]) -> list[str]:  # noqa: ARG002
        """The rows of tables of numbers that are read and not asked for. known: other ids."""
        return []

    def unlabelled(self, rows: LabelledRows, train: Found) -> list[str]:
        """The files that may be of test and are of no labelled row.

        Raises CompetitionError where there is none.
        """
        claimed = set(train.members)
        for pool in self._pools["test"]:
            free = [member for member in pool.members if member not in claimed]
            if (
                self._config.files_of("test") == "auto"
            ):  # those in folders of classes are labelled, too
                classes = set(rows.labels)
                free = [member for member in free if not classes & set(folders(member))]
            if free:
                return free
        raise CompetitionError(
            f"{self._raw}: expected {self._config.row}s to predict beside those with a label, "
            f"found none. Set {self.parameter('test')} in params.yaml to their folder"
        )

    def one_each(self, values: list[str], members: list[str]) -> list[str]:
        """The files that values mean, where each means one and all files are meant; else none."""
        if len(values) != len(members) or not self.share(values, "test"):
            return []
        found = [file for files in self._pools["test"][-1].match(values).members for file in files]
        return found if sorted(found) == sorted(members) else []

    def of_files(self, ids: list[str], members: list[str]) -> Found:
        """Test files that are known."""
        return self._from_files(ids, members, "test", self._raw)

    def _choose(self, split: SplitName) -> list[FileNames]:
        members, place = self.files.members, str(self._raw)
        parameter, value = self.parameter(split), self._config.files_of(split)
        pools = choose(members, value, split, place, parameter) if members else []
        return [FileNames(pool, place, parameter) for pool in pools]

    def _from_files(self, ids: list[str], keys: list[str], split: SplitName, place: Path) -> Found:
        """The images of each row, from the likeliest folders that have them."""
        found, pools = Matched([[] for _ in keys], []), self._pools[split]
        for pool in pools:
            other = self._match(keys, pool)
            found = max(found, other, key=lambda one: one.share)
            if found.share >= ENOUGH:
                break
        if not any(found.members):
            self._say_nothing_fits(keys, split, place)
        if found.loose:
            row = self._config.row
            several = plural(len(found.loose), f"{row} is", f"{row}s are")
            say(f"{place}: {several} spelled otherwise {examples(found.loose)}")
        pictures = self._make_pictures(keys, found.members, str(place))
        claimed = [member for members in found.members for member in members]
        if CHANNEL_IN_BRACES in keys[0]:  # the channels that are not used as well
            beginnings = [key.partition(CHANNEL_IN_BRACES)[0].rstrip("_-. ") for key in keys]
            claimed += [m for members in pools[-1].of_beginnings(beginnings) for m in members]
        places = roots(claimed, self._config.files_of(split))
        self._say_found(pictures, split, short_list([place or "." for place in places]), found.how)
        return Found(ids, pictures, claimed, places)

    def _say_found(self, pictures: list[list[Picture]], split: str, where: str, how: str) -> None:
        count, rows = sum(map(len, pictures)), plural(len(pictures), "row")
        of = f" of {rows}{how}" if count != len(pictures) else how
        say(f"{split}: {plural(count, self._config.row)}{of}, in {where}")

    def _match(self, keys: list[str], pool: FileNames) -> Matched:
        return pool.match(keys)

    def _make_pictures(
        self,
        keys: list[str],  # noqa: ARG002
        members: list[list[str]],
        place: str,  # noqa: ARG002
    ) -> list[list[Picture]]:
        """What is decoded for each key, of its files."""
        return [each_a_picture(files) for files in members]

    @abstractmethod
    def _from_numbers(
        self, ids: list[str], channels: list[ndarray], split: SplitName, place: Path
    ) -> Found:
        """Rows of numbers, one array a channel."""

    def _say_nothing_fits(self, keys: list[str], split: SplitName, place: Path) -> NoReturn:
        searched, row = self.members(split), self._config.row
        found = f"no match among {len(searched)} {row}s {examples(searched)}"
        if not searched:
            listed = f"{len(self._others)} other files {examples(self._others)}"
            found = listed if self._others else "nothing at all"
        raise CompetitionError(
            f"{self._raw}: expected {row}s ({' '.join(self.suffixes)}) named like the {len(keys)} "
            f"ids of {place.name} {examples(keys)}, found {found}. {self._remedy(split)}"
        )

    @abstractmethod
    def _remedy(self, split: SplitName) -> str:
        """What to set where no file fits."""
