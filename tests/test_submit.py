"""One file, one submission: through the real client, under faults, and killed at every step."""

import hashlib
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cards import make_audit, make_card
from competing import COMPETITION, KEY, command, commit, git, make_ready, write_submission
from kaggle_server import KaggleServer, now, serve
from kaggle_server import Submission as Sent
from project import ROOT

from pipeline.core import paths
from pipeline.core.files import sha256_of
from pipeline.core.record import write_record
from pipeline.ledger.ledger import COLUMNS, Entry, latest, read_ledger

FILE, LEDGER = "submissions/tiny.csv", "submissions/ledger.csv"


@dataclass
class Site:
    """A project that is ready to submit, and the server that it submits to."""

    server: KaggleServer
    folder: Path

    def run(self, *arguments: str, more: str = "") -> subprocess.CompletedProcess[str]:
        return command(self.server, self.folder, *arguments, more=more)

    def submit(self, *options: str, more: str = "") -> subprocess.CompletedProcess[str]:
        return self.run("submit", FILE, "--yes", *options, more=more)

    def ledger(self) -> list[Entry]:
        return read_ledger(self.folder / LEDGER)

    def header(self) -> bytes:
        return ",".join(COLUMNS).encode()

    def statuses(self) -> list[str]:
        return [entry.status for entry in self.ledger()]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serve() as server:
        yield Site(server, make_ready(tmp_path / "project"))


def test_a_submission_is_scored_and_recorded(site: Site) -> None:
    head = git(site.folder, "rev-parse", "HEAD")
    done = site.submit("--message", "the first")
    assert done.returncode == 0, done.stderr
    (sent,) = site.server.submissions
    assert sent.content == (site.folder / FILE).read_bytes()
    assert site.statuses() == ["uploading", "pending", "complete"]
    last = site.ledger()[-1]
    assert sent.description == f"[sha256:{last.mark}] the first"
    assert (last.ref, last.public, last.private) == (str(sent.ref), "0.9", "")
    assert (last.commit, last.cross_validated, last.forecast_low) == (head, "0.9", "0.85")
    assert last.competition == COMPETITION
    assert len(last.sha256) == len(last.dvc_lock) == len(last.params) == 64
    assert last.time.endswith("+00:00")
    assert str(sent.ref) in done.stdout
    assert "0.9" in done.stdout
    assert f"{COMPETITION}: Today 1 submitted, 4 left" in done.stderr


def test_the_same_file_is_not_submitted_twice_nor_under_another_name_nor_from_another_clone(
    site: Site, tmp_path: Path
) -> None:
    site.submit()
    again = site.submit()
    ref = site.server.submissions[0].ref
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1] == (
        "SubmissionError: submissions/tiny.csv: was submitted before: the ledger has it as "
        f"submission {ref}. The same file gets the same score; to see it: python -m pipeline scores"
    )
    write_submission(site.folder, "copy", ones=20)
    commit(site.folder)
    assert site.run("submit", "submissions/copy.csv", "--yes").returncode == 1
    elsewhere = Site(site.server, make_ready(tmp_path / "clone")).submit()
    assert elsewhere.returncode == 1
    assert "was submitted before: Kaggle has it as submission" in elsewhere.stderr
    assert len(site.server.submissions) == 1


def test_without_a_terminal_and_without_yes_nothing_is_sent(site: Site) -> None:
    done = site.run("submit")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "SubmissionError: submissions/tiny.csv: cross-validated accuracy 0.9000, public score "
        f"expected from 0.8500 to 0.9500. Today 0 submitted, 5 left. Submit to {COMPETITION}? There is no terminal to "
        "answer on: add --yes"
    )
    assert not site.server.submissions
    assert not site.ledger()


