"""A file name from outside is stored as it is, or refused by name: never skipped, never replaced."""

from pathlib import Path

import pytest

from pipeline.core.errors import CompetitionError, KaggleError
from pipeline.core.names import is_storable, require_storable
from pipeline.kaggle.slug import competition_slug

STORABLE = [
    "train.csv", "a b.csv", "MANIFEST.json", "%20.csv", "Überblick (2).csv", "数据.zip", ".hidden",
    "console.csv", "com.csv", "partial", "a.partial.csv", "é" * 120, "-x", "#", "'",
]  # fmt: skip
REFUSED = [
    "", ".", "..", "...", "/etc/passwd", "../a", "a/b", "a\\b", "C:", "C:a", "a\0b", "a\nb", "\x1b[2J", "\x7f",
    ".train.csv.partial", "x.PARTIAL", "x.kaggle-partial", "NUL", "con.csv", "Com1.tar.gz", "lpt9",
    "a*", "a?", 'a"', "a<b", "a|b", "a.", "a ", "a" * 300, "é" * 121, "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("name", STORABLE)
def test_a_name_that_every_system_stores_is_accepted(name: str, tmp_path: Path) -> None:
    assert is_storable(name)
    (tmp_path / name).write_text("whole")
    (tmp_path / f".{name}.partial").write_text("in progress")
    require_storable(KaggleError, "here", [name, "other"], "Rename")


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_a_name_that_some_system_cannot_store_is_refused_by_name(name: str) -> None:
    assert not is_storable(name)
    with pytest.raises(CompetitionError) as raised:
        require_storable(CompetitionError, "here", ["train.csv", name], "Rename it")
    text = str(raised.value)
    assert text.isprintable()
    assert f"found 1 of 2 names otherwise (first: {name[:80]!a}). Rename it" in text


@pytest.mark.parametrize("pair", [("a.csv", "A.CSV"), ("é", "e\u0301"), ("ß", "SS"), ("a", "a")])
def test_two_names_of_one_file_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(KaggleError, match="differ in more than case, found 2 of 3 names"):
        require_storable(KaggleError, "here", [*pair, "b"], "Rename")


@pytest.mark.parametrize(
    "text",
    [
        "titanic", " titanic/\n", "titanic?x=1", "titanic#data", "competitions/titanic", "c/titanic",
        "/competitions/titanic/data", "/c/titanic", "kaggle.com/c/titanic", "www.kaggle.com/c/titanic/",
        "http://kaggle.com/competitions/titanic", "HTTPS://WWW.KAGGLE.COM/competitions/titanic/rules",
        "https://www.kaggle.com/competitions/titanic/data?select=a.csv#top",
        "https://www.kaggle.com/competitions/titanic?x=/c/other",
    ],
)  # fmt: skip
def test_a_slug_is_found_in_every_address_of_its_pages(text: str) -> None:
    assert competition_slug(text) == "titanic"


@pytest.mark.parametrize(
    "text", ["https://www.kaggle.com/t/0a1b", "kaggle.com/t/0a1b?x=1", "/t/0a1b"]
)
def test_an_invitation_is_no_slug(text: str) -> None:
    with pytest.raises(KaggleError, match="is an invitation. Open it in a browser, join"):
        competition_slug(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "t", "c", "competitions", "c/", "https://www.kaggle.com/competitions?x=1", "kaggle.com",
        "https://www.kaggle.com/titanic", "owner/data", "https://www.kaggle.com/datasets/owner/data",
        "https://example.org/c/titanic", "https://kaggle.com.example.org/c/titanic", "-x", "two words",
        "https://user@kaggle.com/c/titanic", "ti\ntanic", "titänic", "../titanic", "http://[::1/c/x",
    ],
)  # fmt: skip
def test_what_names_no_competition_is_refused(text: str) -> None:
    with pytest.raises(KaggleError, match="expected a slug or an address, as titanic or https://"):
        competition_slug(text)
