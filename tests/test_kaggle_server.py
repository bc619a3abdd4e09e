"""The real, unmodified client works with the stand-in for Kaggle, as with Kaggle itself.

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


def test_a_token_is_checked_once_and_then_sent(server: KaggleServer, tmp_path: Path) -> None:
    done = cli(server, tmp_path, "competitions", "files", SLUG, KAGGLE_API_TOKEN="good-token")
    assert done.returncode == 0, done.stdout
    assert "IntrospectToken" in names(server)
    assert (server.calls[-1].name, server.calls[-1].authorization) == ("ListDataFiles", "bearer")


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
        pytest.skip("fixed in 2.2.5, which retries for a minute instead")
    server.fault("GET file", "expired", after_cut=True)
    command = ("competitions", "download", SLUG, "-f", "train.zip", "-p", ".")
    assert cli(server, tmp_path, *command).returncode == 1
    assert (tmp_path / "train.zip").read_bytes().startswith(b"<?xml")
    assert cli(server, tmp_path, *command).returncode == 0
    wrong = (tmp_path / "train.zip").read_bytes()
    assert len(wrong) == len(FILES["train.zip"])
    assert wrong.startswith(b"<?xml")


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


def test_the_reason_is_still_in_the_response(server: KaggleServer, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("slug", "status"), [("no-such", "404"), ("https://www.kaggle.com/competitions/x", "403")]
)
def test_another_competition_is_refused(
    server: KaggleServer, tmp_path: Path, slug: str, status: str
) -> None:
    done = cli(server, tmp_path, "competitions", "files", slug)
    assert (done.returncode, f"{status} Client Error" in done.stderr) == (1, True)


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