def test_a_metric_of_probabilities_has_them_checked_and_named(site: Site) -> None:
    params = site.folder / "params.yaml"
    params.write_text(params.read_text().replace("metric: accuracy", "metric: log_loss"))
    file = site.folder / FILE
    labels = file.read_text()
    file.write_text(labels.replace("test_00001,1", "test_00001,1.5"))
    done = site.submit()
    assert done.returncode == 1
    assert "line 3: expected a probability in [0, 1], found '1.5' (id test_00001)" in done.stderr
    file.write_text(labels)
    metric = {"name": "log_loss", "value": 0.25}
    card = make_card(metric=metric, sha256={"submission": sha256_of(file)})
    write_record(file.with_suffix(".json"), card)
    commit(site.folder)
    done = site.submit()
    assert done.returncode == 0, done.stderr
    (last, *_) = site.ledger()[::-1]
    assert (last.metric, last.cross_validated) == ("log_loss", "0.25")
    assert site.server.submissions[0].description.endswith("] tiny, cross-validated log_loss 0.25")


def test_a_limit_that_is_reached_stops_before_the_upload(site: Site) -> None:
    site.server.submissions.append(Sent(7, "x.csv", b"", "", now(), "COMPLETE", "0.5"))
    site.server.daily_limit = 1
    done = site.submit()
    assert done.returncode == 1
    assert re.fullmatch(
        f"SubmissionError: {COMPETITION}: today's limit is reached after 1 submissions. Kaggle "
        r"allows new ones from 00:00 UTC, in \d+ h \d+ min",
        done.stderr.splitlines()[-1],
    )
    assert not site.server.called("StartSubmissionUpload")
    assert [entry.ref for entry in site.ledger()] == ["7"]


def test_without_an_answer_about_the_limit_it_is_sent_and_said_once(site: Site) -> None:
    site.server.fault("GetSubmissionLimits", "status", times=9, status=404)
    done = site.submit()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("asking for today's limit") == 1
    assert f"{COMPETITION}: Today 1 submitted, how many are left is not known" in done.stderr


def test_a_limit_that_only_the_server_knows_is_recorded_as_refused(site: Site) -> None:
    site.server.fault("CreateSubmission", "status", status=400, message="Submission allowance used")
    done = site.submit()
    assert done.returncode == 1
    assert "refuses with 400 (Submission allowance used)" in done.stderr
    assert site.ledger()[-1].status == "refused"
    assert len(site.server.called("CreateSubmission")) == 1


def test_an_invalid_file_is_refused_before_any_call(site: Site) -> None:
    path = site.folder / FILE
    path.write_text(path.read_text().replace("label", "prediction", 1))
    done = site.submit()
    assert done.returncode == 1
    assert "expected the columns ['id', 'label']" in done.stderr
    assert not site.server.calls


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("params.yaml", "1 files differ from the commit (first: params.yaml)"),
        ("dvc.lock", "submissions/tiny.csv is not what dvc.lock describes"),
    ],
)
def test_what_no_commit_holds_is_submitted_only_when_asked_for(
    site: Site, change: str, reason: str
) -> None:
    path = site.folder / change
    path.write_text(path.read_text().replace("md5: ", "md5: 0") + "\n")
    done = site.submit()
    assert done.returncode == 1
    assert f"could not be rebuilt from a commit: {reason}" in done.stderr.replace(
        "1 files differ from the commit (first: dvc.lock); ", ""
    )
    assert not site.server.calls
    assert site.submit("--unreproducible").returncode == 0
    assert site.ledger()[-1].commit.endswith("-dirty")


def test_a_file_that_kaggle_cannot_score_says_why_and_may_be_sent_again(site: Site) -> None:
    message = "ERROR: Unexpected Column:  'x' (Line 1, Column 1)"
    site.server.score = lambda _: ("ERROR", "", "", message)
    done = site.submit()
    assert done.returncode == 1
    assert "Kaggle could not score it: ERROR: Unexpected Column: 'x'" in done.stderr
    assert site.ledger()[-1].error == message.replace("  ", " ")
    site.server.score = lambda _: ("COMPLETE", "0.8", "", "")
    assert site.submit().returncode == 0
    assert [entry.status for entry in latest(site.ledger())] == ["error", "complete"]


