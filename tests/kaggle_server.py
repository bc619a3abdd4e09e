"""A stand-in for Kaggle's API on loopback, for the real, unmodified `kaggle` client.

KAGGLE_API_ENVIRONMENT=LOCALHOST makes the client ask for http://localhost/api/v1/…, and http_proxy
brings that request here, on any port: this server plays the proxy, kaggle.com and its storage at once.
Links to files are signed, are on another host name, and need no authorization, as on kaggle.com.

It speaks the wire format of /api/v1 as the client's source defines it; the texts of errors are those
that users have reported. tests/test_kaggle_server.py runs the real client against it.
"""

import base64
import fnmatch
import hashlib
import io
import itertools
import json
import os
import re
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self, get_args
from urllib.parse import parse_qs, quote, unquote, urlsplit

STORAGE = "http://storage.localhost.test"
RULES = "You must accept this competition's rules before you'll be able to download files."
PAGE = b"<!DOCTYPE html><html><head><title>Kaggle</title></head><body>Checking ...</body></html>"
EXPIRED = (
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>ExpiredToken</Code>"
    b"<Message>The provided token has expired.</Message></Error>"
)
Kind = Literal[
    "status", "rules", "html", "cut", "corrupt", "drop", "lost-reply", "hang", "expired", "zipwrap",
    "change",
]  # fmt: skip
Shape = Literal["new", "old"]
Score = tuple[str, str, str, str]


@dataclass
class Submission:
    """One submission. date: UTC, as on the wire; scores: strings, "" where there is none yet."""

    ref: int
    file_name: str
    content: bytes
    description: str
    date: str
    status: str = "PENDING"
    public_score: str = ""
    private_score: str = ""
    error: str = ""
    team_name: str = "Team Tester"
    submitted_by: str = ""
    polls: int = 0


@dataclass
class Call:
    """One request as it came. authorization: basic, bearer or "". at: time.monotonic().

    body: the JSON of a method; path, range and if_range of "GET file"; bytes of "PUT upload".
    """

    name: str
    authorization: str
    at: float
    body: dict[str, Any]


@dataclass
class Reply:
    """The answer. Only the share `keep` of the body is sent before the connection closes.

    stream: pieces that are sent instead of the body, without a Content-Length, until the client
    closes the connection; raw: and without a status and headers.
    """

    status: int
    body: bytes = b""
    content_type: str = "text/html; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    keep: float = 1.0
    stream: Iterable[bytes] | None = None
    raw: bool = False


class ApiError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def json_reply(content: dict[str, Any], status: int = 200) -> Reply:
    return Reply(status, json.dumps(content).encode(), "application/json; charset=utf-8")


def error_reply(status: int, message: str, shape: Shape = "new") -> Reply:
    """The error bodies of api.kaggle.com in 2026 ("new") and of www.kaggle.com before it ("old")."""
    if shape == "old":
        return json_reply({"code": status, "message": message}, status)
    return json_reply({"error": {"code": status, "message": message}}, status)


