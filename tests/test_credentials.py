"""Which credentials are used, compared with the official client, and what is said about them.

The client runs in a process of its own, against a server on this machine that answers every call
with the Authorization that it was sent. Nothing leaves this machine: the client's address is
http://localhost and its proxy is that server.
"""

import base64
import http.server
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.kaggle.credentials import find_credentials
from pipeline.kaggle.scrub import scrub

SETTINGS = "https://www.kaggle.com/settings/api"
NEW_KEY = f"Create a new one on {SETTINGS} (legacy API key)"
NONE = "no credentials for Kaggle. Run: kaggle auth login; …A legacy kaggle.json belongs in {home}/"
OWN, XDG = "{home}/.kaggle", "{home}/.config/kaggle"
KEY = '{"username": "bob", "key": "SECRET-bob"}'
BOB = {".kaggle/kaggle.json": KEY}
EVE = {"KAGGLE_USERNAME": "eve", "KAGGLE_KEY": "SECRET-eve"}
TOKEN = {".kaggle/access_token": "SECRET-file\n"}
VARIABLE = {"KAGGLE_API_TOKEN": "SECRET-variable"}
NOTEBOOK = {"KAGGLE_KERNEL_RUN_TYPE": "Batch", "KAGGLE_DATA_PROXY_URL": "http://127.0.0.1:1"}


def oauth(**changes: Any) -> dict[str, str]:
    fields = {
        "refresh_token": "SECRET-refresh",
        "access_token": "SECRET-oauth",
        "access_token_expiration": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
        "username": "olga",
        "scopes": [],
    }
    return {".kaggle/credentials.json": json.dumps(fields | changes)}


def basic(user: str, key: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"


@dataclass(frozen=True)
class Case:
    """A machine; what the client sends from it (None: nothing); what is found there.

    {home} is the home folder. origin: "" if there are no usable credentials. problems, notes:
    parts of the sentences, in order, with … between the parts of one.
    """

    claim: str
    sends: str | None
    origin: str
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)  # None: a folder
    environ: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    mode: int = 0o600