@pytest.mark.parametrize("kind", ["lost-reply", "drop", "status"])
def test_a_lost_reply_is_settled_by_looking(site: Site, kind: str) -> None:
    site.server.fault("CreateSubmission", kind)  # type: ignore[arg-type]
    done = site.submit()
    assert len(site.server.called("CreateSubmission")) == 1
    if kind == "lost-reply":
        assert done.returncode == 0, done.stderr
        assert len(site.server.submissions) == 1
        assert site.statuses() == ["uploading", "pending", "complete"]
    else:
        assert done.returncode == 1
        assert "It is not on Kaggle: the same command sends it again" in done.stderr
        assert site.statuses() == ["uploading", "lost"]
        assert site.submit().returncode == 0
        assert len(site.server.submissions) == 1


def test_a_ledger_that_an_editor_left_is_continued_and_its_bytes_stay(site: Site) -> None:
    """Windows' line ends, no last one, a line that nobody understands, and a gap."""
    (site.folder / LEDGER).write_bytes(site.header() + b'\r\nwhat\xff is this\r\n\r\n2026,"x')
    before = (site.folder / LEDGER).read_bytes()
    done = site.submit()
    assert done.returncode == 0, done.stderr
    assert "ledger.csv: line 4: no line of a CSV file (unexpected end of data)" in done.stderr
    assert "line 2: expected UTF-8; the line stays and is not used: 'what\\\\xff is" in done.stderr
    after = (site.folder / LEDGER).read_bytes()
    assert after.startswith(before + b"\r\n")
    assert after.count(b"\n") == after.count(b"\r\n") == 7
    assert site.statuses() == ["uploading", "pending", "complete"]
    assert site.submit().returncode == 1
    assert len(site.server.submissions) == 1


def test_where_the_ledger_cannot_tell_nothing_is_sent(site: Site) -> None:
    """A line that names the file and is not understood; then a merge's markers, and their cure."""
    sha256 = sha256_of(site.folder / FILE)
    glued = site.header() + f"\n2026-01-01,complete,{sha256},2026-01-01,complete\n".encode()
    (site.folder / LEDGER).write_bytes(glued)
    done = site.submit()
    assert done.returncode == 1
    assert "line 2: expected 19 fields, found 5, and this line names submissions/tiny.csv" in (
        done.stderr
    )
    conflict = site.header() + b"\n<<<<<<< HEAD\na\n=======\nb\n>>>>>>> other branch\n"
    (site.folder / LEDGER).write_bytes(conflict)
    done = site.submit()
    assert done.returncode == 1
    assert "line 2: a merge left its conflict markers. Run: python -m pipeline ledger merge" in (
        done.stderr
    )
    assert not site.server.calls
    assert (site.folder / LEDGER).read_bytes() == conflict
    assert "2 lines kept in the order of time" in site.run("ledger", "merge").stdout
    assert (site.folder / LEDGER).read_bytes() == site.header() + b"\na\nb\n"
    assert site.submit().returncode == 0


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        (
            "import resource\noriginal = submit.append\n"
            "submit.append = lambda *line: (\n"
            "    resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9)), original(*line)\n)",
            "the file is larger than this system allows",
        ),
        (
            "os.access = lambda path, mode: not str(path).endswith('ledger.csv')",
            "permission denied",
        ),
    ],
)
def test_a_ledger_that_cannot_be_written_is_known_before_anything_is_sent(
    site: Site, obstacle: str, reason: str
) -> None:
    (site.folder / LEDGER).write_bytes(site.header())
    done = site.submit(more=obstacle)
    assert done.returncode == 1
    assert "DiskError: submissions/ledger.csv: cannot be written: " in done.stderr
    assert reason in done.stderr
    assert not site.server.called("StartSubmissionUpload")
    assert (site.folder / LEDGER).read_bytes() == site.header()