@dataclass(frozen=True, eq=False)
class Fault:
    """How one request misbehaves. `on`: only one whose body holds these fields.

    status      an error reply of `status` in one of two shapes, with Retry-After where it is set
    rules       403: the competition's rules are not accepted
    html        200 and a web page
    cut         the connection closes after the share `keep` of the body
    corrupt     bytes in the middle of the body are wrong, its length is right
    drop        no reply and no effect
    lost-reply  the effect, and no reply
    hang        no reply and no effect, for `seconds` or until the server closes
    expired     the signed link answers 403 from now on; after_cut: it is cut, and then expired
    zipwrap     of DownloadDataFile: the link is to NAME.zip, which holds NAME
    change      what `change` makes of the right reply
    """

    call: str
    kind: Kind
    on: dict[str, Any] = field(default_factory=dict)
    status: int = 500
    message: str = "the stand-in was told to fail"
    shape: Shape = "new"
    retry_after: int | None = None
    seconds: float | None = None
    keep: float = 0.5
    after_cut: bool = False
    change: Callable[[Reply], Reply] = lambda reply: reply

    def concerns(self, call: Call) -> bool:
        return fnmatch.fnmatch(call.name, self.call) and self.on.items() <= call.body.items()

    def instead(self) -> Reply | None:
        """The reply that replaces the effect; None if this kind has none."""
        if self.kind == "html":
            return Reply(200, PAGE)
        if self.kind == "rules":
            return error_reply(403, RULES, self.shape)
        if self.kind != "status":
            return None
        reply = error_reply(self.status, self.message, self.shape)
        if self.retry_after is not None:
            reply.headers["Retry-After"] = str(self.retry_after)
        return reply

    def spoil(self, reply: Reply) -> Reply:
        if self.kind == "cut" or self.after_cut:
            return replace(reply, keep=self.keep)
        if self.kind == "change":
            return self.change(reply)
        if self.kind != "corrupt":
            return reply
        middle = len(reply.body) // 2
        wrong = bytes(byte ^ 0xFF for byte in reply.body[middle : middle + 16])
        return replace(reply, body=reply.body[:middle] + wrong + reply.body[middle + len(wrong) :])


