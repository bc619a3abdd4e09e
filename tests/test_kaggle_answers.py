"""Whatever a server answers: a value of the right type, or one sentence, soon and in little memory."""

import base64
import hashlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from competing import COMPETITION, KEY, make_ready
from kaggle_server import KaggleServer, Reply, Submission, json_reply, now, serve
from kagglesdk.competitions.services.competition_api_service import CompetitionApiClient
from project import ROOT

import pipeline.commands.doctor as doctor
import pipeline.kaggle.client as client
from pipeline.core import paths
from pipeline.core.errors import KaggleError, LostReplyError
from pipeline.kaggle import transport
from pipeline.kaggle.client import Kaggle
from pipeline.ledger.ledger import Entry, append
from pipeline.ledger.scores import update_scores

FILES = {"train.csv": b"id,label\n" + b"1,0\n" * 1000, "sample_submission.csv": b"id,label\n2,0\n"}
Change = Callable[[Reply], Reply]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KaggleServer]:
    """A server that this process's client asks; the client reads the variables at its import."""
    with serve() as server, pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("KAGGLE_", "XDG_CONFIG")) or "proxy" in name.lower():
                patch.delenv(name)
        home = tmp_path_factory.mktemp("home")
        for name, text in server.environment(home, **KEY).items():
            patch.setenv(name, text)
        yield server


@pytest.fixture
def server(machine: KaggleServer, monkeypatch: pytest.MonkeyPatch) -> KaggleServer:
    """The server with everything as it should be, and limits that suit a test."""
    machine.forget()
    machine.files = dict(FILES)
    machine.leaderboard = [("Ann", "0.95"), ("Team Tester", "0.9")]
    machine.submissions = [
        Submission(
            7, "a.csv", b"id,label\n", "first", "2026-01-02T03:04:05.123Z", "COMPLETE", "0.9"
        ),
        Submission(8, "b.csv", b"id,label\n", "second", "2026-01-03T03:04:05Z", "ERROR"),
    ]
    monkeypatch.setattr(client, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(client, "BACKOFF_S", 0.01)
    monkeypatch.setattr(client, "TRIES", 2)
    monkeypatch.setattr(client, "MOST_PAGES", 50)
    monkeypatch.setattr(transport, "ANSWER_S", 1.0)
    at_once = SimpleNamespace(**(vars(time) | {"sleep": lambda _: None}))
    monkeypatch.setattr(import_module("kaggle.api.kaggle_api_extended"), "time", at_once)
    return machine


def ask_all(folder: Path) -> dict[str, Callable[[Kaggle], object]]:
    """Each question to Kaggle, by the method of the API that it calls."""
    upload = folder / "submission.csv"
    upload.write_bytes(b"id,label\n2,0\n")
    arriving = folder / "arriving"
    arriving.mkdir(exist_ok=True)
    file = client.RemoteFile("train.csv", len(FILES["train.csv"]), "")
    sent = client.Submission(7, "", "a.csv", "", "complete", "", "", "", "", 9, "")
    return {
        "ListDataFiles": lambda kaggle: kaggle.list_files(COMPETITION),
        "DownloadDataFile": lambda kaggle: kaggle.download_file(COMPETITION, file, arriving),
        "DownloadDataFiles": lambda kaggle: kaggle.download_bundle(COMPETITION, [file], arriving),
        "GetSubmissionLimits": lambda kaggle: kaggle.limits(COMPETITION),
        "ListSubmissions": lambda kaggle: kaggle.list_submissions(COMPETITION),
        "GetSubmission": lambda kaggle: kaggle.get_submission(COMPETITION, 7),
        "DownloadSubmission": lambda kaggle: kaggle.read_submission(COMPETITION, sent),
        "GetLeaderboard": lambda kaggle: kaggle.leaderboard(COMPETITION),
        "StartSubmissionUpload": lambda kaggle: kaggle.upload(COMPETITION, upload),
        "CreateSubmission": lambda kaggle: kaggle.create_submission(COMPETITION, "upload-1", "x"),
        "ListCompetitions": lambda kaggle: kaggle.user(),
    }


def drip(reply: Reply) -> Reply:
    """The right reply, a byte at a time."""
    return replace(reply, stream=slowly(reply.body))


def drip_headers(reply: Reply) -> Reply:
    return replace(reply, stream=slowly(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000), raw=True)


def slowly(content: bytes) -> Iterator[bytes]:
    for byte in itertools.chain(content, itertools.repeat(32)):
        yield bytes([byte])
        time.sleep(0.05)


def bomb(reply: Reply) -> Reply:
    """Four MB that unpack to four GB."""
    return replace(reply, headers={"Content-Encoding": "gzip"}, stream=packed_blanks())


def packed_blanks() -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=31)
    yield packer.compress(b" ") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * 2**22) + packer.flush(zlib.Z_FULL_FLUSH)
    yield from itertools.repeat(block, 1000)


