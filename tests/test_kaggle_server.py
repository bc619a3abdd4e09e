"""The stand-in for Kaggle is truthful: the real client, unmodified, is run against it.

KAGGLE_CLIENT_PATH chooses the client: `pip install --no-deps --target DIR kaggle==2.2.5
kagglesdk==0.1.38`, then KAGGLE_CLIENT_PATH=DIR pytest tests/test_kaggle_server.py.
"""

import json
import random
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import requests
from kaggle_server import RULES, KaggleServer, Kind, Submission, serve, zip_of

SLUG = "fighting-malaria"
FILES = {
    "sample_submission.csv": b"id,label\n1,0\n",
    "train_labels.csv": b"id,label\n2,1\n",
    "train/a b.csv": b"x,y\n1,2\n",
    "train.zip": random.Random(1).randbytes(3 << 20),
    "test.zip": zip_of({"1.png": b"not a picture"}),
}
KEY = {"KAGGLE_USERNAME": "tester", "KAGGLE_KEY": "secret-key"}
COMMAND = Path(sys.executable).with_name("kaggle")
AUTH_HELP = "Authentication required to call the Kaggle API."
API = """
import sys, json
from kaggle.api.kaggle_api_extended import KaggleApi
from kagglesdk.competitions.types.competition_api_service import *
api = KaggleApi()
api.authenticate()
"""


@pytest.fixture
def server() -> Iterator[KaggleServer]:
    with serve(dict(FILES)) as running:
        yield running