def test_where_kaggle_shortens_descriptions_a_file_is_still_found_again(site: Site) -> None:
    """After a lost reply, and without a ledger."""
    site.server.longest_description = 60
    site.server.fault("CreateSubmission", "lost-reply")
    assert site.submit("--message", "as before, " * 60).returncode == 0
    (site.folder / LEDGER).unlink()
    site.server.fault("DownloadSubmission", "status", times=9, status=404)
    assert "was submitted before: Kaggle has it as submission" in site.submit().stderr
    assert len(site.server.submissions) == 1


def test_an_old_description_with_its_mark_at_the_end_is_found_again(site: Site) -> None:
    """Also after another mark, in a message that was copied."""
    hash16 = sha256_of(site.folder / FILE)[:16]
    site.server.submissions.append(
        Sent(7, "tiny.csv", (site.folder / FILE).read_bytes(),
             f"as [sha256:{'0' * 16} #1] [sha256:{hash16} #2]", "2026-01-01T00:00:00.000Z")
    )  # fmt: skip
    site.server.fault("DownloadSubmission", "status", times=9, status=404)
    assert "was submitted before: Kaggle has it as submission 7" in site.submit().stderr
    assert len(site.server.submissions) == 1


def test_a_file_that_the_plain_client_sent_is_known_by_its_bytes_alone(site: Site) -> None:
    """Without a mark, under another name, and before `scores` saw it."""
    content = (site.folder / FILE).read_bytes()
    site.server.submissions.append(Sent(7, "x.csv", content, "", "2026-01-01T00:00:00.000Z"))
    assert "was submitted before: Kaggle has it as submission 7" in site.submit().stderr
    assert [entry.ref for entry in site.ledger()] == ["7"]
    assert len(site.server.submissions) == 1


def test_a_copied_description_makes_no_other_file_ours(site: Site) -> None:
    """A team mate's file with our mark neither stops ours nor gives it its number and score."""
    mark = f"[sha256:{sha256_of(site.folder / FILE)[:16]} #1]"
    theirs = Sent(7, "mate.csv", b"id,label\n", mark, "2026-01-01T00:00:00.000Z", "COMPLETE", "0.1")
    theirs.submitted_by = "mate"
    site.server.submissions.append(theirs)
    site.server.fault("DownloadSubmission", "status", times=9, status=404)
    done = site.submit()
    assert done.returncode == 1
    size = (site.folder / FILE).stat().st_size
    assert done.stderr.splitlines()[-1].startswith(
        "SubmissionError: Kaggle's submission 7 carries the mark of submissions/tiny.csv, but its "
        f"name is 'mate.csv' and it has 9 bytes, not {size} and 'mate' sent it, not 'tester'. See"
    )
    assert not site.server.called("StartSubmissionUpload")
    site.server.forget()
    done = site.submit()
    assert done.returncode == 0, done.stderr
    site.run("scores")
    assert {(entry.ref, entry.public) for entry in latest(site.ledger())} == {
        ("7", "0.1"), (str(site.server.submissions[1].ref), "0.9"),
    }  # fmt: skip


@pytest.mark.slow
def test_a_lost_reply_is_not_settled_by_a_copied_description(site: Site) -> None:
    site.server.fault("CreateSubmission", "drop")
    site.submit()
    (site.folder / LEDGER).write_text(
        "\n".join((site.folder / LEDGER).read_text().splitlines()[:2]) + "\n"  # before it settled
    )
    copied = f"[sha256:{site.ledger()[0].mark}] copied"
    site.server.submissions.append(
        Sent(7, "tiny.csv", b"other", copied, "2099-01-01T00:00:00.000Z")
    )
    site.run("scores")
    assert site.submit().returncode == 0
    assert [sent.ref for sent in site.server.submissions] == [7, 8]
    assert [(each.ref, each.status) for each in latest(site.ledger())] == [
        ("", "lost"), ("7", "complete"), ("8", "complete"),
    ]  # fmt: skip


MEET = """
import time
from pathlib import Path
original = client.Kaggle.create_submission
def wait_for_the_other(*arguments):
    (Path({folder!r}) / str(os.getpid())).touch()
    while len(list(Path({folder!r}).iterdir())) < 2:
        time.sleep(0.02)
    return original(*arguments)
client.Kaggle.create_submission = wait_for_the_other
"""


