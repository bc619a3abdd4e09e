"""The ledger keeps what is in it, whoever wrote there, and a merge loses nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.errors import SubmissionError
from pipeline.kaggle.client import Submission
from pipeline.ledger.history import is_absent, number
from pipeline.ledger.ledger import (
    COLUMNS,
    OLD_COLUMNS,
    Entry,
    append,
    latest,
    parse_ledger,
    read_ledger,
)
from pipeline.ledger.match import describe, mark_of
from pipeline.ledger.merge import merge_ledger

HEADER = ",".join(COLUMNS)
SHA = "0123456789abcdef" * 4
FIRST = Entry("2026-01-01T00:00:00+00:00", "uploading", "2026-01-01T00:00:00+00:00", "c", "a.csv",
              SHA, mark=f"{SHA[:16]} #1-aaaaaa", metric="accuracy")  # fmt: skip


def line(minute: int, ref: str = "", **changes: str) -> str:
    """A line of the ledger, so many minutes after the first."""
    time = f"2026-01-01T00:{minute:02}:00+00:00"
    entry = replace(FIRST, time=time, ref=ref, **changes)  # type: ignore[arg-type]
    return ",".join(getattr(entry, name) for name in COLUMNS)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("first", ["", "\ufeff"])
def test_a_line_is_added_behind_the_bytes_that_are_there(
    tmp_path: Path, end: str, last: bool, first: str
) -> None:
    path = tmp_path / "ledger.csv"
    before = (first + end.join([HEADER, line(0), line(1)]) + end * last).encode()
    path.write_bytes(before)
    path.chmod(0o640)
    linked = tmp_path / "linked.csv"
    linked.symlink_to(path)
    added = replace(FIRST, status="lost", file='a,"b"\nc', error="ü")
    append(linked, added)
    after = path.read_bytes()
    assert after.startswith(before)
    assert after[len(before) :].count(end.encode()) == 2 - last
    assert len(after.splitlines()) == 4
    assert read_ledger(path)[2] == replace(added, file='a,"b" c')
    assert (linked.is_symlink(), path.stat().st_mode & 0o777) == (True, 0o640)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("first", ["", "\ufeff"])
def test_a_ledger_without_newer_columns_is_read_and_gets_their_names_alone(
    tmp_path: Path, end: str, first: str
) -> None:
    """Its lines stay, also through a merge with a ledger that has the columns."""
    old = ",".join(OLD_COLUMNS)
    lines = [line(0).removesuffix(","), line(1, "51", status="pending").removesuffix(",")]
    path = tmp_path / "ledger.csv"
    path.write_bytes(first.encode() + end.join([old, *lines]).encode())
    assert [entry.ref for entry in read_ledger(path)] == ["", "51"]
    proven = replace(FIRST, time="2026-01-01T00:09:00", status="complete", ref="51",
                     kaggle_sha256=SHA)  # fmt: skip
    append(path, proven)
    whole = path.read_bytes().decode()
    assert whole.startswith(first + end.join([HEADER, *lines]) + end)
    assert [entry.kaggle_sha256 for entry in read_ledger(path)] == ["", "", SHA]
    added = whole.split(end)[3]
    conflict = [
        "<<<<<<< HEAD",
        first + old,
        *lines,
        "=======",
        HEADER,
        *lines,
        added,
        ">>>>>>> theirs",
    ]
    path.write_bytes(end.join(conflict).encode())
    merge_ledger(path)
    kept = [first + HEADER, *lines, added]
    assert path.read_bytes().decode() == "".join(each + end for each in kept)


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n"])
def test_an_empty_file_becomes_a_ledger(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.csv"
    path.write_bytes(content)
    assert read_ledger(path) == []
    append(path, FIRST)
    assert read_ledger(path) == [FIRST]


FULL = line(1, "51", status="complete", public="0.9", error="x" * 200_000)
UNKNOWN = {
    "expected 19 fields, found 37": line(0) + line(1),
    "expected 19 fields, found 1": "what?",
    "time: Value error": line(0).replace("2026", "x2026", 1),
    "time: Value should have at least 1": line(0).replace("2026-01-01T00:00:00+00:00", "", 1),
    "status: Input should be": line(0).replace("uploading", "uploadin"),
    "ref: String should match": line(0, "9" * 5000),
    "expected Kaggle's number where the status is pending": line(0, status="pending"),
    "commit: String should match": line(0, commit="--output=x"),
    "mark: String should have": line(0, mark=""),
    "no line of a CSV file": line(0) + '"',
    "expected UTF-8": line(0) + "\udcff",
}


@pytest.mark.parametrize("fault", UNKNOWN)
def test_a_line_that_is_not_understood_is_shown_and_hides_no_other(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ledger.csv"
    text = UNKNOWN[fault].replace(f',{SHA[:16]} #1-aaaaaa,,,,"', f',"{SHA[:16]} #1-aaaaaa,,,,')
    content = "\n".join([HEADER, text, FULL]).encode(errors="surrogateescape")
    path.write_bytes(content)
    assert [entry.ref for entry in read_ledger(path)] == ["51"]
    assert f"{path}: line 2: {fault}" in " ".join(capsys.readouterr().err.split())
    append(path, FIRST)
    assert path.read_bytes().startswith(content + b"\n")
    entries, unknown = parse_ledger(path)
    assert (len(entries), len(unknown), entries[1]) == (2, 1, FIRST)


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    for content in (HEADER.encode("utf-16"), b"id,label\n", HEADER.replace(",", ";").encode()):
        path.write_bytes(content)
        with pytest.raises(SubmissionError, match="line 1: expected the columns time,status") as e:
            read_ledger(path)
        assert "checkout" not in str(e.value)


def test_what_is_known_of_a_submission_is_the_later_and_nothing_is_forgotten() -> None:
    """In any order of lines, as a merge leaves them; two with one mark are two submissions."""
    first = replace(FIRST, commit="abc")
    scored = replace(FIRST, time="2026-01-02", status="complete", ref="51", public="0.9", metric="")
    other = replace(scored, time="2026-01-02T12:00", ref="52", public="0.8")
    adopted = replace(scored, time="2026-01-03", mark="ref 51", private="0.7", public="", sha256="")
    for entries in ([first, scored, other, adopted], [adopted, other, scored, first]):
        known = latest(entries)
        assert {each.ref: (each.public, each.private) for each in known} == {
            "51": ("0.9", "0.7"), "52": ("0.8", ""),
        }  # fmt: skip
        (ours,) = [each for each in known if each.ref == "51"]
        assert (ours.commit, ours.sha256, ours.metric) == ("abc", SHA, "accuracy")


OURS = [line(5, "51", status="complete", public="0.9"), line(1, "51", status="pending"), "what?"]
THEIRS = [line(7, "51", status="complete", public="0.8"), line(1, "51", status="pending")]
BASE = [line(3, "60", status="pending", mark="other", file="b.csv")]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("base", [[], ["||||||| 1234567", *BASE]])
def test_a_conflict_is_resolved_without_losing_a_line(
    tmp_path: Path, end: str, base: list[str]
) -> None:
    path = tmp_path / "ledger.csv"
    conflict = ["<<<<<<< HEAD", *OURS, *base, "=======", *THEIRS, ">>>>>>> their, branch"]
    path.write_text(end.join([HEADER, line(0), *conflict, line(2, mark="m2")]), newline="")
    said = merge_ledger(path)
    kept = [line(0), OURS[1], "what?", line(2, mark="m2"), *base[1:], OURS[0], THEIRS[0]]
    assert path.read_bytes().decode() == "".join(each + end for each in [HEADER, *kept])
    assert said == [
        f"{path}: {3 + bool(base)} conflict markers removed, {len(kept)} lines kept in the order "
        "of time; 1 lines stood twice",
        "a.csv (submission 51): complete 0.9 here, complete 0.8 there; kept as the later: "
        "complete 0.8",
        f"Look at it, then run: git add {path}",
    ]
    assert latest(read_ledger(path))[0].public == "0.8"
    before = path.read_bytes()
    assert merge_ledger(path) == [f"{path}: no conflict markers: nothing was changed"]
    assert path.read_bytes() == before


HASH = f"sha256:{SHA[:16]}"


@pytest.mark.parametrize(
    "message",
    [f"as before [{HASH} #1]", f"[{HASH.upper()} #1]", f"[ sha256 : {SHA[:16]}#1 ]", HASH,
     f"[s\u200bha256:{SHA[:16]} #1]", f"[SHA-256:{SHA[:16]} #1]", f"[ｓｈａ256：{SHA[:16]} #1]",
     "[sha256:... #1]", f"sha 256 {SHA[:16]}"],
)  # fmt: skip
def test_a_message_with_anything_like_a_mark_is_refused(message: str) -> None:
    with pytest.raises(SubmissionError, match="expected a text without a mark"):
        describe("x", message)


@pytest.mark.parametrize("message", ["", "as before", "checked sha256 added faded", "[x] #1 ü"])
def test_any_other_message_follows_the_mark(message: str) -> None:
    description = describe(f"{SHA[:16]} #2-00ff00", message)
    assert description == f"[{HASH} #2-00ff00] {message}"
    for text in (description, f"[sha256:{'0' * 16} #1] {message} [{HASH} #2-00ff00]"):
        found = Submission(1, "", "", text, "pending", "", "", "", "", None, "")
        assert mark_of(found) == f"{SHA[:16]} #2-00ff00"


def test_a_number_is_what_kaggle_writes_as_one() -> None:
    assert [number(text) for text in ("0.9", " 1 ", "-2.5e-3", ".5", "3.")] == [
        0.9,
        1,
        -0.0025,
        0.5,
        3,
    ]
    for text in ("", "0,9", "1,234", "nan", "inf", "1_0", "1e999", "9" * 200_000, "1.2.3", "٠"):
        assert number(text) is None
    assert [is_absent(text) for text in ("", " NaN", "None", "null", "0,9")] == [True] * 4 + [False]
