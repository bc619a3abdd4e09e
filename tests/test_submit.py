"""One file, one submission: through the real client, under faults, and killed at every step."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cards import make_card
from competing import COMPETITION, KEY, command, commit, git, make_ready, write_submission
from kaggle_server import KaggleServer, serve
from project import ROOT

from pipeline.core.files import sha256_of
from pipeline.core.record import write_record
from pipeline.ledger.ledger import COLUMNS, Entry, append, latest, read_ledger

SUBMIT = ("submit", "submissions/tiny.csv", "--yes")


@pytest.fixture
def server() -> Iterator[KaggleServer]:
    with serve() as running:
        yield running


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    return make_ready(tmp_path / "project")


def ledger(folder: Path) -> list[Entry]:
    return read_ledger(folder / "submissions" / "ledger.csv")


def test_a_submission_is_scored_and_recorded(server: KaggleServer, ready: Path) -> None:
    head = git(ready, "rev-parse", "HEAD")
    done = command(server, ready, *SUBMIT, "--message", "the first")
    assert done.returncode == 0, done.stderr
    (sent,) = server.submissions
    assert sent.content == (ready / "submissions/tiny.csv").read_bytes()
    entries = ledger(ready)
    assert [entry.status for entry in entries] == ["uploading", "pending", "complete"]
    last = entries[-1]
    assert sent.description == f"the first [sha256:{last.mark}]"
    assert (last.ref, last.public, last.private) == (str(sent.ref), "0.9", "")
    assert (last.commit, last.cross_validated, last.forecast_low) == (head, "0.9", "0.85")
    assert last.competition == COMPETITION
    assert len(last.sha256) == len(last.dvc_lock) == len(last.params) == 64
    assert last.time.endswith("+00:00")
    assert str(sent.ref) in done.stdout
    assert "0.9" in done.stdout


def test_the_same_file_is_not_submitted_twice(server: KaggleServer, ready: Path) -> None:
    command(server, ready, *SUBMIT)
    again = command(server, ready, *SUBMIT)
    ref = server.submissions[0].ref
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1] == (
        "SubmissionError: submissions/tiny.csv: was submitted before: the ledger has it as "
        f"submission {ref}. The same file gets the same score; to see it: python -m pipeline scores"
    )
    assert len(server.submissions) == 1


def test_the_same_file_under_another_name_is_not_submitted_twice(
    server: KaggleServer, ready: Path
) -> None:
    command(server, ready, *SUBMIT)
    write_submission(ready, "copy", ones=20)
    commit(ready)
    assert command(server, ready, "submit", "submissions/copy.csv", "--yes").returncode == 1
    assert len(server.submissions) == 1


def test_a_file_that_another_clone_submitted_is_known_by_its_mark(
    server: KaggleServer, ready: Path, tmp_path: Path
) -> None:
    command(server, ready, *SUBMIT)
    server.submissions[:0] = []
    clone = make_ready(tmp_path / "clone")
    done = command(server, clone, *SUBMIT)
    assert done.returncode == 1
    assert "was submitted before: Kaggle has it as submission" in done.stderr
    assert len(server.submissions) == 1


def test_without_a_terminal_and_without_yes_nothing_is_sent(
    server: KaggleServer, ready: Path
) -> None:
    done = command(server, ready, "submit")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "SubmissionError: submissions/tiny.csv: cross-validated accuracy 0.9000, public score "
        f"expected from 0.8500 to 0.9500. Today 0 submitted, 5 left. Submit to {COMPETITION}? There is no terminal to "
        "answer on: add --yes"
    )
    assert not server.submissions
    assert not ledger(ready)


def test_a_metric_of_probabilities_has_them_checked_and_named(
    server: KaggleServer, ready: Path
) -> None:
    params = ready / "params.yaml"
    params.write_text(params.read_text().replace("metric: accuracy", "metric: log_loss"))
    file = ready / "submissions/tiny.csv"
    labels = file.read_text()
    file.write_text(labels.replace("test_00001,1", "test_00001,1.5"))
    done = command(server, ready, *SUBMIT)
    assert done.returncode == 1
    assert "line 3: expected a probability in [0, 1], found '1.5' (id test_00001)" in done.stderr
    file.write_text(labels)
    metric = {"name": "log_loss", "value": 0.25}
    card = make_card(metric=metric, sha256={"submission": sha256_of(file)})
    write_record(file.with_suffix(".json"), card)
    commit(ready)
    done = command(server, ready, *SUBMIT)
    assert done.returncode == 0, done.stderr
    (last, *_) = ledger(ready)[::-1]
    assert (last.metric, last.cross_validated) == ("log_loss", "0.25")
    assert server.submissions[0].description.startswith("tiny, cross-validated log_loss 0.25 [sha")


def test_at_the_daily_limit_nothing_is_uploaded(server: KaggleServer, ready: Path) -> None:
    server.daily_limit = 0
    done = command(server, ready, *SUBMIT)
    assert done.returncode == 1
    assert "today's limit is reached after 0 submissions. Kaggle allows new ones" in done.stderr
    assert not server.called("PUT upload")


def test_a_limit_that_only_the_server_knows_is_recorded_as_refused(
    server: KaggleServer, ready: Path
) -> None:
    server.fault("CreateSubmission", "status", status=400, message="Submission allowance used")
    done = command(server, ready, *SUBMIT)
    assert done.returncode == 1
    assert "refuses with 400 (Submission allowance used)" in done.stderr
    assert ledger(ready)[-1].status == "refused"
    assert len(server.called("CreateSubmission")) == 1


def test_an_invalid_file_is_refused_before_any_call(server: KaggleServer, ready: Path) -> None:
    path = ready / "submissions/tiny.csv"
    path.write_text(path.read_text().replace("label", "prediction", 1))
    done = command(server, ready, *SUBMIT)
    assert done.returncode == 1
    assert "expected the columns ['id', 'label']" in done.stderr
    assert not server.calls


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("params.yaml", "1 files differ from the commit (first: params.yaml)"),
        ("dvc.lock", "submissions/tiny.csv is not what dvc.lock describes"),
    ],
)
def test_what_no_commit_holds_is_submitted_only_when_asked_for(
    server: KaggleServer, ready: Path, change: str, reason: str
) -> None:
    path = ready / change
    path.write_text(path.read_text().replace("md5: ", "md5: 0") + "\n")
    done = command(server, ready, *SUBMIT)
    assert done.returncode == 1
    assert f"could not be rebuilt from a commit: {reason}" in done.stderr.replace(
        "1 files differ from the commit (first: dvc.lock); ", ""
    )
    assert not server.calls
    assert command(server, ready, *SUBMIT, "--unreproducible").returncode == 0
    assert ledger(ready)[-1].commit.endswith("-dirty")


def test_a_submission_that_kaggle_cannot_score_says_why(server: KaggleServer, ready: Path) -> None:
    server.score = lambda _: ("ERROR", "", "", "ERROR: Unexpected Column:  'x' (Line 1, Column 1)")
    done = command(server, ready, *SUBMIT)
    assert done.returncode == 1
    assert "Kaggle could not score it: ERROR: Unexpected Column: 'x'" in done.stderr
    last = ledger(ready)[-1]
    assert (last.status, last.error) == (
        "error",
        "ERROR: Unexpected Column: 'x' (Line 1, Column 1)",
    )


def test_a_file_that_kaggle_could_not_score_may_be_sent_again(
    server: KaggleServer, ready: Path
) -> None:
    server.score = lambda _: ("ERROR", "", "", "Evaluation Exception")
    command(server, ready, *SUBMIT)
    server.score = lambda _: ("COMPLETE", "0.8", "", "")
    assert command(server, ready, *SUBMIT).returncode == 0
    assert [entry.status for entry in latest(ledger(ready))] == ["error", "complete"]


@pytest.mark.parametrize("kind", ["lost-reply", "drop", "status"])
def test_a_lost_reply_is_settled_by_looking(server: KaggleServer, ready: Path, kind: str) -> None:
    server.fault("CreateSubmission", kind)  # type: ignore[arg-type]
    done = command(server, ready, *SUBMIT)
    assert len(server.called("CreateSubmission")) == 1
    if kind == "lost-reply":
        assert done.returncode == 0, done.stderr
        assert len(server.submissions) == 1
        assert [e.status for e in ledger(ready)] == ["uploading", "pending", "complete"]
    else:
        assert done.returncode == 1
        assert "It is not on Kaggle: the same command sends it again" in done.stderr
        assert [e.status for e in ledger(ready)] == ["uploading", "lost"]
        assert command(server, ready, *SUBMIT).returncode == 0
        assert len(server.submissions) == 1


def test_an_upload_that_fails_is_repeated_and_submitted_once(
    server: KaggleServer, ready: Path
) -> None:
    server.fault("PUT upload", "status", status=500)
    server.fault("StartSubmissionUpload", "status", status=503)
    assert command(server, ready, *SUBMIT).returncode == 0
    assert len(server.submissions) == 1


@pytest.mark.slow
@pytest.mark.parametrize("call", ["ListSubmissions", "GetSubmissionLimits", "GetSubmission"])
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
def test_a_passing_fault_of_a_harmless_call_is_repeated(
    server: KaggleServer, ready: Path, call: str, fault: dict[str, object]
) -> None:
    server.fault(call, **fault)  # type: ignore[arg-type]
    done = command(server, ready, *SUBMIT)
    assert done.returncode == 0, done.stderr
    assert len(server.submissions) == 1
    assert ledger(ready)[-1].status == "complete"


def test_no_score_in_time_leaves_a_submission_that_scores_completes(
    server: KaggleServer, ready: Path
) -> None:
    server.polls_until_scored = 10_000
    done = command(server, ready, *SUBMIT, "--wait", "0.2")
    assert done.returncode == 0
    assert "no score yet. Later: python -m pipeline scores" in done.stderr
    assert ledger(ready)[-1].status == "pending"
    server.polls_until_scored = 0
    assert command(server, ready, "scores").returncode == 0
    assert ledger(ready)[-1].public == "0.9"


def test_the_same_command_goes_on_waiting_for_a_score(server: KaggleServer, ready: Path) -> None:
    server.polls_until_scored = 10_000
    command(server, ready, *SUBMIT, "--wait", "0.2")
    server.polls_until_scored = 0
    again = command(server, ready, *SUBMIT)
    assert again.returncode == 0
    assert "was submitted before, as 51000001: not sent again" in again.stderr
    assert len(server.submissions) == 1
    assert ledger(ready)[-1].public == "0.9"


def test_private_scores_are_added_when_the_competition_ends(
    server: KaggleServer, ready: Path
) -> None:
    command(server, ready, *SUBMIT)
    before = (ready / "submissions/ledger.csv").read_bytes()
    server.submissions[0].private_score = "0.8765"
    assert "0.8765" in command(server, ready, "scores").stdout
    after = (ready / "submissions/ledger.csv").read_bytes()
    assert after.startswith(before)
    assert ledger(ready)[-1].private == "0.8765"
    command(server, ready, "scores")
    assert (ready / "submissions/ledger.csv").read_bytes() == after


def test_a_submission_by_the_plain_client_comes_into_the_ledger(
    server: KaggleServer, ready: Path
) -> None:
    server.polls_until_scored = 0
    done = subprocess.run(
        [Path(sys.executable).with_name("kaggle"), "competitions", "submit", "-c", COMPETITION, "-f", "submissions/tiny.csv",
         "-m", "by hand"],
        cwd=ready, env=server.environment(ready / "home", **KEY),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert command(server, ready, "scores").returncode == 0
    (entry,) = ledger(ready)
    assert entry.file == "submissions/tiny.csv"
    assert entry.commit == git(ready, "rev-parse", "HEAD")
    assert (entry.status, entry.public) == ("complete", "0.9")
    again = command(server, ready, *SUBMIT)
    assert again.returncode == 1
    assert len(server.submissions) == 1


KILL = """
import itertools
counter = itertools.count()
def deadly(function):
    def before_and_after(*arguments):
        if next(counter) == {step}: os._exit(9)
        result = function(*arguments)
        if next(counter) == {step}: os._exit(9)
        return result
    return before_and_after
