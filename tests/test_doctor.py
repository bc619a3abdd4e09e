"""Each finding, from real folders, repositories and sockets; nothing leaves this machine."""

import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import kaggle_server
import pytest
import requests
import torch
from competing import KEY, commit, init, kaggle_params
from project import PARAMS

from pipeline.commands import doctor
from pipeline.commands.doctor import Finding, Line, examine, print_report
from pipeline.core.errors import KaggleError
from pipeline.kaggle.answers import Limits
from pipeline.train import device
from pipeline.train.device import Compute

OF_A_USER = ("KAGGLE_", "XDG_", "GIT_", "DVC_")
PROXIES = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"]
LOOPBACK = {"KAGGLE_API_ENVIRONMENT": "LOCALHOST"}
TOKEN = {"KAGGLE_API_TOKEN": "SECRET-variable"}
CLOSED = "http://127.0.0.1:1"
Through = Callable[[str], None]


@pytest.fixture(scope="module")
def door() -> Iterator[str]:
    """Answers as Kaggle's host, and as a proxy that refuses to connect to another host."""
    with kaggle_server.serve() as server:
        yield server.url


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Through:
    """Set this process's proxy, and nothing else of the kind."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def set_proxy(address: str) -> None:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, address)

    set_proxy(CLOSED)
    return set_proxy


def fail_with(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


refuse = fail_with(AssertionError("nobody may sign in here"))


def run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one commit, and DVC set up."""
    root = tmp_path_factory.mktemp("template") / "repository"
    root.mkdir()
    init(root)
    run(root, sys.executable, "-m", "dvc", "init", "--quiet")
    commit(root)
    return root


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "repository"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examine no device and no repository."""
    ok: Finding = ("ok", "")
    monkeypatch.setattr(doctor, "_examine_device", lambda: ok)
    monkeypatch.setattr(doctor, "_examine_git", lambda *_: ok)
    monkeypatch.setattr(doctor, "_examine_dvc", lambda *_: ok)


def environment(home: Path, **changes: str) -> dict[str, str]:
    """This process's, but without what its user has set up for Kaggle, git and DVC."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(OF_A_USER)}
    return {**kept, "HOME": str(home), **changes}


def test_everything_is_examined_in_order_and_nothing_changed(
    repository: Path, tmp_path: Path, door: str, through: Through
) -> None:
    through(door)
    environ = environment(tmp_path, **LOOPBACK, **TOKEN)
    before = sorted(repository.rglob("*"))
    lines = examine(environ, tmp_path, repository, lambda: "alice", refuse)
    assert [line.name for line in lines] == (
        ["python", "packages", "device", "disk", "git", "dvc", "network", "credentials", "sign-in"]
    )
    assert [line for line in lines if line.state == "problem"] == []
    assert lines[-2:] == [
        Line("credentials", "ok", "a token, from KAGGLE_API_TOKEN"),
        Line("sign-in", "ok", "Kaggle knows you as alice"),
    ]
    assert sorted(repository.rglob("*")) == before