@pytest.mark.slow
def test_the_same_file_sent_from_two_clones_at_once_is_said_and_recorded(
    site: Site, tmp_path: Path
) -> None:
    meet = MEET.format(folder=str(tmp_path / "met"))
    (tmp_path / "met").mkdir()
    both = [site, Site(site.server, make_ready(tmp_path / "clone"))]
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda each: each.submit(more=meet), both))
    assert [run.returncode for run in runs] == [0, 0]
    assert len(site.server.submissions) == 2
    assert any("was sent from elsewhere, too, as submission" in run.stderr for run in runs)
    for each in both:
        each.run("scores")
        assert {entry.ref for entry in latest(each.ledger())} == {"51000001", "51000002"}
    lines = [(each.folder / LEDGER).read_text() for each in both]
    (site.folder / LEDGER).write_text(lines[0] + lines[1])
    assert {entry.ref for entry in latest(site.ledger())} == {"51000001", "51000002"}


@pytest.mark.slow
def test_what_kaggle_says_in_an_odd_way_stops_no_command(site: Site) -> None:
    """Scores that are no numbers, a file without a name, text that no terminal understands."""
    odd: list[Any] = ["", "1,234", "0,9", "NaN", None, math.nan, 0.5, "9" * 5000]
    for ref, score in enumerate(odd, start=1):
        name = ["", "[/b]", "\ud800", "a\nb"][ref % 4]
        sent = Sent(ref, name, b"%d" % ref, "", "2026-01-01T00:00:00.000Z", "COMPLETE", score)
        site.server.submissions.append(sent)
    site.server.submissions.append(Sent(99, "x", b"", "", "", "ERROR"))
    done = site.run("scores")
    assert done.returncode == 0, done.stderr
    assert "nan" not in done.stdout.lower()
    assert "submission 4, public score: expected a number, found 'NaN': left out" in done.stderr
    written = (site.folder / LEDGER).read_bytes()
    assert len(site.ledger()) == 9
    assert site.run("scores").returncode == 0
    assert (site.folder / LEDGER).read_bytes() == written
    done = site.run("finals")
    assert "expected a submission whose card has a forecast, found none of 8" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_upload_that_fails_is_repeated_and_submitted_once(site: Site) -> None:
    site.server.fault("PUT upload", "status", status=500)
    site.server.fault("StartSubmissionUpload", "status", status=503)
    assert site.submit().returncode == 0
    assert len(site.server.submissions) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429, "retry_after": 1},
        {"kind": "status", "status": 503, "shape": "old"},
        {"kind": "drop"},
        {"kind": "hang", "seconds": 5},
        {"kind": "html"},
    ],
    ids=lambda fault: str(fault.get("status", fault["kind"])),
)
def test_a_passing_fault_of_harmless_calls_is_repeated(
    site: Site, fault: dict[str, object]
) -> None:
    calls = ["ListSubmissions", "GetSubmissionLimits", "GetSubmission"]
    for call in calls:
        site.server.fault(call, **fault)  # type: ignore[arg-type]
    done = site.submit()
    assert done.returncode == 0, done.stderr
    assert all(len(site.server.called(call)) >= 2 for call in calls)
    assert len(site.server.submissions) == 1
    assert site.ledger()[-1].status == "complete"


@pytest.mark.parametrize("later", ["scores", "submit"])
def test_a_submission_without_a_score_in_time_is_completed_by_either_command(
    site: Site, later: str
) -> None:
    site.server.polls_until_scored = 10_000
    done = site.submit("--wait", "0.2")
    assert done.returncode == 0
    assert "no score yet. Later: python -m pipeline scores" in done.stderr
    assert site.ledger()[-1].status == "pending"
    site.server.polls_until_scored = 0
    done = site.submit() if later == "submit" else site.run("scores")
    assert done.returncode == 0
    assert ("was submitted before, as 51000001: not sent again" in done.stderr) == (
        later == "submit"
    )
    assert len(site.server.submissions) == 1
    assert site.ledger()[-1].public == "0.9"


