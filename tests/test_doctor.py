"""Each finding, from real folders, repositories and sockets; nothing leaves this machine."""

import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
import requests
import torch
from project import ROOT

from pipeline.commands import doctor
from pipeline.commands.doctor import Line, examine, print_report
from pipeline.core.errors import KaggleError
from pipeline.train import device
from pipeline.train.device import Compute

OF_A_USER = ("KAGGLE_", "XDG_", "GIT_", "DVC_")
PROXIES = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"]
LOOPBACK = {"KAGGLE_API_ENVIRONMENT": "LOCALHOST"}
TOKEN = {"KAGGLE_API_TOKEN": "SECRET-variable"}
CLOSED = "http://127.0.0.1:1"


class Door(http.server.BaseHTTPRequestHandler):
    """Answers as a front door does, and as a proxy that lets nobody through."""

    def do_HEAD(self) -> None:
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.1:1/sign-in")
        self.end_headers()

    def do_CONNECT(self) -> None:
        self.send_error(403)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def serve(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def door() -> Iterator[str]:
    with serve(Door) as address:
        yield address


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set this process's proxy, and nothing else of the kind."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def set_proxy(address: str) -> None:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, address)

    set_proxy(CLOSED)
    return set_proxy


def network(environ: dict[str, str]) -> Line:
    return doctor._examine_network(environ)


def refuse() -> NoReturn:
    raise AssertionError("nobody may sign in here")


def run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder with one commit, and DVC set up."""
    root = tmp_path / "repository"
    root.mkdir()
    run(root, "git", "init", "--quiet")
    run(root, "git", "config", "user.email", "test@example.org")
    run(root, "git", "config", "user.name", "test")
    run(root, sys.executable, "-m", "dvc", "init", "--quiet")
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "--quiet", "--message", "start")
    return root


def environment(home: Path, **changes: str) -> dict[str, str]:
    """This process's, but without what its user has set up for Kaggle, git and DVC."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(OF_A_USER)}
    return {**kept, "HOME": str(home), **changes}


def ask_in(root: Path) -> list[Line]:
    return doctor._examine_repository(root, environment(root.parent))


def test_everything_is_examined_in_order_and_nothing_changed(
    repository: Path, tmp_path: Path, door: str, through: Callable[[str], None]
) -> None:
    through(door)
    environ = environment(tmp_path, **LOOPBACK, **TOKEN)
    before = sorted(repository.rglob("*"))
    lines = examine(environ, tmp_path, repository, lambda: "alice")
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
    line = doctor._examine_python()
    assert line.state == state
    if state == "problem":
        found = ".".join(map(str, version))
        assert line.text == (
            f"{found}, where 3.11 to 3.13 is supported. Run: make clean; make PYTHON=python3.12 run"
        )


def packages(tmp_path: Path, *locked: str) -> Line:
    lock = tmp_path / "requirements.lock"
    lock.write_text("".join(f"{one} \\\n    --hash=sha256:00\n" for one in locked))
    return doctor._examine_packages(lock)


def test_packages_are_compared_with_the_lock(tmp_path: Path) -> None:
    line = packages(tmp_path, f"requests=={requests.__version__}")
    assert line.state == "ok"
    assert line.text.startswith("torch ")
    assert line.text.endswith("; all as in requirements.lock")


def test_other_versions_are_noted_with_both(tmp_path: Path) -> None:
    line = packages(tmp_path, "requests==0.1", "pytest==0.2", "rich==0.3", "numpy==0.4")
    assert line.state == "note"
    assert (
        f"; 4 not as in requirements.lock (first: requests==0.1, found {requests.__version__}; "
    ) in line.text
    assert "numpy" not in line.text
    assert line.text.endswith(
        f". Run: {sys.executable} -m pip install --require-hashes -r requirements.lock"
    )


def test_a_missing_package_is_a_problem(tmp_path: Path) -> None:
    line = packages(tmp_path, "no-such-package==1.0", "pytest==0.2")
    assert line.state == "problem"
    assert "; 1 of requirements.lock missing (first: no-such-package). Run: " in line.text


def test_what_is_locked_for_other_machines_does_not_count(tmp_path: Path) -> None:
    line = packages(tmp_path, "no-such-package==1.0 ; sys_platform == 'emscripten'")
    assert line.state == "ok"


def test_a_build_for_another_processor_is_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "version", lambda _: "2.15.0+cpu")
    assert packages(tmp_path, "torch==2.15.0").state == "ok"