@pytest.mark.parametrize(
    ("version", "state"),
    [((3, 10, 9), "problem"), ((3, 11, 0), "ok"), ((3, 13, 7), "ok"), ((3, 14, 0), "problem")],
)
def test_python_3_11_to_3_13_is_supported(
    version: tuple[int, int, int], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    found = ".".join(map(str, version))
    advice = (
        f"expected Python 3.11 to 3.13, found {found}. Run: make clean; make PYTHON=python3.12 run"
    )
    assert doctor._examine_python() == (state, advice if state == "problem" else f"{found}, {sys.executable}")  # fmt: skip


RUN_PIP = f". Run: {sys.executable} -m pip install --require-hashes -r requirements.lock"


@pytest.mark.parametrize(
    ("locked", "state", "text"),
    [
        ([f"requests=={requests.__version__}"], "ok", "; all as in requirements.lock"),
        (["no-such-package==1.0 ; sys_platform == 'emscripten'"], "ok", "; all as in requirements.lock"),
        (["requests==0.1", "requests==0.2"], "note", f"; 2 not as in requirements.lock (first: requests==0.1, found {requests.__version__}, requests==0.2, found {requests.__version__}){RUN_PIP}"),
        (["no-such-package==1.0", "pytest==0.2"], "problem", f"; 2 not as in requirements.lock (first: no-such-package==1.0, found none, pytest==0.2, found {pytest.__version__}){RUN_PIP}"),
        (["<<<<<<< HEAD", "requests==0.1"], "problem", "; requirements.lock: expected a requirement, found '<<<<<<< HEAD'. Run: git checkout -- requirements.lock"),
        (None, "note", "; no requirements.lock to compare with. Run: make lock"),
    ],
    ids=["equal", "for another machine", "different", "missing", "damaged", "no lock"],
)  # fmt: skip
def test_packages_are_compared_with_the_lock(
    locked: list[str] | None, state: str, text: str, tmp_path: Path
) -> None:
    lock = tmp_path / "requirements.lock"
    if locked is not None:
        lock.write_text("".join(f"{one} \\\n    --hash=sha256:00\n" for one in locked))
    found = doctor._examine_packages(lock)
    assert found[0] == state
    assert found[1].startswith("torch ")
    assert found[1].endswith(text)


def test_without_a_gpu_the_precision_of_the_cpu_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = Compute(torch.device("cpu"), torch.bfloat16)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "cores", lambda: 3)
    monkeypatch.setattr(doctor, "free_memory", lambda: 5.2 * 2**30)
    monkeypatch.setattr(device, "choose_compute", lambda *_: chosen)
    assert doctor._examine_device() == ("ok", "no GPU; 3 CPU cores, 5 GiB of memory free, bfloat16")
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    state, text = doctor._examine_device()
    assert state == "note"
    assert text.endswith(" sees no GPU. Run: nvidia-smi")


def test_a_gpu_is_named_with_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu:
        name, total_memory = "Tesla T4", 15 * 2**30

    chosen = Compute(torch.device("cuda"), torch.float16)
    ones = torch.ones
    monkeypatch.setattr(device, "choose_compute", lambda *_: chosen)
    monkeypatch.setattr(torch, "ones", lambda *size, **_: ones(*size))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Gpu)
    monkeypatch.setattr(doctor, "cores", lambda: 3)
    monkeypatch.setattr(doctor, "free_memory", lambda: 5.2 * 2**30)
    assert doctor._examine_device() == (
        "ok",
        "Tesla T4, 15 GiB, float16; 3 CPU cores, 5 GiB of memory free",
    )
    monkeypatch.setattr(torch, "ones", fail_with(RuntimeError("CUDA error: no kernel\nCompile")))
    expected = ("problem", "PyTorch does not compute: CUDA error: no kernel")
    assert doctor._examine_device() == expected