def run(
    server: KaggleServer, folder: Path, *command: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A process with `folder` as its home and working folder, and a good key unless told otherwise."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=server.environment(folder, **(environment or KEY)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def cli(
    server: KaggleServer, folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return run(server, folder, str(COMMAND), *arguments, **environment)


def api(server: KaggleServer, folder: Path, script: str) -> str:
    """What a script prints that has `api`, an authenticated KaggleApi."""
    done = run(server, folder, "-c", API + script)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def client_version() -> tuple[int, ...]:
    with serve() as server, TemporaryDirectory() as home:
        shown = cli(server, Path(home), "--version").stdout
    return tuple(map(int, shown.split()[-1].split(".")))


def ask(server: KaggleServer, method: str, body: dict[str, Any]) -> requests.Response:
    """A method's reply as it is on the wire."""
    return requests.post(
        f"http://localhost/api/v1/{method}", json=body, auth=("tester", "secret-key"),
        proxies={"http": server.url}, allow_redirects=False,
    )  # fmt: skip


def until(happened: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def handlers() -> list[threading.Thread]:
    """The requests that are being answered, in all servers."""
    return [thread for thread in threading.enumerate() if "process_request" in thread.name]


def names(server: KaggleServer) -> list[str]:
    return [call.name for call in server.calls]


def submission_file(folder: Path) -> Path:
    (folder / "sub.csv").write_text("id,label\n1,1\n")
    return folder / "sub.csv"


def submit(
    server: KaggleServer, folder: Path, message: str = "run 7"
) -> subprocess.CompletedProcess[str]:
    submission_file(folder)
    return cli(server, folder, "competitions", "submit", SLUG, "-f", "sub.csv", "-m", message)


def old(ref: int) -> Submission:
    return Submission(ref, f"{ref}.csv", b"x", "", "2026-01-01T00:00:00.000Z", "COMPLETE", "0.5")


def read_zip(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# Reading


@pytest.mark.parametrize(
    ("method", "items", "request_fields"),
    [
        ("list_data_files", "[f.name for f in page.files]", "ApiListDataFilesRequest"),
        ("list_submissions", "[s.ref for s in page.submissions]", "ApiListSubmissionsRequest"),
        ("get_leaderboard", "[t.team_name for t in page.submissions]", "ApiGetLeaderboardRequest"),
    ],
)
def test_the_real_client_lists_all_pages(
    server: KaggleServer, tmp_path: Path, method: str, items: str, request_fields: str
) -> None:
    server.submissions = [old(ref) for ref in range(5)]
    server.leaderboard = [(team, "0.9") for team in "ABCDE"]
    found = api(
        server, tmp_path,
        f"""
request, pages, items = {request_fields}(), 0, []
request.competition_name, request.page_size = "{SLUG}", 200
with api.build_kaggle_client() as client:
    while pages == 0 or page.next_page_token:
        page = client.competitions.competition_api_client.{method}(request)
        request.page_token, pages, items = page.next_page_token, pages + 1, items + {items}
print(pages, json.dumps(items))
""",
    )  # fmt: skip
    expected: dict[str, list[object]] = {
        "list_data_files": [*FILES],
        "list_submissions": [4, 3, 2, 1, 0],
        "get_leaderboard": [*"ABCDE"],
    }
    assert found == f"2 {json.dumps(expected[method])}\n"


def test_the_command_line_shows_one_page_and_says_so_on_stdout(
    server: KaggleServer, tmp_path: Path
) -> None:
    found = cli(server, tmp_path, "competitions", "files", SLUG, "-v").stdout.splitlines()
    assert found[0].startswith("Next Page Token = ")
    assert found[1:] == [
        "name,size,creationDate",
        "sample_submission.csv,13,2026-01-02 03:04:05",
        "train_labels.csv,13,2026-01-02 03:04:05",
        "train/a b.csv,8,2026-01-02 03:04:05",
    ]


def test_older_submissions_are_on_later_pages(server: KaggleServer, tmp_path: Path) -> None:
    server.submissions = [old(ref) for ref in range(5)]
    script = f"print([s.ref for s in api.competition_submissions('{SLUG}', page_number=2)])"
    assert api(server, tmp_path, script) == "[1, 0]\n"


def test_the_competition_is_listed_with_whether_one_has_entered_and_ones_rank(
    server: KaggleServer, tmp_path: Path
) -> None:
    server.leaderboard = [("Other", "0.99"), ("Team Tester", "0.98")]
    server.other_competitions.append("titanic")
    script = f"""
for c in api.competitions_list(search="{SLUG}").competitions:
    print(c.ref, c.user_has_entered, c.user_rank, c.deadline, c.evaluation_metric,
          c.max_daily_submissions)
"""
    assert api(server, tmp_path, script).splitlines() == [
        f"https://www.kaggle.com/competitions/{SLUG}-2 False 0 2030-01-01 23:59:00  0",
        f"https://www.kaggle.com/competitions/{SLUG} True 2 2030-01-01 23:59:00 "
        "Categorization Accuracy 5",
    ]


def test_a_newer_server_is_announced_on_stdout_before_the_table(
    server: KaggleServer, tmp_path: Path
) -> None:
    server.api_version = "99.0.0"
    found = cli(server, tmp_path, "competitions", "files", SLUG, "-v").stdout.splitlines()
    assert found[0].startswith("Warning: Looks like you're using an outdated")
    assert "name,size,creationDate" in found


def test_the_leaderboard_is_a_zip_named_as_the_data_are(
    server: KaggleServer, tmp_path: Path
) -> None:
    server.leaderboard = [("Team, A", "0.99")]
    done = cli(server, tmp_path, "competitions", "leaderboard", SLUG, "-d", "-p", ".")
    assert done.returncode == 0, done.stderr
    (table,) = read_zip(tmp_path / f"{SLUG}.zip").values()
    assert table.startswith("\ufeffRank".encode())
    assert table.decode("utf-8-sig").splitlines() == [
        "Rank,TeamId,TeamName,LastSubmissionDate,Score,SubmissionCount,TeamMemberUserNames",
        '1,7001,"Team, A",2026-01-02 03:04:05,0.99,1,member',
    ]


def test_home_answers_without_an_account(server: KaggleServer) -> None:
    for method in ("GET", "HEAD"):
        answer = requests.request(method, "http://localhost/", proxies={"http": server.url})
        assert (answer.status_code, bool(answer.content)) == (200, method == "GET")


# Credentials


def test_a_wrong_key_is_401(server: KaggleServer, tmp_path: Path) -> None:
    wrong = {**KEY, "KAGGLE_KEY": "wrong"}
    done = cli(server, tmp_path, "competitions", "files", SLUG, **wrong)
    assert (done.returncode, done.stdout.startswith(AUTH_HELP)) == (1, True)
    assert [(call.name, call.authorization, call.user) for call in server.calls] == [
        ("ListDataFiles", "basic", "")
    ]


def test_without_credentials_nothing_is_sent(server: KaggleServer, tmp_path: Path) -> None:
    done = cli(server, tmp_path, "competitions", "files", SLUG, PYTHONUTF8="1")
    assert (done.returncode, done.stdout.startswith(AUTH_HELP)) == (1, True)
    assert server.calls == []


def test_a_token_is_checked_once_and_then_sent(server: KaggleServer, tmp_path: Path) -> None:
    done = cli(server, tmp_path, "competitions", "files", SLUG, KAGGLE_API_TOKEN="good-token")
    assert done.returncode == 0, done.stdout
    assert "IntrospectToken" in names(server)
    assert (server.calls[-1].name, server.calls[-1].authorization) == ("ListDataFiles", "bearer")


def test_a_stale_token_shadows_a_good_key(server: KaggleServer, tmp_path: Path) -> None:
    stale = {**KEY, "KAGGLE_API_TOKEN": "stale"}
    done = cli(server, tmp_path, "competitions", "files", SLUG, **stale)
    assert (done.returncode, done.stdout.startswith(AUTH_HELP)) == (1, True)
    assert (server.calls[-1].name, server.calls[-1].authorization) == ("ListDataFiles", "bearer")


@pytest.mark.parametrize("name", ["kaggle.json", "access_token", "credentials.json"])
def test_credentials_are_read_from_home(server: KaggleServer, tmp_path: Path, name: str) -> None:
    expired = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    contents = {
        "kaggle.json": '{"username": "tester", "key": "secret-key"}',
        "access_token": "good-token\n",
        "credentials.json": json.dumps(
            {"refresh_token": "good-refresh", "access_token": "x", "username": "tester",
             "access_token_expiration": expired}
        ),
    }  # fmt: skip
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / name).write_text(contents[name])
    (tmp_path / ".kaggle" / name).chmod(0o600)
    done = cli(server, tmp_path, "competitions", "files", SLUG, PYTHONUTF8="1")
    assert done.returncode == 0, done.stdout
    assert server.calls[-1].user == "tester"
    assert ("GenerateAccessToken" in names(server)) == (name == "credentials.json")


def test_the_environment_holds_no_credentials_and_no_other_proxy(
    server: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inherited = {
        "KAGGLE_KEY": "mine", "KAGGLE_CONFIG_DIR": "/mine", "XDG_CONFIG_HOME": "/mine",
        "ALL_PROXY": "http://mine", "NO_PROXY": "localhost", "PYTHONPATH": "/a",
        "KAGGLE_CLIENT_PATH": "/client",
    }  # fmt: skip
    for name, value in inherited.items():
        monkeypatch.setenv(name, value)
    found = server.environment(tmp_path, KAGGLE_USERNAME="tester")
    assert {name: value for name, value in found.items() if "KAGGLE" in name or "PROXY" in name} == {
        "KAGGLE_USERNAME": "tester", "KAGGLE_API_ENVIRONMENT": "LOCALHOST", "HTTP_PROXY": server.url,
    }  # fmt: skip
    assert (found["no_proxy"], found["HOME"]) == ("", str(tmp_path))
    assert (found["PYTHONPATH"], found.get("XDG_CONFIG_HOME")) == ("/client:/a", None)


# Downloads


def test_the_bundle_comes_from_another_host_without_authorization(
    server: KaggleServer, tmp_path: Path
) -> None:
    done = cli(server, tmp_path, "competitions", "download", SLUG, "-p", ".")
    assert done.returncode == 0, done.stderr
    assert read_zip(tmp_path / f"{SLUG}.zip") == FILES
    assert [(call.name, call.authorization) for call in server.calls] == [
        ("DownloadDataFiles", "basic"),
        ("GET file", ""),
    ]


def test_a_single_file_keeps_its_quoted_name(server: KaggleServer, tmp_path: Path) -> None:
    cli(server, tmp_path, "competitions", "download", SLUG, "-f", "train/a b.csv", "-p", ".")
    folder = tmp_path / "train" if client_version() >= (2, 2, 5) else tmp_path
    assert (folder / "a%20b.csv").read_bytes() == FILES["train/a b.csv"]


def test_a_broken_file_of_the_right_size_is_never_downloaded_again(
    server: KaggleServer, tmp_path: Path
) -> None:
    server.fault("GET file", "corrupt")
    command = ("competitions", "download", SLUG, "-f", "test.zip", "-p", ".")
    assert cli(server, tmp_path, *command).returncode == 0
    again = cli(server, tmp_path, *command)
    assert (again.returncode, "Skipping, found more recently" in again.stdout) == (0, True)
    wrong = (tmp_path / "test.zip").read_bytes()
    assert wrong != FILES["test.zip"]
    assert len(wrong) == len(FILES["test.zip"])


def test_a_cut_download_is_resumed_by_range(server: KaggleServer, tmp_path: Path) -> None:
    server.fault("GET file", "cut", keep=0.5)
    done = cli(server, tmp_path, "competitions", "download", SLUG, "-f", "train.zip", "-p", ".")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "train.zip").read_bytes() == FILES["train.zip"]
    first, second = server.called("GET file")
    assert (first.body["range"], second.body["range"]) == (None, "bytes=1048576-")
    assert second.body["if_range"] is not None


def test_an_expired_link_after_a_cut_corrupts_the_file_with_2_2_4(
    server: KaggleServer, tmp_path: Path
) -> None:
    if client_version() != (2, 2, 4):
        pytest.skip("mended in 2.2.5, which tries for a minute instead")
    server.fault("GET file", "expired", after_cut=True)
    command = ("competitions", "download", SLUG, "-f", "train.zip", "-p", ".")
    assert cli(server, tmp_path, *command).returncode == 1
    assert (tmp_path / "train.zip").read_bytes().startswith(b"<?xml")
    assert cli(server, tmp_path, *command).returncode == 0
    wrong = (tmp_path / "train.zip").read_bytes()
    assert len(wrong) == len(FILES["train.zip"])
    assert wrong.startswith(b"<?xml")


def test_a_large_file_comes_wrapped_in_a_zip(server: KaggleServer, tmp_path: Path) -> None:
    server.fault("DownloadDataFile", "zipwrap")
    cli(server, tmp_path, "competitions", "download", SLUG, "-f", "train_labels.csv", "-p", ".")
    content = {"train_labels.csv": FILES["train_labels.csv"]}
    assert read_zip(tmp_path / "train_labels.csv.zip") == content


def test_a_page_for_people_is_stored_as_the_zip(server: KaggleServer, tmp_path: Path) -> None:
    server.fault("GET file", "html")
    done = cli(server, tmp_path, "competitions", "download", SLUG, "-p", ".")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{SLUG}.zip").read_bytes().startswith(b"<!DOCTYPE html>")


def test_a_link_serves_ranges_and_expires(server: KaggleServer) -> None:
    body = {"competitionName": SLUG, "fileName": "train/a b.csv"}
    issued = ask(server, "competitions.CompetitionApiService/DownloadDataFile", body)
    link = issued.headers["Location"]
    assert issued.status_code == 302
    assert link.startswith("http://storage.localhost.test/signed/train/a%20b.csv?")
    assert "X-Goog-Signature=SECRETSIG" in link

    def get(url: str = link, **headers: str) -> tuple[int, bytes, str | None]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        found = requests.get(url, headers=named, proxies={"http": server.url})
        return found.status_code, found.content, found.headers.get("Content-Range")

    content = FILES["train/a b.csv"]
    tag = requests.head(link, proxies={"http": server.url}).headers["ETag"]
    assert get() == (200, content, None)
    assert get(Range="bytes=3-") == (206, content[3:], "bytes 3-7/8")
    assert get(Range="bytes=3-5", If_Range=tag) == (206, content[3:6], "bytes 3-5/8")
    assert get(Range="bytes=3-", If_Range='"other"') == (200, content, None)
    assert get(Range="bytes=8-") == (416, b"", "bytes */8")
    assert get(link.partition("?")[0])[0] == 403
    server.fault("GET file", "expired")
    assert [get()[0], get()[0]] == [403, 403]


def test_a_dataset_needs_no_account(server: KaggleServer, tmp_path: Path) -> None:
    server.datasets["owner/cells"] = zip_of({"cells/1.png": b"a", "cells/2.png": b"b"})
    none = {"PYTHONUTF8": "1"}
    done = cli(server, tmp_path, "datasets", "download", "owner/cells", "-p", ".", **none)
    assert done.returncode == 0, done.stdout
    assert "License(s): CC0-1.0" in done.stdout
    assert (tmp_path / "cells.zip").read_bytes() == server.datasets["owner/cells"]
    listed = cli(server, tmp_path, "datasets", "files", "owner/cells", "-v", **none)
    assert [row.split(",")[:2] for row in listed.stdout.splitlines()] == [
        ["name", "size"], ["cells/1.png", "1"], ["cells/2.png", "1"],
    ]  # fmt: skip
    assert cli(server, tmp_path, "datasets", "download", "owner/no", **none).returncode == 1


# Submissions


def test_the_real_client_submits_and_reads_its_score(server: KaggleServer, tmp_path: Path) -> None:
    done = submit(server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 submissions remaining today." in done.stdout
    assert "Successfully submitted to Fighting Malaria with CNNs" in done.stdout
    (made,) = server.submissions
    assert (made.content, made.description, made.submitted_by) == (
        b"id,label\n1,1\n",
        "run 7",
        "tester",
    )
    assert names(server) == [
        "StartSubmissionUpload", "PUT upload", "CreateSubmission", "GetSubmissionLimits",
    ]  # fmt: skip
    rows = [
        cli(server, tmp_path, "competitions", "submissions", SLUG, "-v").stdout.splitlines()[1]
        for _ in range(2)
    ]
    assert [row.split(",")[3:] for row in rows] == [
        ["run 7", "SubmissionStatus.PENDING", "", ""],
        ["run 7", "SubmissionStatus.COMPLETE", "0.9", ""],
    ]


def test_submitting_from_python_returns_the_ref_to_poll(
    server: KaggleServer, tmp_path: Path
) -> None:
    reason = "Evaluation Exception: Submission must have 418 rows"
    server.score = lambda content: ("ERROR", "", "", reason if content else "")
    submission_file(tmp_path)
    script = f"""
made = api.competition_submit("sub.csv", "run 7", "{SLUG}", quiet=True)
request = ApiGetSubmissionRequest()
request.ref = made.ref
with api.build_kaggle_client() as client:
    for _ in range(2):
        found = client.competitions.competition_api_client.get_submission(request)
        print(found.ref, found.status.name, found.error_description, found.description)
    request = ApiDownloadSubmissionRequest()
    request.submission_id = made.ref
    response = client.competitions.competition_api_client.download_submission(request)
    print(response.url.split("?")[0], response.content)
"""
    assert api(server, tmp_path, script).splitlines() == [
        "51000001 PENDING  run 7",
        f"51000001 ERROR {reason} run 7",
        "http://storage.localhost.test/signed/sub.csv b'id,label\\n1,1\\n'",
    ]


def test_the_daily_limit_is_a_400_after_the_upload(server: KaggleServer, tmp_path: Path) -> None:
    server.submissions = [old(1), old(2)]
    server.daily_limit = 1
    assert submit(server, tmp_path).returncode == 0
    done = submit(server, tmp_path)
    assert done.returncode == 1
    assert "400 Client Error" in done.stderr
    assert names(server)[-2:] == ["PUT upload", "CreateSubmission"]
    assert len(server.submissions) == 3
    limits = "limits = api.competition_get_submission_limits(sys.argv[1:] or 'fighting-malaria')"
    shown = api(
        server,
        tmp_path,
        limits + "\nprint(limits.num_today, limits.num_total, limits.num_allowed_now)",
    )
    assert shown == "1 3 0\n"


def test_a_failed_upload_is_no_submission(server: KaggleServer, tmp_path: Path) -> None:
    server.fault("PUT upload", "status", status=500)
    done = submit(server, tmp_path)
    assert "Could not submit to competition" in done.stdout + done.stderr
    assert done.returncode == (1 if client_version() >= (2, 2, 5) else 0)
    assert (server.submissions, "CreateSubmission" in names(server)) == ([], False)


@pytest.mark.parametrize(("kind", "made"), [("drop", 0), ("lost-reply", 1)])
def test_a_lost_reply_leaves_the_submission_on_the_server(
    server: KaggleServer, tmp_path: Path, kind: Kind, made: int
) -> None:
    server.fault("CreateSubmission", kind)
    done = submit(server, tmp_path)
    assert done.returncode == 1
    assert "Remote end closed connection without response" in done.stderr
    assert (len(server.called("CreateSubmission")), len(server.submissions)) == (1, made)


def test_a_default_is_not_on_the_wire(server: KaggleServer) -> None:
    server.submissions = [replace(old(7), status="PENDING", public_score="")]
    found = ask(server, "competitions.CompetitionApiService/GetSubmission", {"ref": 7}).json()
    assert found == {
        "ref": 7, "totalBytes": 1, "date": "2026-01-01T00:00:00.000Z", "fileName": "7.csv",
        "submittedBy": "tester", "teamName": "Team Tester",
        "url": "https://www.kaggle.com/submissions/7/7.raw",
    }  # fmt: skip


# Errors


@pytest.mark.parametrize(
    ("shape", "shown"), [("old", RULES), ("new", "403 Client Error: Forbidden for url")]
)
def test_the_reason_is_lost_in_the_new_shape_of_an_error(
    server: KaggleServer, tmp_path: Path, shape: str, shown: str
) -> None:
    server.fault("DownloadDataFiles", "rules", shape=shape)
    done = cli(server, tmp_path, "competitions", "download", SLUG)
    assert (done.returncode, shown in done.stderr) == (1, True)
    assert (RULES in done.stderr) == (shape == "old")


def test_the_reason_is_in_the_response_all_the_same(server: KaggleServer, tmp_path: Path) -> None:
    server.entered = False
    script = f"""
import requests
try:
    api.competition_download_files("{SLUG}")
except requests.HTTPError as error:
    print(error.response.json()["error"])
"""
    expected = {"code": 403, "message": RULES, "status": "PERMISSION_DENIED"}
    assert api(server, tmp_path, script) == f"{expected}\n"


def test_too_many_requests_are_not_tried_again(server: KaggleServer, tmp_path: Path) -> None:
    server.fault("ListDataFiles", "status", status=429, retry_after=1)
    done = cli(server, tmp_path, "competitions", "files", SLUG)
    assert (done.returncode, names(server)) == (1, ["ListDataFiles"])
    assert "429 Client Error" in done.stderr


@pytest.mark.parametrize(
    ("slug", "status"), [("no-such", "404"), ("https://www.kaggle.com/competitions/x", "403")]
)
def test_another_competition_is_refused(
    server: KaggleServer, tmp_path: Path, slug: str, status: str
) -> None:
    done = cli(server, tmp_path, "competitions", "files", slug)
    assert (done.returncode, f"{status} Client Error" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("method", "body", "status", "message"),
    [
        ("competitions.CompetitionApiService/GetSubmission", {"ref": 7}, 404, "7: no such submission"),
        ("competitions.CompetitionApiService/DownloadDataFile", {"fileName": "x"}, 404, "x: no such file"),
        ("competitions.CompetitionApiService/CreateSubmission", {"blobFileTokens": "x"}, 400, "x: nothing was uploaded"),
        ("datasets.DatasetApiService/ListDataFiles", {}, 404, "ListDataFiles: no such method"),
        ("datasets.DatasetApiService/DownloadDataset", {"ownerSlug": "a", "datasetSlug": "b"}, 403, "Permission 'datasets.get' was denied"),
        ("users.AccountService/GenerateAccessToken", {"refreshToken": "x"}, 401, "Unauthenticated"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused(
    server: KaggleServer, method: str, body: dict[str, Any], status: int, message: str
) -> None:
    found = ask(server, method, body)
    assert (found.status_code, found.json()["error"]["message"]) == (status, message)


def test_an_unknown_token_is_inactive_and_an_unknown_upload_is_not_found(
    server: KaggleServer,
) -> None:
    found = ask(server, "security.OAuthService/IntrospectToken", {"token": "x"})
    assert (found.status_code, found.json()) == (200, {"active": False})
    upload = "http://storage.localhost.test/upload/x"
    assert requests.put(upload, b"id", proxies={"http": server.url}).status_code == 404


def test_an_error_may_say_when_to_come_back(server: KaggleServer) -> None:
    server.fault("ListDataFiles", "status", status=429, retry_after=7, message="Slow down")
    server.fault("ListDataFiles", "status", status=500, shape="old")
    first, second = (
        ask(server, "competitions.CompetitionApiService/ListDataFiles", {}) for _ in range(2)
    )
    assert (first.headers.get("Retry-After"), second.headers.get("Retry-After")) == ("7", None)
    assert first.json() == {
        "error": {"code": 429, "message": "Slow down", "status": "RESOURCE_EXHAUSTED"}
    }
    assert second.json() == {"code": 500, "message": "the stand-in was told to fail"}


def test_a_fault_concerns_only_the_requests_it_names(server: KaggleServer, tmp_path: Path) -> None:
    server.fault("GET file", "status", status=503, on={"path": "test.zip"})
    codes = [
        cli(server, tmp_path, "competitions", "download", SLUG, "-f", name).returncode
        for name in ("sample_submission.csv", "test.zip", "test.zip")
    ]
    assert codes == [0, 1, 0]


def test_a_hanging_request_ends_when_the_server_closes(tmp_path: Path) -> None:
    until(lambda: not handlers())
    with serve() as server:
        server.fault("*", "hang")
        command = [str(COMMAND), "competitions", "files", SLUG]
        client = subprocess.Popen(
            command, env=server.environment(tmp_path, **KEY), stderr=subprocess.PIPE, text=True
        )
        until(lambda: bool(server.calls))
        assert client.poll() is None
    assert "Remote end closed connection" in client.communicate(timeout=60)[1]
    until(lambda: not handlers())


@pytest.mark.parametrize("client_closes", [True, False])
def test_half_a_request_has_no_effect_and_ends_with_the_server(client_closes: bool) -> None:
    until(lambda: not handlers())
    with serve() as server:
        port = int(server.url.rpartition(":")[2])
        client = socket.create_connection(("127.0.0.1", port), timeout=60)
        client.sendall(b"PUT /upload/x HTTP/1.1\r\nContent-Length: 100\r\n\r\nid,label")
        until(lambda: bool(handlers()))
        if client_closes:
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
    assert client.recv(1) == b""
    client.close()
    until(lambda: not handlers())
    assert server.calls == []


def test_a_mistaken_fault_is_refused(server: KaggleServer) -> None:
    with pytest.raises(ValueError, match="GetFiles, drop: no such call or kind of fault"):
        server.fault("GetFiles", "drop")
    with pytest.raises(ValueError, match="GET file, dorp: no such call or kind of fault"):
        server.fault("GET file", "dorp")
    with pytest.raises(TypeError, match="statsu"):
        server.fault("GET file", "status", statsu=403)