CASES = [
    Case("nothing at all", None, "", problems=(NONE + ".config/kaggle",)),
    Case("a token in a file", "Bearer SECRET-file", f"{OWN}/access_token", TOKEN),
    Case(
        "a token in a variable is used before a file", "Bearer SECRET-variable", "KAGGLE_API_TOKEN", TOKEN, VARIABLE,
        notes=(f"{OWN}/access_token is not used, because of KAGGLE_API_TOKEN",),
    ),
    Case("a variable that names a file", "Bearer SECRET-named", "{home}/named (KAGGLE_API_TOKEN)", {"named": "SECRET-named"}, {"KAGGLE_API_TOKEN": "{home}/named"}),
    Case("kaggle.json saved as a token", f"Bearer {KEY}", "", {".kaggle/access_token": KEY}, problems=(f"{OWN}/access_token: the token is not valid (is it JSON, …). Use one of … instead, or run: rm …",)),
    Case(
        "an empty token file", basic("bob", "SECRET-bob"), f"{OWN}/kaggle.json", {".kaggle/access_token": " \n", **BOB}, user="bob",
        notes=(f"{OWN}/access_token is empty. Use one of {SETTINGS} instead, or run: rm {OWN}/access_token",),
    ),
    Case(
        "a token that others can read", "Bearer SECRET-file", f"{OWN}/access_token", TOKEN, mode=0o640,
        problems=(f"{OWN}/access_token can be read by other users of this machine (mode 640). Run: chmod 600 {OWN}/access_token",),
    ),
    Case(
        "a Kaggle notebook's token comes first", "Bearer SECRET-jwt", "{home}/jwt (KAGGLE_API_V1_TOKEN)", {"jwt": "SECRET-jwt"},
        {**NOTEBOOK, **VARIABLE, "KAGGLE_API_V1_TOKEN": "{home}/jwt"}, notes=("KAGGLE_API_TOKEN is not used, because of {home}/jwt …",),
    ),
    Case(
        "a stale token is sent instead of a valid key", "Bearer stale-SECRET", "KAGGLE_API_TOKEN", BOB, {"KAGGLE_API_TOKEN": "stale-SECRET"},
        notes=(f"{OWN}/kaggle.json is not used, because of KAGGLE_API_TOKEN",),
    ),
    Case("kaggle.json in ~/.kaggle", basic("bob", "SECRET-bob"), f"{OWN}/kaggle.json", BOB, user="bob"),
    Case("kaggle.json in ~/.config/kaggle", basic("bob", "SECRET-bob"), f"{XDG}/kaggle.json", {".config/kaggle/kaggle.json": KEY}, user="bob"),
    Case("kaggle.json in KAGGLE_CONFIG_DIR", basic("bob", "SECRET-bob"), "{home}/dir/kaggle.json", {"dir/kaggle.json": KEY, ".kaggle/kaggle.json": "{}"}, {"KAGGLE_CONFIG_DIR": "{home}/dir"}, "bob"),
    Case(
        "kaggle.json that others can read", basic("bob", "SECRET-bob"), f"{OWN}/kaggle.json", BOB, user="bob", mode=0o604,
        problems=(f"{OWN}/kaggle.json can be read by other users of this machine (mode 604). Run: chmod 600 {OWN}/kaggle.json",),
    ),
    Case(
        "broken JSON in kaggle.json", None, "", {".kaggle/kaggle.json": '{"username": "bob",\n "key": SECRET-0123456789}'},
        problems=(f"{OWN}/kaggle.json is not valid JSON (line 2, column 9). {NEW_KEY}", NONE + ".kaggle"),
    ),
    Case("broken JSON beside a token is a note", "Bearer SECRET-file", f"{OWN}/access_token", {".kaggle/kaggle.json": "{", **TOKEN}, notes=(f"{OWN}/kaggle.json is not valid JSON (line 1, column 2). …",)),
    Case("an empty kaggle.json", None, "", {".kaggle/kaggle.json": ""}, problems=(f"{OWN}/kaggle.json is empty. {NEW_KEY}", NONE)),
    Case("kaggle.json without a key", None, "", {".kaggle/kaggle.json": '{"username": "bob"}'}, problems=(f"{OWN}/kaggle.json: the key is missing. {NEW_KEY}", NONE)),
    Case(
        "variables are used before kaggle.json", basic("eve", "SECRET-eve"), "KAGGLE_USERNAME and KAGGLE_KEY", BOB, EVE, "eve",
        notes=(f"the key of {OWN}/kaggle.json is not used, because of KAGGLE_USERNAME and KAGGLE_KEY",),
    ),
    Case("a username in a variable, a key in a file", basic("eve", "SECRET-bob"), f"KAGGLE_USERNAME and {OWN}/kaggle.json", BOB, {"KAGGLE_USERNAME": "eve"}, "eve"),
    Case(
        "a token beside a key is sent in its place", "Bearer SECRET-beside", "KAGGLE_TOKEN", BOB, {"KAGGLE_TOKEN": "SECRET-beside"},
        notes=(f"{OWN}/kaggle.json is not used, because of KAGGLE_TOKEN",),
    ),
    Case(
        "a file's name beside a key is sent in its place", "Bearer {home}/empty", "", {"empty": "", **BOB}, {"KAGGLE_TOKEN": "{home}/empty"},
        problems=("KAGGLE_TOKEN is the name of a file, and is sent in place of the key. To use the key, run: unset KAGGLE_TOKEN",), notes=(f"{OWN}/kaggle.json is not used, because of KAGGLE_TOKEN",),
    ),
    Case(
        "a variable that names an empty file hides the token's file, not the key", basic("bob", "SECRET-bob"), f"{OWN}/kaggle.json", {"empty": "", **TOKEN, **BOB}, {"KAGGLE_API_TOKEN": "{home}/empty"}, "bob",
        notes=("{home}/empty is empty. …run: unset KAGGLE_API_TOKEN", f"{OWN}/access_token is not used, because KAGGLE_API_TOKEN names the empty file {{home}}/empty"),
    ),
    Case("a username without a key", None, "", {}, {"KAGGLE_USERNAME": "eve"}, problems=(f"KAGGLE_USERNAME: the key is missing. {NEW_KEY}", NONE)),
    Case("OAuth", "Bearer SECRET-oauth", f"{OWN}/credentials.json", oauth(), user="olga"),
    Case("a key is used before OAuth", basic("bob", "SECRET-bob"), f"{OWN}/kaggle.json", {**oauth(), **BOB}, user="bob", notes=(f"{OWN}/credentials.json is not used, because of {OWN}/kaggle.json",)),
    Case(
        "everything at once", "Bearer SECRET-variable", "KAGGLE_API_TOKEN", {**oauth(), **BOB, **TOKEN}, {**VARIABLE, **EVE},
        notes=(f"{OWN}/access_token is not used, …", "KAGGLE_USERNAME and KAGGLE_KEY is not used, …", f"the key of {OWN}/kaggle.json is not used, …", f"{OWN}/credentials.json is not used, …"),
    ),
]  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES, ids=[case.claim for case in CASES])


