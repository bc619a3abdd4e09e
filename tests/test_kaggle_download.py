"""Downloads through the real client arrive whole or not at all, whatever the network does."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from competing import COMPETITION, KEY, command, kaggle_params
from kaggle_server import KaggleServer, serve
from project import COMPETITIONS, PARAMS, ROOT, needs

CSV = b"id,label\n" + b"".join(b"train_%05d,%d\n" % (row, row % 2) for row in range(500))


def zip_bytes(names: list[str], size: int = 4000) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(zipfile.ZipInfo(name), bytes([number % 251]) * size)
    return packed.getvalue()


FILES = {
    "train_data.zip": zip_bytes([f"train_data/train_{row:05}.png" for row in range(500)]),
    "test_data.zip": zip_bytes(["test_data/test_00000.png"]),
    "train_labels.csv": CSV,
    "sample_submission.csv": b"id,label\ntest_00000,0\n",
    "train groups.csv": b"id,patient\ntrain_00000,p1\n",
}


@pytest.fixture
def server() -> Iterator[KaggleServer]:
    with serve(dict(FILES)) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "home").mkdir(parents=True)
    (folder / "params.yaml").write_text(kaggle_params())
    return folder


def raw(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in (folder / "data" / "raw").glob("*")
        if path.name != "MANIFEST.json"
    }


def test_all_pages_of_files_arrive_and_their_hashes_are_recorded(
    server: KaggleServer, project: Path
) -> None:
    done = command(server, project, "download")
    assert done.returncode == 0, done.stderr
    assert raw(project) == FILES
    manifest = json.loads((project / "data/raw/MANIFEST.json").read_text())
    assert manifest["source"] == {"source": "kaggle", "competition": COMPETITION}
    assert {file["name"]: file["sha256"] for file in manifest["files"]} == {
        name: sha256(content).hexdigest() for name, content in FILES.items()
    }
    assert not (project / ".resume").exists() or not list((project / ".resume").iterdir())


def test_a_competition_may_be_given_by_its_address(server: KaggleServer, project: Path) -> None:
    address = f"https://www.kaggle.com/competitions/{COMPETITION}/data"
    params = kaggle_params().replace(f"competition: {COMPETITION}", f"competition: {address!r}")
    (project / "params.yaml").write_text(params)
    assert command(server, project, "download").returncode == 0
    assert raw(project) == FILES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("ListDataFiles", {"kind": "status", "status": 503}),
        ("ListDataFiles", {"kind": "status", "status": 429, "retry_after": 1, "shape": "old"}),
        ("ListDataFiles", {"kind": "html"}),
        ("ListDataFiles", {"kind": "hang", "seconds": 5}),
        ("DownloadDataFile", {"kind": "status", "status": 500}),
        ("DownloadDataFile", {"kind": "drop"}),
        ("DownloadDataFile", {"kind": "zipwrap", "times": 5}),
        ("GET file", {"kind": "cut"}),
        ("GET file", {"kind": "corrupt", "on": {"path": "train_data.zip"}}),
        ("GET file", {"kind": "html"}),
        ("GET file", {"kind": "expired"}),
        ("GET file", {"kind": "expired", "after_cut": True}),
        ("GET file", {"kind": "status", "status": 503}),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.get("status", value["kind"])),
)
def test_after_a_passing_fault_every_byte_is_right(
    server: KaggleServer, project: Path, call: str, fault: dict[str, Any]
) -> None:
    server.fault(call, **fault)
    done = command(server, project, "download")
    assert done.returncode == 0, done.stderr
    assert raw(project) == FILES


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["corrupt", "html"])
def test_a_file_that_is_damaged_each_time_is_an_error_and_nothing_appears(
    server: KaggleServer, project: Path, kind: Any
) -> None:
    server.fault("GET file", kind, times=100, on={"path": "test_data.zip"})
    done = command(server, project, "download")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("KaggleError: ")
    assert "test_data.zip" in done.stderr.splitlines()[-1]
    assert not (project / "data").exists() or not list((project / "data").iterdir())


def test_what_is_complete_survives_a_broken_run(server: KaggleServer, project: Path) -> None:
    server.fault(
        "DownloadDataFile", "status", times=1, status=404, on={"fileName": "train_labels.csv"}
    )
    assert command(server, project, "download").returncode == 1
    assert not (project / "data" / "raw").exists()
    server.calls.clear()
    done = command(server, project, "download")
    assert done.returncode == 0, done.stderr
    assert raw(project) == FILES
    assert "complete since an earlier run" in done.stderr
    asked = [call.body["fileName"] for call in server.called("DownloadDataFile")]
    assert "train_labels.csv" in asked
    assert len(asked) < len(FILES)


def test_a_changed_listing_starts_over(server: KaggleServer, project: Path) -> None:
    server.fault(
        "DownloadDataFile", "status", times=1, status=404, on={"fileName": "train_labels.csv"}
    )
    command(server, project, "download")
    server.files["sample_submission.csv"] += b"test_00001,0\n"
    assert command(server, project, "download").returncode == 0
    assert raw(project) == server.files


def test_files_in_folders_come_as_one_zip_with_the_tables_beside_it(
    server: KaggleServer, project: Path
) -> None:
    server.files = {
        "images/train/a.png": b"a",
        "images/train/b.png": b"b",
        "tables/train.csv": b"id,label\na,0\n",
        "sample_submission.csv": b"id,label\nb,0\n",
    }
    done = command(server, project, "download")
    assert done.returncode == 0, done.stderr
    found = raw(project)
    assert sorted(found) == [f"{COMPETITION}.zip", "sample_submission.csv", "train.csv"]
    assert found["train.csv"] == b"id,label\na,0\n"
    with zipfile.ZipFile(io.BytesIO(found[f"{COMPETITION}.zip"])) as bundle:
        assert bundle.read("images/train/a.png") == b"a"


SETTINGS = "https://www.kaggle.com/settings"
PAGE = f"https://www.kaggle.com/competitions/{COMPETITION}"
REFUSALS = {
    "401": (
        {"kind": "status", "status": 401, "message": "Unauthorized"},
        "Kaggle does not accept the credentials (Unauthorized). python -m pipeline doctor shows "
        f"which are used; new ones: {SETTINGS}, API",
    ),
    "rules": (
        {"kind": "rules"},
        "the rules of the competition are not accepted (You must accept this competition's rules "
        "before you'll be able to download files.). Accept them in a browser, with the same "
        f"account: {PAGE}/rules",
    ),
    "403": (
        {"kind": "status", "status": 403, "message": ""},
        "most likely the rules of the competition are not accepted. Accept them in a browser, "
        f"with the same account: {PAGE}/rules",
    ),
    "phone": (
        {"kind": "status", "status": 403, "message": "Phone verification required"},
        f"Kaggle refuses this account (Phone verification required). See {PAGE}",
    ),
    "404": (
        {"kind": "status", "status": 404, "message": "Not found"},
        f"not found on Kaggle (Not found). Compare the name with the address of its page, {PAGE}",
    ),
    "429": (
        {"kind": "status", "status": 429, "retry_after": 3600, "message": "Too many requests"},
        "too many requests (Too many requests); try again in 3600 s",
    ),
    "500": (
        {"kind": "status", "status": 500, "message": "Oops", "times": 9},
        "an error inside Kaggle, 500 (Oops); try again in some minutes",
    ),
    "silent": (
        {"kind": "hang", "seconds": 60, "times": 9},
        "no answer in time: the cause is at Kaggle or on the way there; try again in some minutes",
    ),
    "page": (
        {"kind": "html", "times": 9},
        "expected JSON, found another page: a sign-in page of the network, or a proxy's error? "
        "Open https://www.kaggle.com in a browser, then try again",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["new", "old"])
@pytest.mark.parametrize("name", REFUSALS)
def test_every_refusal_is_a_sentence_that_says_what_to_do(
    server: KaggleServer, project: Path, name: str, shape: Any
) -> None:
    fault, sentence = REFUSALS[name]
    server.fault("ListDataFiles", **(fault | {"shape": shape}))  # type: ignore[arg-type]
    done = command(server, project, "download", more="client.TIMEOUT_S = 0.5")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"KaggleError: listing the files of {COMPETITION}: {sentence}"
    )
    assert "Traceback" not in done.stderr


def test_without_a_network_the_sentence_says_so(server: KaggleServer, project: Path) -> None:
    done = command(server, project, "download", http_proxy="http://127.0.0.1:9")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == (
        f"KaggleError: listing the files of {COMPETITION}: the proxy cannot be reached. "
        "Check the variables http_proxy and https_proxy"
    )


def test_without_credentials_the_sentence_says_where_to_get_them(
    server: KaggleServer, project: Path
) -> None:
    done = command(server, project, "download", KAGGLE_USERNAME=None, KAGGLE_KEY=None)
    assert done.returncode == 1
    assert done.stderr.startswith("KaggleError: no credentials that Kaggle's client can use: ")
    assert SETTINGS in done.stderr
    assert not server.calls


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"XDG_CONFIG_HOME": "{folder}/params.yaml"}, "NotADirectoryError: [Errno 20] Not a directory: '{folder}/params.yaml/kaggle'"),
        ({"KAGGLE_API_TOKEN": "SECRET" * 50}, "OSError: [Errno 36] File name too long: '***'"),
    ],
    ids=["unusable folder", "long token"],
)  # fmt: skip
def test_where_the_client_itself_fails_the_sentence_says_so(
    server: KaggleServer, project: Path, variables: dict[str, str], reason: str
) -> None:
    given: dict[str, Any] = {n: text.format(folder=project) for n, text in variables.items()}
    done = command(server, project, "download", **given)
    assert done.returncode == 1
    assert done.stderr == (
        f"KaggleError: signing in: Kaggle's client fails ({reason.format(folder=project)}). "
        "Run: python -m pipeline doctor; export KAGGLE_CONFIG_DIR=FOLDER moves the folder that it "
        "writes to\n"
    )


def test_an_unknown_slug_is_refused_before_any_call(server: KaggleServer, project: Path) -> None:
    (project / "params.yaml").write_text(
        kaggle_params().replace(f"competition: {COMPETITION}", "competition: 'not a slug!'")
    )
    done = command(server, project, "download")
    assert done.returncode == 1
    assert "expected a slug or an address" in done.stderr
    assert "found 'not a slug!'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut", "hang", "expired", "corrupt", "status", "drop"])
@pytest.mark.parametrize("call", ["GET file", "ListDataFiles", "IntrospectToken"])
def test_no_secret_is_printed_under_any_fault(
    server: KaggleServer, project: Path, kind: Any, call: str
) -> None:
    secrets = {**KEY, "KAGGLE_API_TOKEN": "good-token"}
    server.fault(call, kind, times=50)
    done = command(
        server, project, "download",
        more="client.TIMEOUT_S = 0.3; client.TRIES = 2; import time; time.sleep = lambda s: None",
        **secrets,
    )  # fmt: skip
    printed = done.stdout + done.stderr
    assert "secret-key" not in printed
    assert "good-token" not in printed
    assert "X-Goog-Signature" not in printed


@pytest.mark.parametrize("module", ["pipeline", "pipeline.__main__", "pipeline.kaggle.client"])
def test_importing_the_pipeline_never_imports_the_client(module: str) -> None:
    code = f"import sys, {module}; sys.exit('kaggle' in sys.modules or 'kagglesdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


DATASET = "iarunava/cell-images-for-detecting-malaria"
CELLS = COMPETITIONS / "malaria-native" / "cells.zip"


@needs(CELLS)
@pytest.mark.parametrize("kind", [None, "cut", "corrupt", "html"])
def test_the_class_competition_is_rebuilt_from_the_served_dataset(
    server: KaggleServer, project: Path, kind: Any
) -> None:
    server.datasets[DATASET] = CELLS.read_bytes()
    if kind:
        server.fault("GET file", kind)
    start, end = PARAMS.index("download:"), PARAMS.index("prepare:")
    source = f"download: {{source: rebuild, dataset: {DATASET}, test_share: 0.2, seed: 1}}\n"
    (project / "params.yaml").write_text(PARAMS[:start] + source + PARAMS[end:])
    done = command(server, project, "download")
    assert done.returncode == 0, done.stderr
    assert sorted(raw(project)) == [
        "sample_submission.csv",
        "test_data.zip",
        "train_data.zip",
        "train_groups.csv",
        "train_labels.csv",
    ]
    assert (project / "data/hidden/solution.csv").read_text().startswith("id,label,Usage\n")
    assert not (project / ".resume" / "download").exists()