def endless(reply: Reply) -> Reply:
    return replace(reply, stream=itertools.chain([b"{"], itertools.repeat(b'"a": 1, ' * 10_000)))


def redirected(_: Reply) -> Reply:
    return Reply(302, headers={"Location": "http://localhost/api/v1/again"})


def longer(reply: Reply) -> Reply:
    return replace(reply, headers=reply.headers | {"Content-Length": str(len(reply.body) + 10)})


def body(content: bytes) -> Change:
    return lambda _: Reply(200, content, "application/json")


def with_fields(**fields: Any) -> Change:
    """The right object, with other values in some fields, of each of its entries if it has any."""

    def change(reply: Reply) -> Reply:
        content = json.loads(reply.body)
        for entry in next(
            (value for value in content.values() if isinstance(value, list)), [content]
        ):
            entry.update(fields)
        return json_reply(content)

    return change


def named(last: str) -> Change:
    """The link to a file, with another last part of its path."""

    def change(reply: Reply) -> Reply:
        start, _, query = reply.headers["Location"].partition("?")
        return Reply(302, headers={"Location": f"{start.rpartition('/')[0]}/{last}?{query}"})

    return change


LATE = "the cause is at Kaggle or on the way there; try again in some minutes"
PAGE = "expected JSON, found another page: a sign-in page of the network, or a proxy's error?"
FORM = "the answer has a form that this version of Kaggle's client does not know."
HOSTILE: dict[str, tuple[Change, str]] = {
    "one byte at a time": (drip, "the answer comes too slowly, "),
    "headers one byte at a time": (drip_headers, "the answer comes too slowly, "),
    "a bomb": (bomb, "the answer is larger than the 16,777,216 bytes that were to be expected"),
    "endless": (endless, "the answer is larger than the 16,777,216 bytes"),
    "redirected for ever": (redirected, f"the answer is redirected 6 times in a row: {LATE}"),
    "redirected to nowhere": (
        lambda _: Reply(302, headers={"Location": "ftp://[::1"}),
        "the answer is redirected to an address that is none",
    ),
    "a length that lies": (longer, f"the answer broke off: {LATE}"),
    "a page": (lambda _: Reply(200, b"<html>"), PAGE),
    "nothing": (body(b""), PAGE),
    "not UTF-8": (body(b'{"a": "\xff"}'), PAGE),
    "a list": (body(b"[]"), FORM),
    "a number": (body(b"5"), FORM),
    "null": (body(b"null"), FORM),
    "deep": (body(b"[" * 100_000), FORM),
    "deep, in an object": (body(b'{"files": ' + b"[" * 100_000), FORM),
    "a digit too many": (body(b'{"a": ' + b"9" * 5000 + b"}"), PAGE),
}
API = [
    "ListDataFiles",
    "GetSubmissionLimits",
    "ListSubmissions",
    "GetLeaderboard",
    "CreateSubmission",
]