def test_without_a_lock_there_is_nothing_to_compare(tmp_path: Path) -> None:
    line = doctor._examine_packages(tmp_path / "requirements.lock")
    assert line.state == "note"
    assert line.text.endswith("; no requirements.lock to compare with. Run: make lock")


def test_the_device_is_the_one_that_auto_chooses() -> None:
    line = doctor._examine_device()
    compute = device.choose_compute("auto", "auto")
    assert line.state in {"ok", "note"}
    assert f"{doctor._cores()} CPU cores" in line.text
    assert str(compute.dtype).removeprefix("torch.") in line.text
    assert ("no GPU" in line.text) == (compute.device.type == "cpu")


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (torch.float32, "no GPU; 3 CPU cores, float32 (no bfloat16 in hardware)"),
        (torch.bfloat16, "no GPU; 3 CPU cores, bfloat16 (bfloat16 in hardware)"),
    ],
)
def test_a_cpus_bfloat16_is_told(
    dtype: torch.dtype, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "_cores", lambda: 3)
    monkeypatch.setattr(device, "choose_compute", lambda *_: Compute(torch.device("cpu"), dtype))
    assert doctor._examine_device() == Line("device", "ok", text)
    smi = tmp_path / "nvidia-smi"
    smi.touch(mode=0o755)
    assert doctor._examine_device() == Line(
        "device",
        "note",
        f"{text}. nvidia-smi is here, but PyTorch {torch.__version__} sees no GPU. Run: nvidia-smi",
    )


def test_a_gpu_is_named_with_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu:
        name, total_memory = "Tesla T4", 15 * 2**30

    chosen = Compute(torch.device("cuda"), torch.float16)
    ones = torch.ones
    monkeypatch.setattr(device, "choose_compute", lambda *_: chosen)
    monkeypatch.setattr(torch, "ones", lambda *size, **_: ones(*size))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Gpu)
    monkeypatch.setattr(doctor, "_cores", lambda: 3)
    assert doctor._examine_device() == Line(
        "device", "ok", "Tesla T4, 15 GiB, float16; 3 CPU cores"
    )


def test_a_gpu_that_does_not_compute_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("CUDA error: no kernel image is available\nCompile with …")

    monkeypatch.setattr(torch, "ones", fail)
    assert doctor._examine_device() == Line(
        "device", "problem", "PyTorch does not compute: CUDA error: no kernel image is available"
    )


def test_what_pytorch_warns_of_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(*_: object) -> Compute:
        warnings.warn("CUDA initialization: the driver is too old\n(…)", stacklevel=2)
        return Compute(torch.device("cpu"), torch.float32)

    monkeypatch.setattr(device, "choose_compute", choose)
    line = doctor._examine_device()
    assert line.state == "note"
    assert line.text.endswith(". PyTorch says: CUDA initialization: the driver is too old")