for owner, names in (
    (submit, ["append"]),
    (client.Kaggle, ["upload", "create_submission", "limits", "list_submissions", "get_submission"]),
):
    for name in names:
        setattr(owner, name, deadly(getattr(owner, name)))
"""


@pytest.mark.slow
def test_killed_at_any_step_it_ends_as_one_submission(server: KaggleServer, ready: Path) -> None:
    path = ready / "submissions" / "ledger.csv"
    for step in range(100):
        server.submissions.clear()
        path.unlink(missing_ok=True)
        killed = command(server, ready, *SUBMIT, more=KILL.format(step=step))
        if killed.returncode == 0:
            break
        assert killed.returncode == 9, killed.stderr
        after_kill = path.read_bytes() if path.exists() else b""
        if step % 2:  # either command continues from there
            command(server, ready, "scores")
        done = command(server, ready, *SUBMIT)
        assert len(server.submissions) == 1, f"step {step}: {done.stderr}"
        assert path.read_bytes().startswith(after_kill)
        last = latest(ledger(ready))[-1]
        assert (last.status, last.ref) == ("complete", str(server.submissions[0].ref)), step
    assert step >= 16  # append ×3, limits, list, upload, create, get: before and after each


def test_two_at_once_make_one_submission(server: KaggleServer, ready: Path) -> None:
    slow = "time = __import__('time')\noriginal = client.Kaggle.upload\n"
    slow += "client.Kaggle.upload = lambda *a: (time.sleep(1.5), original(*a))[1]\n"
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: command(server, ready, *SUBMIT, more=slow), range(2)))
    assert len(server.submissions) == 1
    assert sorted(run.returncode for run in runs) == [0, 1]


def test_the_leaderboard_shows_place_gap_and_noise(server: KaggleServer, ready: Path) -> None:
    server.score = lambda _: ("COMPLETE", "0.95", "", "")
    command(server, ready, *SUBMIT)
    server.leaderboard = [("A", "0.99"), ("B", "0.97"), ("Team Tester", "0.95"), ("C", "0.95"),
                          ("D", "0.60")]  # fmt: skip
    done = command(server, ready, "leaderboard")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Team Tester: place 3 of 5, public score 0.95000",
        "leader: 0.99000, 0.04000 above; next better: 0.02000 above",
        "noise: ±0.09552 (95 %, with 50% of the 40 test rows as public): places 1 to 4 cannot be "
        "distinguished from ours",
    ]


def test_of_a_loss_the_next_better_score_is_the_next_lower_one(
    server: KaggleServer, ready: Path
) -> None:
    server.score = lambda _: ("COMPLETE", "1.25", "", "")
    command(server, ready, *SUBMIT)
    params = ready / "params.yaml"
    params.write_text(params.read_text().replace("metric: accuracy", "metric: log_loss"))
    server.leaderboard = [("A", "0.5"), ("B", "1.125"), ("Team Tester", "1.25"), ("D", "2.5")]
    done = command(server, ready, "leaderboard")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Team Tester: place 3 of 4, public score 1.25000",
        "leader: 0.50000, 0.75000 below; next better: 0.12500 below",
        "noise: known for accuracy only, and params.yaml: ensemble.metric is log_loss",
    ]


def test_before_a_submission_the_leaderboard_says_so(server: KaggleServer, ready: Path) -> None:
    server.leaderboard = [("A", "0.99")]
    done = command(server, ready, "leaderboard")
    assert done.returncode == 1
    assert "our team is none of the 1 on the public leaderboard" in done.stderr


def test_a_source_without_a_competition_asks_for_one(server: KaggleServer, ready: Path) -> None:
    (ready / "params.yaml").write_text((ROOT / "profiles/malaria-local.yaml").read_text())
    done = command(server, ready, "scores")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "KaggleError: params.yaml: download.source is local, so no competition is named there. "
        "Say which: --competition SLUG"
    )
    assert "nothing was submitted yet" in command(server, ready, "scores", "-c", COMPETITION).stderr


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    entry = Entry("t", "lost", *([""] * (len(COLUMNS) - 2)))
    append(path, entry)
    append(path, Entry("t", "pending", *(['a,"b"\nc'] * (len(COLUMNS) - 2))))
    assert read_ledger(path)[0] == entry
    assert read_ledger(path)[1].error == 'a,"b"\nc'
    assert path.read_text().startswith(",".join(COLUMNS) + "\n")
    path.write_text(path.read_text() + "<<<<<<< HEAD\n")
    with pytest.raises(Exception, match="expected 18 fields, the second one of uploading, pending"):
        read_ledger(path)