def test_private_scores_are_added_when_the_competition_ends(site: Site) -> None:
    """And a score outside its forecast is explained, with the audit."""
    ids = ["a", "b", "c", "d"]
    write_record(site.folder / paths.AUDIT, make_audit(100, ("0", "1"), ids, grouped=True))
    site.server.score = lambda _: ("COMPLETE", "0.8", "", "")
    site.submit()
    before = (site.folder / LEDGER).read_bytes()
    site.server.submissions[0].private_score = "0.8765"
    shown = site.run("scores").stdout
    assert "0.8765" in shown
    assert "  fits: leak in cross-validation: 1 clusters of duplicates span groups" in shown
    after = (site.folder / LEDGER).read_bytes()
    assert after.startswith(before)
    assert site.ledger()[-1].private == "0.8765"
    site.run("scores")
    assert (site.folder / LEDGER).read_bytes() == after


def test_a_score_is_proven_to_be_of_the_recorded_bytes_with_one_request(site: Site) -> None:
    site.submit()
    assert site.ledger()[-1].kaggle_sha256 == ""
    done = site.run("scores")
    assert done.returncode == 0
    assert "submissions/tiny.csv (submission 51000001): its score is of the recorded bytes" in (
        done.stderr
    )
    assert site.ledger()[-1].kaggle_sha256 == sha256_of(site.folder / FILE)
    before = (site.folder / LEDGER).read_bytes()
    assert site.run("scores").returncode == 0
    assert site.submit().returncode == 1
    assert (site.folder / LEDGER).read_bytes() == before
    assert len(site.server.called("DownloadSubmission")) == 1


def test_a_score_of_other_bytes_is_no_score_of_the_file(site: Site) -> None:
    """Said by each `scores`, downloaded once; nothing uses it, and the file may be sent."""
    site.submit()
    (theirs,) = site.server.submissions
    theirs.content = theirs.content.replace(b"test_00000,1", b"test_00000,0")
    here, there = sha256_of(site.folder / FILE), hashlib.sha256(theirs.content).hexdigest()
    for _ in range(2):
        done = site.run("scores")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            f"SubmissionError: submissions/tiny.csv (submission {theirs.ref}): Kaggle has other "
            f"bytes than were recorded as sent: SHA-256 {there} there, {here} in {LEDGER}. So its "
            "score says nothing of this file, its forecast and its commit, and no command uses it "
            f"for them. See https://www.kaggle.com/competitions/{COMPETITION}/submissions; the "
            "file itself may be sent: python -m pipeline submit submissions/tiny.csv"
        )
        assert f"{theirs.ref} submissions/tiny.csv: no forecast to compare its score with" in (
            done.stdout
        )
    assert len(site.server.called("DownloadSubmission")) == 1
    assert "found none of 1: " in site.run("finals").stderr
    done = site.submit()
    assert done.returncode == 0, done.stderr
    assert len(site.server.submissions) == 2
    assert len(site.server.called("DownloadSubmission")) == 1
    write_submission(site.folder, "theirs", ones=20).write_bytes(theirs.content)
    commit(site.folder)
    done = site.run("submit", "submissions/theirs.csv", "--yes", "--unreproducible")
    assert f"the ledger has it as submission {theirs.ref}" in done.stderr