@pytest.mark.parametrize(("change", "sentence"), HOSTILE.values(), ids=HOSTILE)
def test_an_answer_that_is_none_is_a_sentence_soon(
    server: KaggleServer, tmp_path: Path, change: Change, sentence: str
) -> None:
    kaggle = Kaggle()
    asks = ask_all(tmp_path)
    call = API[len(sentence) % len(API)]
    server.fault(call, "change", times=100, change=change)
    server.fault("GET */again", "change", times=100, change=change)
    tracemalloc.start()
    start = time.monotonic()
    with pytest.raises(KaggleError) as raised:
        asks[call](kaggle)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sentence in str(raised.value)
    assert isinstance(raised.value, LostReplyError) == (call == "CreateSubmission")
    assert time.monotonic() - start < 10
    assert peak < 200e6


BIG = f"the answer is larger than the {1.01 * len(FILES['train.csv']) + 2**16:,.0f} bytes"
HOSTILE_FILES: dict[str, tuple[str, Change, str]] = {
    "one byte at a time": ("GET file", drip, "the answer comes too slowly, "),
    "a bomb": ("GET file", bomb, BIG),
    "endless": ("GET file", endless, BIG),
    "a length that lies": ("GET file", longer, "the answer broke off: "),
    "redirected for ever": ("GET file", redirected, "is redirected 6 times in a row"),
    "no name": ("DownloadDataFile", named(""), "something without the name of a file"),
    "the folder above": (
        "DownloadDataFile",
        named("%2E%2E"),
        "something without the name of a file",
    ),
    "a long name": ("DownloadDataFile", named("a" * 300), "something without the name of a file"),
}


@pytest.mark.parametrize(("call", "change", "sentence"), HOSTILE_FILES.values(), ids=HOSTILE_FILES)
def test_a_file_that_is_none_is_a_sentence_soon(
    server: KaggleServer, tmp_path: Path, call: str, change: Change, sentence: str
) -> None:
    kaggle, ask = Kaggle(), ask_all(tmp_path)["DownloadDataFile"]
    server.fault(call, "change", times=100, change=change)
    server.fault("GET */again", "change", times=100, change=change)
    start = time.monotonic()
    with pytest.raises(KaggleError, match=re.escape(sentence)):
        ask(kaggle)
    assert time.monotonic() - start < 10
    assert sum(path.stat().st_size for path in (tmp_path / "arriving").iterdir()) < 1e6


def test_a_file_with_a_date_that_is_none_arrives(server: KaggleServer, tmp_path: Path) -> None:
    def undated(reply: Reply) -> Reply:
        return replace(reply, headers={"Last-Modified": "yesterday"})

    server.fault("GET file", "change", change=undated)
    ask_all(tmp_path)["DownloadDataFile"](Kaggle())
    assert (tmp_path / "arriving" / "train.csv").read_bytes() == FILES["train.csv"]


def test_a_list_that_does_not_end_is_an_error(server: KaggleServer) -> None:
    kaggle = Kaggle()
    for numbers in ([1, 2, 1], [1, 1], itertools.count()):
        after = (base64.b64encode(str(number).encode()).decode() for number in numbers)
        server.forget()
        server.fault(
            "ListDataFiles", "change", times=100,
            change=lambda _, after=after: json_reply({"files": [], "nextPageToken": next(after)}),
        )  # fmt: skip
        with pytest.raises(KaggleError, match="the list does not end: [235]"):
            kaggle.list_files(COMPETITION)
    assert len(server.called("ListDataFiles")) == client.MOST_PAGES


UNREADABLE: list[tuple[str, dict[str, Any], str]] = [
    ("ListDataFiles", {"name": ["a"]}, "name: Input should be a valid string"),
    ("ListDataFiles", {"totalBytes": "many"}, "bytes: "),
    ("ListDataFiles", {"totalBytes": -1}, "bytes: "),
    ("ListDataFiles", {"creationDate": "yesterday"}, "ValueError"),
    ("ListDataFiles", {"creationDate": 5}, "AttributeError"),
    ("GetSubmissionLimits", {"numToday": {}}, "today: "),
    ("GetSubmissionLimits", {"numAllowedNow": -1}, "allowed: "),
    ("GetSubmissionLimits", {"limitedByTotal": "perhaps"}, "by_total: "),
    ("ListSubmissions", {"ref": "seven"}, "ref: "),
    ("ListSubmissions", {"date": 5}, "AttributeError"),
    ("ListSubmissions", {"status": "RUNNING"}, "the value 'RUNNING', which this version"),
    ("ListSubmissions", {"status": 3}, "AttributeError"),
    ("GetSubmission", {"description": {"a": 1}}, "description: "),
    ("GetLeaderboard", {"teamName": ["A"]}, "team: "),
    ("CreateSubmission", {"ref": "none"}, "ref: "),
    ("CreateSubmission", {"ref": None}, "ref: "),
]