def set_up(case: Case, home: Path) -> dict[str, str]:
    """Make the case's files in a new folder `home`. Returns the environment."""
    home.mkdir(parents=True)
    for name, content in case.files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            path.chmod(case.mode)
    return {"HOME": str(home), **{name: at(text, home) for name, text in case.environ.items()}}


def at(text: str, home: Path) -> str:
    return text.replace("{home}", str(home))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


class Echo(http.server.BaseHTTPRequestHandler):
    """Accepts each token that is not called stale, and answers with what it was sent."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/IntrospectToken"):
            active = not body.get("token", "").startswith("stale")
            answer = {"active": active, "username": "alice"}
        elif self.path.endswith("/GenerateAccessToken"):
            answer = {"token": "fresh", "expiresIn": 43200, "userName": "olga", "userId": 1}
        else:
            answer = {"nextPageToken": self.headers["Authorization"] or ""}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


CLIENT = """\
import contextlib, io, json, os, sys
import kagglesdk, kagglesdk.kaggle_client

def sign_in():
    from kaggle.api.kaggle_api_extended import KaggleApi
    from kagglesdk.competitions.types.competition_api_service import ApiListCompetitionsRequest
    api = KaggleApi()
    api.authenticate()
    with api.build_kaggle_client() as client:
        competitions = client.competitions.competition_api_client
        return competitions.list_competitions(ApiListCompetitionsRequest()).next_page_token

def answer(environ):
    os.environ.clear()
    os.environ.update(environ)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return sign_in() or None
        except (Exception, SystemExit):
            return None

for environ in json.load(sys.stdin):
    if not os.fork():
        os.write(1, json.dumps(answer(environ)).encode() + b"\\n")
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """What the official client sent from each case's machine, with {home} in it."""
    root = tmp_path_factory.mktemp("client")
    environs = [set_up(case, root / str(number)) for number, case in enumerate(CASES)]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        own = {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": f"http://127.0.0.1:{server.server_address[1]}",
            "https_proxy": "http://127.0.0.1:1",
        }
        done = subprocess.run(
            [sys.executable, "-c", CLIENT], input=json.dumps([one | own for one in environs]),
            env=os.environ | {"PYTHONPATH": os.environ.get("KAGGLE_CLIENT_PATH", "")},
            capture_output=True, text=True, check=True, cwd=root, timeout=300,
        )  # fmt: skip
        server.shutdown()
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    answers = [
        answer and answer.replace(str(root / str(number)), "{home}")
        for number, answer in enumerate(answers)
    ]
    return {case.claim: answer for case, answer in zip(CASES, answers, strict=True)}


@every_case
def test_the_client_sends_what_the_case_says(case: Case, sent: dict[str, str | None]) -> None:
    assert sent[case.claim] == case.sends


@every_case
def test_the_credentials_in_use_and_every_fault_are_found(case: Case, home: Path) -> None:
    environ = set_up(case, home)
    before = sorted((path, path.lstat().st_mtime_ns) for path in home.rglob("*"))
    found = find_credentials(environ, home)
    if case.origin:
        assert found.used is not None
        assert (found.used.origin, found.used.user) == (at(case.origin, home), case.user)
        kind = "the key" if str(case.sends).startswith("Basic") else "a token"
        kind = "OAuth" if case.origin.endswith("credentials.json") else kind
        assert found.used.kind == kind
    else:
        assert found.used is None
    for sentences, expected in ((found.problems, case.problems), (found.notes, case.notes)):
        assert len(sentences) == len(expected), sentences
        for sentence, parts in zip(sentences, expected, strict=True):
            pattern = ".*".join(re.escape(part) for part in at(parts, home).split("…"))
            assert re.match(pattern, sentence, re.DOTALL), sentence
    assert before == sorted((path, path.lstat().st_mtime_ns) for path in home.rglob("*"))


@every_case
def test_no_secret_shows_and_every_secret_is_scrubbed(case: Case, home: Path) -> None:
    found = find_credentials(set_up(case, home), home)
    shown = [repr(found), str(asdict(found)), json.dumps(asdict(found), default=str)]
    try:
        raise ValueError(found, found.secrets)
    except ValueError:
        shown.append(traceback.format_exc())
    assert "SECRET" not in "".join(shown)
    assert "secrets" not in repr(found)
    texts = [text for text in case.files.values() if isinstance(text, str)]
    for text in [*texts, *case.environ.values(), case.sends or ""]:
        for secret in re.findall(r"[\w-]*SECRET[^\s\"',}\]]*", text):
            assert "SECRET" not in scrub(f"said {secret}; and {secret!r}", found.secrets)
    assert scrub(basic("bob", "SECRET"), found.secrets) == "Basic ***"