def test_a_submission_by_the_plain_client_comes_into_the_ledger(site: Site) -> None:
    site.server.polls_until_scored = 0
    done = subprocess.run(
        [Path(sys.executable).with_name("kaggle"), "competitions", "submit", "-c", COMPETITION, "-f", FILE,
         "-m", "by hand"],
        cwd=site.folder, env=site.server.environment(site.folder / "home", **KEY),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert site.run("scores").returncode == 0
    (entry,) = site.ledger()
    assert entry.file == FILE
    assert entry.commit == git(site.folder, "rev-parse", "HEAD")
    assert (entry.status, entry.public) == ("complete", "0.9")
    again = site.submit()
    assert again.returncode == 1
    assert len(site.server.submissions) == 1


KILL = """
left = {nth}
def deadly(*arguments, function={owner}.{name}):
    global left
    result, left = function(*arguments), left - 1
    return result if left else os._exit(9)
{owner}.{name} = deadly
"""


@pytest.mark.slow
def test_killed_after_any_step_it_ends_as_one_submission(site: Site) -> None:
    """The steps that write, here or on Kaggle; either command continues after them."""
    upload, create = ("client.Kaggle", "upload", 1), ("client.Kaggle", "create_submission", 1)
    first, second, third = (("submit", "append", nth) for nth in (1, 2, 3))
    path = site.folder / LEDGER
    for number, (owner, name, nth) in enumerate([first, upload, create, create, second, third]):
        site.server.submissions.clear()
        path.unlink(missing_ok=True)
        killed = site.submit(more=KILL.format(owner=owner, name=name, nth=nth))
        assert killed.returncode == 9, killed.stderr
        after_kill = path.read_bytes()
        if number % 2:
            site.run("scores")
        if site.statuses()[-1] != "complete":
            assert site.submit().returncode == 0
        assert len(site.server.submissions) == 1, (name, nth)
        assert path.read_bytes().startswith(after_kill)
        last = latest(site.ledger())[-1]
        assert (last.status, last.ref) == ("complete", str(site.server.submissions[0].ref)), name


def test_two_at_once_make_one_submission(site: Site) -> None:
    slow = "time = __import__('time')\noriginal = client.Kaggle.upload\n"
    slow += "client.Kaggle.upload = lambda *a: (time.sleep(1.5), original(*a))[1]\n"
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: site.submit(more=slow), range(2)))
    assert len(site.server.submissions) == 1
    assert sorted(run.returncode for run in runs) == [0, 1]


@pytest.mark.parametrize(
    ("metric", "score", "others", "lines"),
    [
        ("accuracy", "0.95", ["0.99", "0.97", "0.95", "0.60"], [
            "Team Tester: place 3 of 5, public score 0.95000",
            "leader: 0.99000, 0.04000 above; next better: 0.02000 above",
            "noise: ±0.09552 (95 %, with 50% of the 40 test rows as public): places 1 to 4 cannot be distinguished from ours",
        ]),
        ("log_loss", "1.25", ["0.5", "1.125", "2.5"], [
            "Team Tester: place 3 of 4, public score 1.25000",
            "leader: 0.50000, 0.75000 below; next better: 0.12500 below",
            "noise: known for accuracy only, and params.yaml: ensemble.metric is log_loss",
        ]),
    ],
)  # fmt: skip
def test_the_leaderboard_shows_place_gap_and_noise(
    site: Site, metric: str, score: str, others: list[str], lines: list[str]
) -> None:
    site.server.leaderboard = [("A", "0.99")]
    assert "our team is none of the 1 on the public leaderboard" in site.run("leaderboard").stderr
    site.server.score = lambda _: ("COMPLETE", score, "", "")
    site.submit()
    params = site.folder / "params.yaml"
    params.write_text(params.read_text().replace("metric: accuracy", f"metric: {metric}"))
    odd: list[tuple[str, Any]] = [*zip("EFGHI", ["", "1,234", "NaN", None, math.nan], strict=True)]
    teams = [*zip("ABCD", others, strict=False), *odd]
    site.server.leaderboard = [*teams[:2], ("Team Tester", score), *teams[2:]]
    done = site.run("leaderboard")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == lines


def test_a_source_without_a_competition_asks_for_one(site: Site) -> None:
    (site.folder / "params.yaml").write_text((ROOT / "profiles/malaria-local.yaml").read_text())
    done = site.run("scores")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "KaggleError: params.yaml: download.source is local, so no competition is named there. "
        "Say which: --competition SLUG"
    )
    assert "nothing was submitted yet" in site.run("scores", "-c", COMPETITION).stderr