@pytest.mark.parametrize(("call", "fields", "sentence"), UNREADABLE)
def test_a_field_of_another_type_is_a_sentence(
    server: KaggleServer, tmp_path: Path, call: str, fields: dict[str, Any], sentence: str
) -> None:
    kaggle, asks = Kaggle(), ask_all(tmp_path)
    asks["StartSubmissionUpload"](kaggle)
    server.fault(call, "change", times=100, change=with_fields(**fields))
    with pytest.raises(KaggleError, match=re.escape(sentence)) as raised:
        asks[call](kaggle)
    assert isinstance(raised.value, LostReplyError) == (call == "CreateSubmission")


def test_what_is_clear_is_read_in_another_type_and_zone(server: KaggleServer) -> None:
    kaggle = Kaggle()
    strange = with_fields(ref="7", publicScore=0.5, teamName=None, date="2026-01-02T05:04:05+02:00")
    server.fault("GetSubmission", "change", change=strange)
    found = kaggle.get_submission(COMPETITION, 7)
    assert (found.ref, found.public, found.team) == (7, "0.5", "")
    assert found.date == "2026-01-02T03:04:05+00:00"


def test_a_score_that_is_no_number_is_left_out_and_said(
    server: KaggleServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.leaderboard = [("A", "0.9"), ("B", ""), ("C", "1,234"), ("D", "NaN"), ("E", "-1e3")]
    kaggle = Kaggle()
    assert [(row.team, row.score) for row in kaggle.leaderboard(COMPETITION)] == [
        ("A", "0.9"),
        ("E", "-1e3"),
    ]
    server.submissions[0].public_score = "1,234"
    assert kaggle.get_submission(COMPETITION, 7).public == ""
    said = capsys.readouterr().err
    assert "3 of 5 teams have no number as their score (first: B, C, D): left out" in said
    assert "submission 7, public score: expected a number, found '1,234': left out" in said


@pytest.mark.parametrize("name", [None, "", "..", "a/b.csv", "a" * 300])
def test_a_submissions_file_has_a_name_that_is_one(server: KaggleServer, name: str | None) -> None:
    server.fault("GetSubmission", "change", change=with_fields(fileName=name))
    assert Kaggle().get_submission(COMPETITION, 7).file_name == "submission-7"


def test_no_reason_can_control_the_terminal(server: KaggleServer) -> None:
    server.submissions[1].error = "\x1b[2J Wrong\n\tcolumn\0"
    assert Kaggle().get_submission(COMPETITION, 8).error == "[2J Wrong column"
    server.fault("GetSubmissionLimits", "status", status=400, message="\x1b[2J\r\nWrong")
    with pytest.raises(KaggleError, match=r"refuses with 400 \(\[2J Wrong\)"):
        Kaggle().limits(COMPETITION)


def test_an_error_without_a_reason_says_so(server: KaggleServer) -> None:
    assert Kaggle().get_submission(COMPETITION, 8).error == "Kaggle gives no reason"
    server.fault("GetSubmissionLimits", "status", status=400, message="")
    with pytest.raises(KaggleError, match=r"Kaggle refuses with 400\. See https://"):
        Kaggle().limits(COMPETITION)


@pytest.mark.parametrize("status", [404, 501, 0])
def test_without_a_call_for_the_limit_todays_submissions_are_counted(
    server: KaggleServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    """On Kaggle, or with 0 in its client: asked for once, and what is valid today is counted."""
    for ref, state in enumerate(["COMPLETE", "ERROR", "PENDING"], start=9):
        server.submissions.append(Submission(ref, "x.csv", b"x", "", now(), state))
    if status:
        server.fault("GetSubmissionLimits", "status", times=9, status=status)
    else:
        monkeypatch.delattr(CompetitionApiClient, "get_submission_limits")
    limits = Kaggle().limits(COMPETITION)
    assert (limits.today, limits.allowed, limits.total, limits.refusal) == (2, None, 3, "")
    assert len(server.called("GetSubmissionLimits")) == bool(status)
    assert capsys.readouterr().err.split("] ")[-1] == (
        f"asking for today's limit: Kaggle or its client has no such call ({status or 501}): "
        "today's submissions are counted from their list, and how many are left is not known\n"
    )


def test_a_limit_of_all_days_has_no_end_and_the_zeros_of_no_team_are_no_limit(
    server: KaggleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "total_limit", 2)
    assert Kaggle().limits(COMPETITION).text == "Today 0 submitted, 1 left in all"
    monkeypatch.setattr(server, "total_limit", 1)
    assert Kaggle().limits(COMPETITION).refusal == (
        "the limit of all submissions is reached after 1: Kaggle allows no more"
    )
    server.submissions.clear()
    monkeypatch.setattr(server, "total_limit", None)
    monkeypatch.setattr(server, "daily_limit", 0)
    limits = Kaggle().limits(COMPETITION)
    assert limits.text == "Today 0 submitted, how many are left is not known"
    assert limits.refusal == ""


@pytest.mark.parametrize(
    ("faults", "asked", "reason"),
    [
        ([{"call": "DownloadSubmission", "kind": "status", "status": 403}], 2, "refuses this account"),
        ([{"call": "DownloadSubmission", "kind": "status", "status": 404}], 2, "not found on Kaggle"),
        ([{"call": "DownloadSubmission", "kind": "status", "status": 501}], 1, "refuses with 501"),
        ([{"call": "DownloadSubmission", "kind": "status"}], 2, "an error inside Kaggle, 500"),
        ([{"call": "GET file", "kind": "change", "change": lambda reply: replace(reply, body=b"x")}], 2, "expected 9 bytes, got 1"),
        ([{"call": "GET file", "kind": "change", "change": lambda reply: replace(reply, body=b"x" * 10**6)}], 1, "the answer is larger than the 65,545 bytes"),
        ([{"call": "GET file", "kind": "html"}, {"call": "ListSubmissions", "kind": "change", "change": with_fields(totalBytes=0)}], 2, "other bytes came, and Kaggle does not say how many it has"),
        ([], 0, "this version of Kaggle's client has no such call"),
    ],
    ids=["403", "404", "501", "500", "short", "long", "no size", "lacking"],
)  # fmt: skip
def test_bytes_that_kaggle_does_not_give_leave_a_score_unproven_and_are_asked_for_again(
    server: KaggleServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    faults: list[dict[str, Any]],
    asked: int,
    reason: str,
) -> None:
    """In one line; after a failure that concerns all of them, none of the others is asked for."""
    monkeypatch.chdir(tmp_path)
    server.submissions[1].status = "COMPLETE"
    for sent in server.submissions:
        moment, sha256 = "2026-01-04T00:00:00+00:00", hashlib.sha256(sent.content).hexdigest()
        entry = Entry(moment, "complete", moment, COMPETITION, sent.file_name, sha256,
                      mark=f"a {sent.ref}", ref=str(sent.ref), public=sent.public_score)  # fmt: skip
        append(paths.LEDGER, entry)
    before = paths.LEDGER.read_bytes()
    kaggle = Kaggle()
    with monkeypatch.context() as lacking:
        for options in faults:
            server.fault(times=9, **options)
        if not faults:
            lacking.delattr(CompetitionApiClient, "download_submission")
        assert not any(entry.kaggle_sha256 for entry in update_scores(COMPETITION, kaggle))
    said = capsys.readouterr().err
    assert said.count("whether the recorded bytes got the score is not proven: ") == 1
    assert reason in said.splitlines()[-1]
    assert paths.LEDGER.read_bytes() == before
    assert len(server.called("DownloadSubmission")) == asked
    server.forget()
    for _ in range(2):
        entries = update_scores(COMPETITION, kaggle)
        assert [entry.kaggle_sha256 for entry in entries] == [sha256] * 2
    assert len(server.called("DownloadSubmission")) == 2


@pytest.mark.parametrize("content", [b"[1]", b"5", b'{"code": "x"}', b"[" * 100_000, b"\xff"])
def test_a_refusal_with_any_text_is_a_refusal(
    server: KaggleServer, tmp_path: Path, content: bytes
) -> None:
    kaggle = Kaggle()
    refusal = Reply(400, content, "application/json")
    server.fault("CreateSubmission", "change", change=lambda _: refusal)
    with pytest.raises(KaggleError, match="Kaggle refuses with 400") as raised:
        ask_all(tmp_path)["CreateSubmission"](kaggle)
    assert not isinstance(raised.value, LostReplyError)


MALFORMED = "expected a proxy as http://HOST:PORT in the variable http_proxy, found something else"
PROXIES = {
    "socks5://127.0.0.1:1": "the proxy in the variable http_proxy is one for SOCKS, which needs a package",
    "garbage.invalid": "the proxy cannot be reached. Check the variable http_proxy",
    "http://": MALFORMED,
    "http://[::1": MALFORMED,
    "http://a:b:c": MALFORMED,
    "http://host:99999": MALFORMED,
    "ftp://host:1": MALFORMED,
    "two words": MALFORMED,
    f"http://{'a' * 70}:1": MALFORMED,
}


@pytest.mark.parametrize(("proxy", "sentence"), PROXIES.items(), ids=str)
def test_a_proxy_that_is_none_is_named_by_its_variable(
    server: KaggleServer, monkeypatch: pytest.MonkeyPatch, proxy: str, sentence: str
) -> None:
    kaggle = Kaggle()
    server.forget()
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(KaggleError, match=re.escape(sentence)):
        kaggle.limits(COMPETITION)
    assert not server.calls
    state, text = doctor._examine_network(os.environ)
    assert state == "problem"
    assert sentence in text


@pytest.mark.parametrize("call", ["ListDataFiles", "GET file"])
@pytest.mark.parametrize("change", ["hang", "drip"])
def test_an_interruption_ends_a_request_at_once(
    server: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, change: str
) -> None:
    kaggle, asks = Kaggle(), ask_all(tmp_path)
    monkeypatch.setattr(client, "TIMEOUT_S", 60.0)
    if change == "hang":
        server.fault(call, "hang", seconds=5)
    else:
        server.fault(call, "change", change=drip)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            asks["DownloadDataFile" if call == "GET file" else call](kaggle)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 2


CAMPAIGN = """\
import json, resource, sys, time, traceback
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
import pipeline.commands.doctor as doctor
import pipeline.kaggle.client as client
import pipeline.kaggle.transport as transport
import pipeline.ledger.explain  # its libraries take a while to load
import pipeline.ledger.submit as submit
from pipeline.core.errors import PipelineError
from pipeline.__main__ import app
extended = import_module("kaggle.api.kaggle_api_extended")
extended.time = SimpleNamespace(**(vars(time) | {"sleep": lambda _: None}))
client.TIMEOUT_S, client.BACKOFF_S, client.TRIES, client.MOST_PAGES = 0.5, 0.001, 2, 20
client.MOST_RETRY_AFTER_S, transport.ANSWER_S = 0.0, 1.0
submit.SETTLE_S, submit.POLL_S = 0.01, (0.01, 0.01)
doctor._examine_device = doctor._examine_git = doctor._examine_dvc = lambda *_: ("ok", "")
for line in sys.stdin:
    sys.argv = ["pipeline", *json.loads(line)]
    Path("submissions/ledger.csv").unlink(missing_ok=True)
    start, failed = time.monotonic(), ""
    try:
        app()
    except (PipelineError, SystemExit) as error:
        lines = str(error).splitlines()
    except BaseException:
        failed = traceback.format_exc()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("done", json.dumps([time.monotonic() - start, memory, failed]), flush=True)
"""
COMMANDS = [
    ["download"],
    ["scores"],
    ["leaderboard"],
    ["doctor"],
    ["submit", "submissions/tiny.csv", "--yes", "--unreproducible", "--wait", "0"],
]


class Mutation:
    """Changes about every fourth answer at random, in its bytes, headers, status or fields."""

    odd = (
        None,
        True,
        -1,
        10**30,
        0.5,
        "",
        "7",
        "NaN",
        "1,234",
        "..",
        "a/b",
        "a" * 300,
        "\ud800",
        "\0",
        [],
        [5],
        {},
        {"a": []},
    )
    texts = (
        b"",
        b"null",
        b"[]",
        b"5",
        b"<html>",
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"error": [1]}',
        b'{"code": "x"}',
        b'{"message": 5}',
    )
    headers = (
        ("Content-Encoding", "gzip"), ("Content-Length", "9"), ("Content-Length", "x"), ("Retry-After", "1e999"), ("Content-Type", "x"),
        ("Last-Modified", "Mon, 99"), ("Location", "http://["), ("Location", "http://localhost/api/v1/again"), ("Transfer-Encoding", "chunked"),
    )  # fmt: skip

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def __call__(self, reply: Reply) -> Reply:
        choose = self.random.choice
        match self.random.randrange(20):
            case 0:
                return replace(reply, body=choose(self.texts))
            case 1:
                return replace(
                    reply, status=choose((204, 206, 302, 400, 403, 404, 408, 429, 500, 503))
                )
            case 2:
                return replace(reply, headers=reply.headers | dict([choose(self.headers)]))
            case 3:
                return replace(reply, body=reply.body[: self.random.randrange(len(reply.body) + 1)])
            case 4 if "Location" in reply.headers:
                return named(choose(("", "%2E%2E", "a" * 300, "%00", "a%5Cb", "x.zip", "?")))(reply)
        try:
            content = json.loads(reply.body)
        except ValueError:
            return reply
        entries = [
            content,
            *(one for value in content.values() if isinstance(value, list) for one in value),
        ]
        if self.random.random() < 0.2:
            entry = choose(entries)
            entry[choose([*entry, "nextPageToken"])] = choose(self.odd)
        return json_reply(content, reply.status)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("CAMPAIGN_SEEDS", "1"))))