def damage(path: Path, how: str) -> None:
    match how:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link to itself":
            path.symlink_to(path)
        case "huge":
            with path.open("wb") as file:
                file.truncate(2**40)
        case "deep":
            path.write_text("[" * 50_000)
        case "number":
            path.write_text('{"key": ' + "9" * 5000 + "}")
        case "NUL":
            path.write_bytes(b"SECRET\0token")
        case "not UTF-8":
            path.write_bytes(b"\xff\xfe{")
    if path.is_file():
        path.chmod(0o600)


@pytest.mark.parametrize("name", ["access_token", "kaggle.json", "credentials.json"])
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("folder", "cannot be read (Is a directory)"),
        ("pipe", "is no file"),
        ("link to itself", "cannot be read (Too many levels of symbolic links)"),
        ("huge", "is too large for a token or a key, 1,099,511,627,776 bytes"),
        ("deep", "is not valid"),
        ("number", "is not valid"),
        ("NUL", "is not valid"),
        ("not UTF-8", "cannot be read (not UTF-8)"),
    ],
)
def test_a_damaged_file_is_a_sentence_that_names_it(
    name: str, how: str, said: str, home: Path
) -> None:
    path = home / ".kaggle" / name
    path.parent.mkdir(parents=True)
    damage(path, how)
    found = find_credentials({}, home)
    assert found.used is None
    assert str(path) in found.problems[0]
    assert said in found.problems[0]


def test_a_second_key_does_not_complete_half_a_pair(home: Path) -> None:
    (home / ".kaggle").mkdir(parents=True)
    (home / ".kaggle/kaggle.json").write_text('{"key": "SECRET-bob"}')
    found = find_credentials({"KAGGLE_KEY": "SECRET-eve"}, home)
    assert found.used is None
    assert any("the username is missing" in problem for problem in found.problems)


def test_commands_quote_their_paths(tmp_path: Path) -> None:
    path = tmp_path / "a home" / ".kaggle" / "access_token"
    path.parent.mkdir(parents=True)
    path.write_text("SECRET")
    path.chmod(0o604)
    (problem,) = find_credentials({}, tmp_path / "a home").problems
    assert shlex.split(problem.partition("Run: ")[2]) == ["chmod", "600", str(path)]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("said SECRETS-long here", "said *** here"),
        ("xSECRETS-long-longerx", "x***x"),
        ("said short here, shorter there", "said *** here, shorter there"),
        ("said nothing.", "said nothing."),
        ("GET https://storage.googleapis.com/b/o.zip?X-Goog-Signature=ab12&Expires=3: 403", "GET https://storage.googleapis.com/b/o.zip?*** 403"),
        ('{"createUrl": "https://up.example/x?upload_id=A", "n": 1}', '{"createUrl": "https://up.example/x?***", "n": 1}'),
        ("Max retries exceeded with url: /b/o.zip?X-Goog-Signature=ab12 (Caused by", "Max retries exceeded with url: /b/o.zip?*** (Caused by"),
        ("proxy http://me:pass@word@proxy:3128 refused", "proxy http://***@proxy:3128 refused"),
        ("Authorization: Bearer abc\nHost: x", "Authorization: ***\nHost: x"),
        ("{'Authorization': 'Basic abc==', 'Host': 'x'}", "{'Authorization': '***', 'Host': 'x'}"),
        ("sent Bearer abc, then", "sent Bearer ***, then"),
        ("invalid header value b'Bearer abc\\n'", "invalid header value b'Bearer ***'"),
        ("sent basic YWxhZGRpbjpvcGVu", "sent basic ***"),
        ("a basic network has no bearer", "a basic network has no bearer"),
        ("Is it there? Yes: see https://www.kaggle.com/settings", "Is it there? Yes: see https://www.kaggle.com/settings"),
    ],
)  # fmt: skip
def test_scrub_masks_what_a_log_must_not_show(text: str, clean: str) -> None:
    secrets = [SecretStr(one) for one in ("SECRETS-long", "SECRETS-long-longer", "short", ".", "")]
    assert scrub(text, secrets) == clean
    assert scrub(clean, []) == clean