@pytest.mark.parametrize(
    ("free", "state", "text"),
    [
        (1.9e9, "problem", "1.9 GB free in {}, and a run needs 2. Make room; of DVC's cache: dvc gc --workspace"),
        (9.9e9, "note", "9.9 GB free in {}: little for images at hand and networks to come"),
        (10e9, "ok", "10.0 GB free in {}"),
    ],
)  # fmt: skip
def test_free_space(
    free: float, state: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(0, 0, free))
    assert doctor._examine_disk(tmp_path) == Line("disk", state, text.format(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    assert doctor._examine_disk(tmp_path / "missing") == Line(
        "disk",
        "problem",
        f"{tmp_path}/missing: nothing can be written there (No such file or directory)",
    )


def test_a_folder_that_may_not_be_written_is_a_problem() -> None:
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        if is_root:
            os.seteuid(65534)
        try:
            line = doctor._examine_disk(Path(folder))
        finally:
            if is_root:
                os.seteuid(0)
            Path(folder).chmod(0o755)
    assert line == Line(
        "disk", "problem", f"{folder}: nothing can be written there (Permission denied)"
    )


def test_the_error_is_told_and_not_the_warning_before_it() -> None:
    assert doctor._first_line("warning: old\nfatal: no repository.\nhint") == "fatal: no repository"
    assert doctor._first_line("No module named dvc\n") == "No module named dvc"
    assert doctor._first_line(" \n") == "no word of why"


def test_a_clean_repository_without_a_remote(repository: Path) -> None:
    git, dvc = ask_in(repository)
    assert git.state == "ok"
    assert git.text.endswith(", nothing uncommitted")
    assert dvc == Line(
        "dvc",
        "note",
        "no remote: the networks are kept on this disk alone, and without them a later reproduce "
        "must train anew. Run: dvc remote add --default NAME URL",
    )


def test_uncommitted_files_are_noted(repository: Path) -> None:
    (repository / "new.py").touch()
    (repository / ".dvcignore").write_text("changed")
    git, _ = ask_in(repository)
    assert git.state == "note"
    assert git.text.endswith(
        ", 2 files not committed (first: .dvcignore, new.py): a score that is sent now cannot be "
        "rebuilt from a commit. Run: git status"
    )


def test_a_remote_and_its_default(repository: Path) -> None:
    dvc = [sys.executable, "-m", "dvc", "remote"]
    run(repository, *dvc, "add", "shelf", "https://me:SECRET@example.org/shelf")
    assert ask_in(repository)[1] == Line(
        "dvc",
        "note",
        "remote shelf https://me:SECRET@example.org/shelf, and none is the default, to which dvc "
        "push goes. Run: dvc remote default shelf",
    )
    run(repository, *dvc, "default", "shelf")
    assert ask_in(repository)[1] == Line(
        "dvc", "ok", "remote shelf https://me:SECRET@example.org/shelf (default)"
    )


def test_a_broken_dvc_config_is_a_problem(repository: Path) -> None:
    (repository / ".dvc/config").write_text("nonsense")
    _, dvc = ask_in(repository)
    assert dvc.state == "problem"
    assert "ERROR: " in dvc.text


def test_a_folder_that_is_no_repository(tmp_path: Path) -> None:
    git, dvc = ask_in(tmp_path)
    assert git.state == dvc.state == "problem"
    assert git.text.startswith("fatal: not a git repository")
    assert git.text.endswith(
        ". Where there is none, run: git init && git add --all && git commit -m start"
    )
    assert dvc.text.startswith("ERROR: you are not inside of a DVC repository")
    assert dvc.text.endswith(". Where it is not set up, run: dvc init")


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    run(tmp_path, "git", "init", "--quiet")
    git, _ = ask_in(tmp_path)
    assert git == Line("git", "note", "no commit yet. Run: git add --all && git commit -m start")


def test_a_machine_without_git(tmp_path: Path) -> None:
    git, _ = doctor._examine_repository(tmp_path, environment(tmp_path, PATH=str(tmp_path)))
    assert git.text.startswith("git: No such file or directory. ")


def test_any_answer_means_that_kaggle_is_reached(door: str, through: Callable[[str], None]) -> None:
    through(door)
    assert network(LOOPBACK) == Line(
        "network", "ok", f"http://localhost, through the proxy {door} answers (302)"
    )


def test_a_dead_proxy_is_told(through: Callable[[str], None]) -> None:  # noqa: ARG001
    for environ, host in ((LOOPBACK, "http://localhost"), ({}, "https://api.kaggle.com")):
        assert network(environ) == Line(
            "network",
            "problem",
            f"{host}, through the proxy {CLOSED}: the proxy cannot be reached. "
            "Mend or unset https_proxy and http_proxy",
        )


def test_a_proxy_that_lets_nobody_through(door: str, through: Callable[[str], None]) -> None:
    through(door)
    assert network({}).text == (
        f"https://api.kaggle.com, through the proxy {door}: the proxy refuses (403). "
        "Ask whoever runs it to let this host through"
    )


def test_a_proxy_that_is_no_address(through: Callable[[str], None]) -> None:
    through("http://")
    assert network(LOOPBACK).text.endswith(
        ": the proxy cannot be reached. Mend or unset https_proxy and http_proxy"
    )
    through("socks5://127.0.0.1:1")
    assert network(LOOPBACK).state == "problem"


def test_silence_ends_after_the_time_out(
    through: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "REACH_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        through(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "no answer in 0 s. Is there a firewall" in network(LOOPBACK).text


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate with openssl")
def test_a_certificate_that_is_not_trusted(tmp_path: Path, through: Callable[[str], None]) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    run(
        tmp_path, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
        "-subj", "/CN=api.kaggle.com", "-keyout", str(key), "-out", str(certificate),
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Inspector(Door):
        def do_CONNECT(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                context.wrap_socket(self.connection, server_side=True).close()
            except (ssl.SSLError, ConnectionError):
                self.close_connection = True

    with serve(Inspector) as address:
        through(address)
        line = network({})
    assert line.state == "problem"
    assert line.text.endswith(
        ": its certificate is not trusted. Where a proxy inspects TLS, run: "
        "export REQUESTS_CA_BUNDLE=FILE, with the proxy's certificates"
    )


def test_certificates_that_are_not_there(
    tmp_path: Path, through: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    through("")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    line = network({})
    assert line.state == "problem"
    assert line.text.endswith("missing.pem. Look at REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE")


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (socket.gaierror(-2, "Name or service not known"), "its name is not found (DNS). Is this machine on the network?"),
        (ConnectionRefusedError(111, "refused"), "no connection. Is this machine on the network?"),
        (TimeoutError(110, "timed out"), "no answer in 5 s. Is there a firewall, or a proxy to be named in https_proxy?"),
    ],
)  # fmt: skip
def test_failures_without_a_proxy(
    failure: OSError,
    text: str,
    through: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise failure

    through("")
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert network({}) == Line("network", "problem", f"https://api.kaggle.com: {text}")


def sign_in_line(
    tmp_path: Path, environ: dict[str, str], sign_in: Callable[[], str]
) -> tuple[list[Line], Line]:
    """The lines of the credentials and of the sign-in, of a whole examination."""
    lines = examine(environment(tmp_path, **LOOPBACK, **environ), tmp_path, tmp_path, sign_in)
    return [line for line in lines if line.name == "credentials"], lines[-1]


def test_nobody_signs_in_without_credentials(
    tmp_path: Path, door: str, through: Callable[[str], None]
) -> None:
    through(door)
    credentials, line = sign_in_line(tmp_path, {}, refuse)
    assert line == Line("sign-in", "note", "not tried without credentials")
    assert [credential.state for credential in credentials] == ["problem"]
    assert credentials[0].text.startswith("no credentials for Kaggle that could serve. Run: ")


def test_nobody_signs_in_without_a_network(tmp_path: Path, through: Callable[[str], None]) -> None:
    through(CLOSED)
    _, line = sign_in_line(tmp_path, TOKEN, refuse)
    assert line == Line("sign-in", "note", "not tried without a network")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KaggleError("Kaggle does not accept SECRET-variable"), "Kaggle does not accept ***"),
        (requests.ConnectionError("https://x.example/y?sig=SECRET"), "https://x.example/y?***"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_a_refused_sign_in_is_a_problem_without_secrets(
    error: Exception, text: str, tmp_path: Path, door: str, through: Callable[[str], None]
) -> None:
    def fail() -> NoReturn:
        raise error

    through(door)
    assert sign_in_line(tmp_path, TOKEN, fail)[1] == Line("sign-in", "problem", text)


def test_another_user_than_the_keys_is_noted(
    tmp_path: Path, door: str, through: Callable[[str], None]
) -> None:
    through(door)
    key = {"KAGGLE_USERNAME": "eve", "KAGGLE_KEY": "SECRET-eve"}
    credentials, line = sign_in_line(tmp_path, key, lambda: "adam")
    assert line == Line("sign-in", "note", "Kaggle knows you as adam, not as eve")
    assert credentials == [
        Line("credentials", "ok", "the key of eve, from KAGGLE_USERNAME and KAGGLE_KEY")
    ]
    assert sign_in_line(tmp_path, key, lambda: "")[1].text == "Kaggle lets you in"


def test_no_secret_is_printed(
    repository: Path,
    through: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
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
    lines = examine(environment(home, **LOOPBACK, **TOKEN), home, repository, refuse)
    assert not print_report(lines)
    shown = capsys.readouterr().out + repr(lines)
    assert "SECRET" not in shown
    assert "through the proxy http://***@127.0.0.1:1" in shown
    assert "remote x https://***@example.org/x (default)" in shown


def test_the_report_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        Line("disk", "ok", "much"),
        Line("network", "note", "slow"),
        Line("network", "note", "far"),
    ]
    assert print_report(lines)
    assert capsys.readouterr().out == (
        "ok       disk     much\n"
        "note     network  slow\n"
        "note              far\n"
    )  # fmt: skip
    assert not print_report([*lines, Line("disk", "problem", "full")])
    assert print_report([])


def test_on_a_terminal_the_table_is_folded_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    print_report([Line("disk", "problem", "no room on it. Run: dvc gc --workspace /a/long-path")])
    assert capsys.readouterr().out == (
        "problem  disk  no room on it. Run: dvc\n"
        "               gc --workspace\n"
        "               /a/long-path\n"
    )  # fmt: skip


def test_the_doctor_starts_without_heavy_libraries() -> None:
    code = (
        "import sys, pipeline.doctor\n"
        "sys.exit(bool({'torch', 'kaggle', 'kagglesdk', 'dvc'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