def test_no_mutated_answer_ends_a_command_with_a_traceback_late_or_in_much_memory(
    tmp_path: Path, seed: int
) -> None:
    folder = make_ready(tmp_path / "project")
    order = random.Random(seed)
    with serve() as server:
        environment = server.environment(folder / "home", **KEY)
        environment["PYTHONPATH"] = f"{environment.get('PYTHONPATH', '')}:{ROOT}".strip(":")
        with subprocess.Popen(
            [sys.executable, "-c", CAMPAIGN], cwd=folder, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as child:  # fmt: skip
            assert child.stdin
            assert child.stdout
            for number in range(100):
                command = order.choice(COMMANDS)
                server.forget()
                server.files = dict(FILES)
                server.leaderboard = [("Ann", "0.95"), ("Team Tester", "0.9")]
                server.submissions = [
                    Submission(7, "a.csv", b"id,label\n", "first", "2026-01-02T03:04:05.123Z")
                ]
                server.fault("*", "change", times=1000, change=Mutation(1000 * seed + number))
                child.stdin.write(json.dumps(command) + "\n")
                child.stdin.flush()
                while (line := child.stdout.readline()) and not line.startswith("done "):
                    pass
                seconds, memory_kb, failed = json.loads(line.removeprefix("done "))
                assert not failed, (seed, number, command, failed)
                assert seconds < 10, (seed, number, command)
                # 1.2 GB of it are PyTorch's, which doctor tries.
                assert memory_kb < 2_000_000, (seed, number, command)
            child.kill()