def test_free_space_and_a_folder_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    for free, state in ((1.9e9, "problem"), (2.1e9, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(0, 0, free))
        found = doctor._examine_disk(tmp_path)
        assert found[0] == state
        assert found[1].startswith(f"{free / 1e9:.1f} GB free in {tmp_path}")
    assert doctor._examine_disk(tmp_path / "missing")[0] == "problem"


def ask_in(root: Path) -> tuple[Finding, Finding]:
    environ = environment(root.parent)
    return doctor._examine_git(root, environ), doctor._examine_dvc(root, environ)


def add_remote(repository: Path, url: str) -> None:
    text = f"[core]\n    remote = shelf\n['remote \"shelf\"']\n    url = {url}\n"
    (repository / ".dvc/config").write_text(text)


NETWORKS = """\
stages:
  train:
    matrix: {member: [one], fold: [0, 1]}
    cmd: train
    outs: ["models/one/fold${item.fold}"]
"""
LOCK = """\
schema: '2.0'
stages:
  train@one-0:
    cmd: train
    outs: [{path: models/one/fold0, hash: md5, md5: 0a000000000000000000000000000000.dir}]
  train@one-1:
    cmd: train
    outs: [{path: models/one/fold1, hash: md5, md5: 1a000000000000000000000000000000.dir}]
"""


def test_networks_that_the_remote_lacks_are_counted_and_nothing_is_left_in_it(
    repository: Path,
) -> None:
    (repository / "dvc.yaml").write_text(NETWORKS)
    (repository / "dvc.lock").write_text(LOCK)
    shelf = repository.parent / "shelf"
    shelf.mkdir()
    add_remote(repository, str(shelf))
    environ = environment(repository.parent)
    place, hint = f"remote shelf ({shelf}) can be read and written", ". Run: make push"
    both = f"{place}; 2 of 2 networks of dvc.lock are not in it yet{hint}"
    assert doctor._examine_remote(repository, environ) == ("note", both)
    assert list(shelf.iterdir()) == []
    (shelf / "files/md5/0a").mkdir(parents=True)
    (shelf / "files/md5/0a/000000000000000000000000000000.dir").write_text("[]")
    one = f"{place}; 1 of 2 networks of dvc.lock is not in it yet{hint}"
    assert doctor._examine_remote(repository, environ) == ("note", one)


def test_a_remote_that_does_not_answer_is_a_problem_in_one_sentence(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = repository / "no/such/shelf"
    add_remote(repository, str(shelf))
    state, text = doctor._examine_remote(repository, environment(repository.parent))
    assert state == "problem"
    assert text.startswith(f"remote shelf ({shelf}) cannot be reached: no such folder")
    monkeypatch.setattr(doctor, "REMOTE_TIMEOUT_S", 0.1)
    assert doctor._examine_remote(repository, environment(repository.parent)) == (
        "problem",
        "the default remote was not examined: no answer within 0.1 s. Run: dvc status --cloud",
    )


def test_a_clean_repository_and_its_remotes(repository: Path) -> None:
    git, dvc = ask_in(repository)
    assert git[0] == "ok"
    assert git[1].endswith(", nothing uncommitted")
    assert dvc == (
        "note",
        "no default remote: the networks are on this disk only, and without them a later "
        "reproduce must train again. Run: dvc remote add --default NAME URL",
    )
    shelf = repository.parent / "shelf"
    add_remote(repository, str(shelf))
    git, dvc = ask_in(repository)
    assert dvc == ("ok", f"remote shelf ({shelf}) can be read and written")
    assert not shelf.exists()
    assert git[1].endswith(
        ", files not committed: 1 (first: .dvc/config); a score that is sent now cannot be "
        "reproduced from a commit. Run: git status"
    )


def test_a_folder_without_a_repository_a_commit_or_git(tmp_path: Path) -> None:
    git, dvc = ask_in(tmp_path)
    start = "git add --all && git commit -m start"
    none = f"{tmp_path}: is no git repository (a downloaded zip is none). Run: git init && {start}"
    assert git == ("problem", none)
    assert dvc == ("problem", "DVC is not set up here. Run: dvc init")
    run(tmp_path, "git", "init", "--quiet")
    assert ask_in(tmp_path)[0] == ("note", f"{tmp_path}: no commit yet. Run: {start}")
    git = doctor._examine_git(tmp_path, environment(tmp_path, PATH=str(tmp_path)))
    assert git == ("problem", "git is not installed. Install it, on Debian with: apt install git")
    others = environment(tmp_path, GIT_TEST_ASSUME_DIFFERENT_OWNER="1")
    assert doctor._examine_git(tmp_path, others) == (
        "problem",
        f"{tmp_path}: belongs to another user. If you trust it, run: git config --global --add "
        f"safe.directory {tmp_path}",
    )


def test_a_merge_that_is_not_finished_is_noted(repository: Path) -> None:
    run(repository, "git", "checkout", "--quiet", "-b", "other")
    (repository / "a").touch()
    commit(repository)
    run(repository, "git", "checkout", "--quiet", "-")
    run(repository, "git", "merge", "--quiet", "--no-ff", "--no-commit", "other")
    state, text = ask_in(repository)[0]
    assert state == "note"
    assert text.endswith(", a merge is not finished. Run: git status")


def test_the_host_is_reached_through_a_proxy_or_the_proxy_is_named(
    door: str, through: Through
) -> None:
    unreached = "the proxy cannot be reached. Check the variable https_proxy"
    refuses = "the proxy refuses. Ask its administrator to allow Kaggle's host"
    local, real = "http://localhost", "https://api.kaggle.com"
    for environ, proxy, state, text in (
        (LOOPBACK, door, "ok", f"{local}, through the proxy {door} answers (200)"),
        ({}, door, "problem", f"{real}, through the proxy {door}: {refuses}"),
        (LOOPBACK, CLOSED, "problem", f"{local}, through the proxy {CLOSED}: {unreached}"),
        ({}, CLOSED, "problem", f"{real}, through the proxy {CLOSED}: {unreached}"),
    ):
        through(proxy)
        assert doctor._examine_network(environ) == (state, text)


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate with openssl")
def test_a_certificate_that_is_not_trusted_or_missing(
    tmp_path: Path, through: Through, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    run(
        tmp_path, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
        "-subj", "/CN=api.kaggle.com", "-keyout", str(key), "-out", str(certificate),
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Inspector(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                context.wrap_socket(self.connection, server_side=True).close()
            except (ssl.SSLError, ConnectionError):
                self.close_connection = True

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Inspector) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        through(f"http://127.0.0.1:{server.server_address[1]}")
        state, text = doctor._examine_network({})
        assert state == "problem"
        assert text.endswith(
            ": the certificate is not trusted. If a proxy inspects TLS, run: "
            "export REQUESTS_CA_BUNDLE=FILE, with the proxy's certificates"
        )
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
        assert doctor._examine_network({})[1].endswith(
            "missing.pem. Check the variables REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE"
        )
        server.shutdown()


def test_a_machine_without_a_network_is_a_problem(
    through: Through, monkeypatch: pytest.MonkeyPatch
) -> None:
    through("")
    monkeypatch.setattr(socket, "getaddrinfo", fail_with(socket.gaierror(-2, "not known")))
    unreached = "Kaggle cannot be reached: its name is not found (DNS)"
    assert unreached in doctor._examine_network({})[1]


def last_lines(
    folder: Path, environ: dict[str, str], sign_in: Callable[[], str]
) -> tuple[Line, Line]:
    """The lines about the credentials and the sign-in."""
    lines = examine(environment(folder, **LOOPBACK, **environ), folder, folder, sign_in, refuse)
    assert [line.name for line in lines[-3:]] == ["network", "credentials", "sign-in"]
    return lines[-2], lines[-1]


@pytest.mark.usefixtures("quick")
def test_nobody_signs_in_without_credentials_or_a_network(
    tmp_path: Path, door: str, through: Through
) -> None:
    _, line = last_lines(tmp_path, TOKEN, refuse)
    assert line == Line("sign-in", "note", "not tried without a network")
    through(door)
    credentials, line = last_lines(tmp_path, {}, refuse)
    assert line == Line("sign-in", "note", "not tried without credentials")
    assert credentials.state == "problem"
    assert credentials.text.startswith("no credentials for Kaggle. Run: ")


@pytest.mark.usefixtures("quick")
def test_a_refused_sign_in_is_a_problem_without_secrets(
    tmp_path: Path, door: str, through: Through
) -> None:
    through(door)
    for error, text in (
        (KaggleError("Kaggle does not accept SECRET-variable"), "Kaggle does not accept ***"),
        (requests.ConnectionError("https://x.example/y?sig=SECRET"), "https://x.example/y?***"),
        (TimeoutError(), "TimeoutError"),
    ):
        line = last_lines(tmp_path, TOKEN, fail_with(error))[1]
        assert line == Line("sign-in", "problem", text)


@pytest.mark.usefixtures("quick")
def test_another_user_than_the_keys_is_noted(tmp_path: Path, door: str, through: Through) -> None:
    through(door)
    found = last_lines(tmp_path, KEY, lambda: "adam")
    whose = "the key of tester, from KAGGLE_USERNAME and KAGGLE_KEY"
    assert found == (
        Line("credentials", "ok", whose),
        Line("sign-in", "note", "Kaggle knows you as adam, not as tester"),
    )
    assert last_lines(tmp_path, KEY, lambda: "")[1].text == "Kaggle lets you in"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("limits", "state", "text"),
    [
        (Limits(2, 3, 9), "ok", "fighting-malaria: Today 2 submitted, 3 left"),
        (Limits(2, 1, 9, True), "ok", "fighting-malaria: Today 2 submitted, 1 left in all"),
        (Limits(2, None), "ok", "fighting-malaria: Today 2 submitted, how many are left is not known"),
        (Limits(5, 0, 9), "note", "fighting-malaria: today's limit is reached after 5 submissions. Kaggle allows new ones from 00:00 UTC, in"),
        (KaggleError("Kaggle refuses SECRET-variable"), "note", "Kaggle refuses ***"),
    ],
    ids=["some", "of all", "unknown", "none", "refused"],
)  # fmt: skip
def test_the_days_limit_is_told_where_a_competition_is_named(
    tmp_path: Path, door: str, through: Through, limits: Limits | KaggleError, state: str, text: str
) -> None:
    """And not asked for with other files, or without a sign-in."""
    through(door)
    asked = []

    def ask_limit(slug: str) -> Limits:
        asked.append(slug)
        if isinstance(limits, KaggleError):
            raise limits
        return limits

    def last_line(sign_in: Callable[[], str] = lambda: "alice") -> Line:
        environ = environment(tmp_path, **LOOPBACK, **TOKEN)
        return examine(environ, tmp_path, tmp_path, sign_in, ask_limit)[-1]

    params = tmp_path / "params.yaml"
    params.write_text(PARAMS)
    assert last_line().name == "sign-in"
    params.write_text(kaggle_params())
    assert last_line(fail_with(KaggleError("no"))).name == "sign-in"
    assert asked == []
    line = last_line()
    assert (line.name, line.state, line.text[: len(text)]) == ("limit", state, text)
    assert asked == ["fighting-malaria"]
    params.write_text("download: [")
    assert last_line()[:2] == ("limit", "note")


def test_no_secret_is_printed(
    repository: Path, through: Through, capsys: pytest.CaptureFixture[str]
) -> None:
    through("me:SECRET-proxy@127.0.0.1:1")
    (repository / ".dvc/config").write_text(
        "[core]\n    remote = x\n['remote \"x\"']\n    url = https://me:SECRET-dvc@example.org/x\n"
    )
    home = repository.parent
    (home / ".kaggle").mkdir()
    for name, text in {
        "kaggle.json": '{"username": "bob", "key": "SECRET-key", "token": "SECRET-token"}',
        "access_token": "SECRET-file",
        "credentials.json": '{"refresh_token": "SECRET-refresh", "access_token": "SECRET-oauth"}',
    }.items():
        (home / ".kaggle" / name).write_text(text)
    lines = examine(environment(home, **LOOPBACK, **TOKEN), home, repository, refuse, refuse)
    assert not print_report(lines)
    shown = capsys.readouterr().out + repr(lines)
    assert "SECRET" not in shown
    assert "through the proxy http://***@127.0.0.1:1" in shown
    (dvc,) = [line.text for line in lines if line.name == "dvc"]
    assert dvc.startswith("remote x cannot be reached: ")


def test_the_report_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [Line("disk", "ok", "much"), Line("network", "note", "slow")]
    assert print_report(lines)
    assert capsys.readouterr().out == "ok       disk     much\nnote     network  slow\n"
    assert print_report([])
    assert not print_report([Line("disk", "problem", "no room")])