def without_defaults(fields: dict[str, Any]) -> dict[str, Any]:
    """As in a protocol buffer's JSON: a field with its default value is left out."""
    return {name: value for name, value in fields.items() if value not in ("", 0, "PENDING")}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def zip_of(files: dict[str, bytes]) -> bytes:
    """A zip with the same bytes for the same files, so that a download can be resumed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


class KaggleServer:
    """kaggle.com with one competition, in a thread. Its attributes may change while it runs.

    The first `polls_until_scored` looks at a submission find it PENDING, later ones find what
    `score` said. No page is longer than `page_size`, whatever the client asks for.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = files or {}
        self.slug = "fighting-malaria"
        self.title = "Fighting Malaria with CNNs"
        self.datasets: dict[str, bytes] = {}
        self.submissions: list[Submission] = []
        self.leaderboard: list[tuple[str, str]] = []
        self.longest_description = 1000
        self.keys = {"tester": "secret-key"}
        self.tokens = {"good-token": "tester"}
        self.daily_limit = 5
        self.total_limit: int | None = None
        self.page_size = 3
        self.polls_until_scored = 1
        self.score: Callable[[bytes], Score] = lambda _content: ("COMPLETE", "0.9", "", "")
        self.modified = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.calls: list[Call] = []
        self._faults: list[Fault] = []
        self._upload_names: dict[str, str] = {}
        self._uploads: dict[str, bytes] = {}
        self._link_count = 0
        self._links: dict[str, bytes] = {}  # what a signature gives access to, until it expires
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._services: dict[str, dict[str, Callable[[Call], Reply]]] = {
            "competitions.CompetitionApiService": {
                "ListCompetitions": self._list_competitions,
                "ListDataFiles": self._list_data_files,
                "DownloadDataFile": self._download_data_file,
                "DownloadDataFiles": self._download_data_files,
                "StartSubmissionUpload": self._start_submission_upload,
                "CreateSubmission": self._create_submission,
                "ListSubmissions": self._list_submissions,
                "GetSubmission": self._get_submission,
                "DownloadSubmission": self._download_submission,
                "GetSubmissionLimits": self._get_submission_limits,
                "GetLeaderboard": self._get_leaderboard,
            },
            "datasets.DatasetApiService": {"DownloadDataset": self._download_dataset},
            "security.OAuthService": {"IntrospectToken": self._introspect_token},
        }
        self._http = _Server(self)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._http.close_connections()

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """A process's environment: this server for the internet, `home`, and no credentials.

        KAGGLE_CLIENT_PATH, a folder with another version of the client, goes first in PYTHONPATH.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("KAGGLE_", "XDG_CONFIG")) and "proxy" not in name.lower()
        }
        if client := os.environ.get("KAGGLE_CLIENT_PATH"):
            kept["PYTHONPATH"] = os.pathsep.join(filter(None, [client, kept.get("PYTHONPATH")]))
        proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy"), self.url)
        own = {"HOME": str(home), "KAGGLE_API_ENVIRONMENT": "LOCALHOST", "no_proxy": ""}
        return {**kept, **proxies, **own, **more}

    def fault(self, call: str, kind: Kind, times: int = 1, **options: Any) -> None:
        """Make the next `times` requests of this name (a pattern: "*" is any) misbehave.

        options: the fields of Fault.
        """
        known = [
            *itertools.chain(*self._services.values()),
            "PUT upload",
            "GET file",
            "GET /api/v1/again",
        ]
        if not fnmatch.filter(known, call) or kind not in get_args(Kind):
            raise ValueError(f"{call}, {kind}: no such call or kind of fault")
        with self._lock:
            self._faults += [Fault(call, kind, **options) for _ in range(times)]

    def forget(self) -> None:
        """Drop all faults and calls."""
        with self._lock:
            self._faults.clear()
            self.calls.clear()

    def called(self, name: str) -> list[Call]:
        """The requests of this name so far, oldest first."""
        return [call for call in self.calls if call.name == name]

    def answer(self, method: str, url: str, headers: Any, content: bytes) -> Reply | None:
        """Reply to one request; None: close the connection without an answer."""
        call, route = self._understand(method, url, headers, content)
        with self._lock:
            self.calls.append(call)
            fault = next((fault for fault in self._faults if fault.concerns(call)), None)
            if fault is None:
                return self._effect(call, route)
            self._faults.remove(fault)
        if fault.kind == "hang":
            self._closing.wait(fault.seconds)
        if fault.kind in ("hang", "drop"):
            return None
        if reply := fault.instead():
            return reply
        with self._lock:
            if fault.kind == "expired" and not fault.after_cut:
                self._links.pop(signature(url), None)
            reply = self._effect(call, route)
            if fault.kind == "expired":
                self._links.pop(signature(url), None)
            if fault.kind == "zipwrap":
                name = call.body["fileName"]
                reply = self._link(f"{name}.zip", zip_of({Path(name).name: self.files[name]}))
        return None if fault.kind == "lost-reply" else fault.spoil(reply)

    def _understand(
        self, method: str, url: str, headers: Any, content: bytes
    ) -> tuple[Call, Callable[[Call], Reply]]:
        path = urlsplit(url).path
        kind, _, secret = headers.get("Authorization", "").partition(" ")
        call = Call(f"{method} {path}", kind.lower(), time.monotonic(), {})
        if method == "POST" and path.startswith("/api/v1/"):
            service, _, call.name = path.removeprefix("/api/v1/").partition("/")
            call.body = json.loads(content or b"{}")
            route = self._services.get(service, {}).get(call.name, self._unknown)
            return call, lambda call: self._authorized(call, secret, route)
        if method == "PUT" and path.startswith("/upload/"):
            call.name, call.body = "PUT upload", {"bytes": len(content)}
            return call, lambda _: self._put_upload(path.removeprefix("/upload/"), content)
        if method == "GET" and path.startswith("/signed/"):
            call.name = "GET file"
            asked = {"range": headers.get("Range"), "if_range": headers.get("If-Range")}
            call.body = {"path": unquote(path.removeprefix("/signed/")), **asked}
            return call, lambda call: self._get_file(call, signature(url))
        if method in ("GET", "HEAD") and path == "/":
            return call, lambda _: Reply(200, PAGE)
        return call, self._unknown

    def _effect(self, call: Call, route: Callable[[Call], Reply]) -> Reply:
        try:
            return route(call)
        except ApiError as error:
            return error_reply(error.status, str(error))

    def _unknown(self, call: Call) -> Reply:
        raise ApiError(404, f"{call.name}: no such method")

    def _authorized(self, call: Call, secret: str, route: Callable[[Call], Reply]) -> Reply:
        user = self.tokens.get(secret) if call.authorization == "bearer" else None
        if call.authorization == "basic":
            name, _, key = base64.b64decode(secret).decode().partition(":")
            user = name if self.keys.get(name) == key else None
        if not user and call.name != "IntrospectToken":
            raise ApiError(401, "Unauthenticated")
        slug = call.body.get("competitionName", self.slug)
        if slug != self.slug:
            raise ApiError(404, f"{slug}: no such competition")
        return route(call)

    def _page(self, name: str, items: list[dict[str, Any]], call: Call) -> Reply:
        size = min(call.body.get("pageSize", self.page_size), self.page_size)
        token = call.body.get("pageToken")
        try:
            start = int(base64.b64decode(token)) if token else 0
        except ValueError:
            raise ApiError(400, "no such page") from None
        end = start + size
        after = base64.b64encode(str(end).encode()).decode() if end < len(items) else ""
        return json_reply(without_defaults({name: items[start:end], "nextPageToken": after}))

    # The storage, on a host of its own

    def _link(self, path: str, content: bytes) -> Reply:
        self._link_count += 1
        self._links[f"SECRETSIG{self._link_count}"] = content
        query = f"X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Signature=SECRETSIG{self._link_count}"
        return Reply(302, headers={"Location": f"{STORAGE}/signed/{quote(path)}?{query}"})

    def _get_file(self, call: Call, link: str) -> Reply:
        if link not in self._links:
            return Reply(403, EXPIRED, "application/xml; charset=UTF-8")
        content = self._links[link]
        modified = format_datetime(self.modified, usegmt=True)
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        headers = {"ETag": tag, "Last-Modified": modified, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-", call.body["range"] or "")
        if asked is None or call.body["if_range"] not in (None, tag, modified):
            return Reply(200, content, "application/octet-stream", headers)
        start = int(asked[1])
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Reply(206, content[start:], "application/octet-stream", headers)

    def _put_upload(self, token: str, content: bytes) -> Reply:
        if token not in self._upload_names:
            return Reply(404)
        self._uploads[token] = content
        return Reply(200)

    # competitions.CompetitionApiService

    def _list_competitions(self, call: Call) -> Reply:
        url = f"https://www.kaggle.com/competitions/{self.slug}"
        return self._page("competitions", [{"ref": url, "url": url, "title": self.title}], call)

    def _list_data_files(self, call: Call) -> Reply:
        created = f"{self.modified:%FT%TZ}"
        files = [
            {"name": name, "ref": name, "totalBytes": len(content), "creationDate": created}
            for name, content in self.files.items()
        ]
        return self._page("files", files, call)

    def _download_data_file(self, call: Call) -> Reply:
        name = call.body["fileName"]
        if name not in self.files:
            raise ApiError(404, f"{name}: no such file")
        return self._link(name, self.files[name])

    def _download_data_files(self, _: Call) -> Reply:
        return self._link("archive.zip", zip_of(self.files))

    def _start_submission_upload(self, call: Call) -> Reply:
        token = f"upload-{len(self._upload_names) + 1}"
        self._upload_names[token] = call.body["fileName"]
        return json_reply({"token": token, "createUrl": f"{STORAGE}/upload/{token}"})

    def _create_submission(self, call: Call) -> Reply:
        token = call.body["blobFileTokens"]
        if token not in self._uploads:
            raise ApiError(400, f"{token}: nothing was uploaded")
        ref = max((entry.ref for entry in self.submissions), default=51000000) + 1
        description = call.body.get("submissionDescription", "")[: self.longest_description]
        name, content = self._upload_names[token], self._uploads[token]
        self.submissions.append(Submission(ref, name, content, description, now()))
        return json_reply({"message": f"Successfully submitted to {self.title}", "ref": ref})

    def _find(self, ref: int) -> Submission:
        for entry in self.submissions:
            if entry.ref == ref:
                return entry
        raise ApiError(404, f"{ref}: no such submission")

    def _look_at(self, entry: Submission) -> dict[str, Any]:
        if entry.status == "PENDING":
            entry.polls += 1
            if entry.polls > self.polls_until_scored:
                scored = self.score(entry.content)
                entry.status, entry.public_score, entry.private_score, entry.error = scored
        fields = {
            "ref": entry.ref,
            "totalBytes": len(entry.content),
            "date": entry.date,
            "description": entry.description,
            "errorDescription": entry.error,
            "fileName": entry.file_name,
            "publicScore": entry.public_score,
            "privateScore": entry.private_score,
            "status": entry.status,
            "teamName": entry.team_name,
            "submittedBy": entry.submitted_by,
        }
        return without_defaults(fields)

    def _list_submissions(self, call: Call) -> Reply:
        newest_first = [self._look_at(entry) for entry in reversed(self.submissions)]
        return self._page("submissions", newest_first, call)

    def _get_submission(self, call: Call) -> Reply:
        return json_reply(self._look_at(self._find(call.body["ref"])))

    def _download_submission(self, call: Call) -> Reply:
        entry = self._find(call.body["submissionId"])
        return self._link(entry.file_name, entry.content)

    def _get_submission_limits(self, _: Call) -> Reply:
        valid = [entry for entry in self.submissions if entry.status != "ERROR"]
        today = sum(entry.date[:10] == now()[:10] for entry in valid)
        left = max(0, self.daily_limit - today)
        limits: dict[str, Any] = {"numToday": today, "numTotal": len(valid), "numAllowedNow": left}
        if self.total_limit is not None and (rest := self.total_limit - len(valid)) < left:
            limits |= {"numAllowedNow": max(0, rest), "limitedByTotal": True}
        return json_reply(without_defaults(limits))

    def _get_leaderboard(self, call: Call) -> Reply:
        date = f"{self.modified:%FT%TZ}"
        teams = [
            {"teamId": number, "teamName": team, "submissionDate": date, "score": score}
            for number, (team, score) in enumerate(self.leaderboard, start=7001)
        ]
        return self._page("submissions", teams, call)

    # datasets.DatasetApiService

    def _download_dataset(self, call: Call) -> Reply:
        name = f"{call.body['ownerSlug']}/{call.body['datasetSlug']}"
        if name not in self.datasets:
            raise ApiError(403, "Permission 'datasets.get' was denied")
        return self._link("archive.zip", self.datasets[name])

    # security.OAuthService

    def _introspect_token(self, call: Call) -> Reply:
        user = self.tokens.get(call.body["token"])
        return json_reply({"active": True, "username": user} if user else {"active": False})


def signature(url: str) -> str:
    return parse_qs(urlsplit(url).query).get("X-Goog-Signature", [""])[0]


@contextmanager
def serve(files: dict[str, bytes] | None = None) -> Iterator[KaggleServer]:
    """A running stand-in; it is closed, with all connections and hanging requests, at the end."""
    with KaggleServer(files) as server:
        yield server


class _Server(ThreadingHTTPServer):
    """Closes the connections of its own handlers, which ThreadingHTTPServer leaves open."""

    def __init__(self, kaggle: KaggleServer) -> None:
        self.kaggle = kaggle
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._connections.discard(request)

    def close_connections(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # its handler wakes up, and closes it

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing if a client closed the connection in the middle of a request."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request and its reply per connection; KaggleServer.answer makes the reply."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        self.close_connection = True
        length = int(self.headers.get("Content-Length", 0))
        content = self.rfile.read(length)
        if len(content) < length:
            return  # the client closed the connection: half a request has no effect
        reply = self.server.kaggle.answer(self.command, self.path, self.headers, content)
        if reply is None:
            return
        if reply.raw:
            self._send_stream(reply)
            return
        headers = {
            "Content-Type": reply.content_type,
            "Content-Length": str(len(reply.body)),
            "Connection": "close",
            **reply.headers,
        }
        if reply.stream is not None:
            del headers["Content-Length"]
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if reply.stream is not None:
            self._send_stream(reply)
        elif self.command != "HEAD":
            self.wfile.write(reply.body[: int(len(reply.body) * reply.keep)])

    def _send_stream(self, reply: Reply) -> None:
        for piece in reply.stream or ():
            self.wfile.write(piece)

    do_GET = do_HEAD = do_POST = do_PUT = do_CONNECT = _serve  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: KaggleServer.calls holds every request."""
