"""Downloads through the real client arrive whole or not at all, whatever the network does."""

import gzip
import json
import subprocess
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from competing import COMPETITION, command, kaggle_params
from kaggle_server import RULES, KaggleServer, serve, zip_of
from pictures import seven_zip_of, tar_of
from project import COMPETITIONS, PARAMS, needs

from pipeline.raw.files import RawFiles

FILES = {
    "train_data.zip": zip_of({f"train_data/train_{row:05}.png": b"picture" for row in range(500)}),
    "test_data.zip": zip_of({"test_data/test_00000.png": b"picture"}),
    # Two MiB, so that the client keeps the first one after a cut.
    "train_labels.csv": b"id,label\n" + b"".join(b"train_%06d,0\n" % row for row in range(150_000)),
    "sample_submission.csv": b"id,label\ntest_00000,0\n",
    "train groups.csv": b"id,patient\ntrain_00000,p1\n",
}
FAILED_LABELS: dict[str, Any] = {
    "call": "DownloadDataFile", "kind": "status", "status": 404, "on": {"fileName": "train_labels.csv"},
}  # fmt: skip


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


def write_source(project: Path, source: str) -> None:
    start, end = PARAMS.index("download:"), PARAMS.index("prepare:")
    (project / "params.yaml").write_text(f"{PARAMS[:start]}download: {source}\n{PARAMS[end:]}")


def raw(folder: Path) -> dict[str, bytes]:
    paths = (folder / "data" / "raw").glob("*")
    return {path.name: path.read_bytes() for path in paths}


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a command that failed."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_all_pages_of_files_arrive_and_their_hashes_are_recorded(
    server: KaggleServer, project: Path
) -> None:
    done = command(server, project, "download")
    assert done.returncode == 0, done.stderr
    assert raw(project) == FILES
    manifest = json.loads((project / "data/hidden/MANIFEST.json").read_text())
    assert manifest["source"] == {"source": "kaggle", "competition": COMPETITION}
    assert {file["name"]: file["sha256"] for file in manifest["raw"]} == {
        name: sha256(content).hexdigest() for name, content in FILES.items()
    }
    assert sorted(path.name for path in (project / "data").iterdir()) == ["hidden", "raw"]


OTHER_DISK = Path("/dev/shm")


@pytest.mark.skipif(not OTHER_DISK.is_dir(), reason="there is no second file system here")
def test_the_data_may_lie_on_another_disk(server: KaggleServer, project: Path) -> None:
    with tempfile.TemporaryDirectory(dir=OTHER_DISK) as disk:
        (project / "data").symlink_to(disk)
        assert (project / "data").stat().st_dev != project.stat().st_dev
        done = command(server, project, "download")
        assert done.returncode == 0, done.stderr
        assert raw(project) == FILES


def test_a_competition_may_be_given_by_its_address(server: KaggleServer, project: Path) -> None:
    address = f"https://www.kaggle.com/competitions/{COMPETITION}/data"
    write_source(project, f"{{source: kaggle, competition: {address!r}}}")
    assert command(server, project, "download").returncode == 0
    assert raw(project) == FILES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("ListDataFiles", {"kind": "status", "status": 503}),
        ("ListDataFiles", {"kind": "status", "status": 429, "retry_after": 1, "shape": "old"}),
        ("ListDataFiles", {"kind": "hang", "seconds": 5}),
        ("DownloadDataFile", {"kind": "drop"}),
        ("DownloadDataFile", {"kind": "zipwrap", "times": 5}),
        ("GET file", {"kind": "cut", "on": {"path": "train_labels.csv"}}),
        ("GET file", {"kind": "corrupt", "on": {"path": "train_data.zip"}}),
        ("GET file", {"kind": "html"}),
        ("GET file", {"kind": "expired"}),
        ("GET file", {"kind": "expired", "after_cut": True, "on": {"path": "train_labels.csv"}}),
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
    assert last_line(done).startswith("KaggleError: test_data.zip: arrived damaged: ")
    assert [path.name for path in (project / "data").iterdir()] == [".download"]  # the others
    assert not list((project / "data" / ".download").rglob("test_data*"))


def test_what_is_complete_survives_a_broken_run(server: KaggleServer, project: Path) -> None:
    server.fault(**FAILED_LABELS)
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
    server.fault(**FAILED_LABELS)
    command(server, project, "download")
    server.files["sample_submission.csv"] += b"test_00001,0\n"
    assert command(server, project, "download").returncode == 0
    assert raw(project) == server.files


def test_files_in_folders_come_as_one_zip_whose_tables_are_read_in_it(
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
    bundle = f"{COMPETITION}.zip"
    assert list(raw(project)) == [bundle]
    with RawFiles(project / "data" / "raw") as tree:
        assert {path: file.read_bytes() for path, file in tree.tables.items()} == {
            f"{bundle}/tables/train.csv": b"id,label\na,0\n",
            f"{bundle}/sample_submission.csv": b"id,label\nb,0\n",
        }
        assert tree.images.read(f"{bundle}/images/train/a.png") == b"a"


def test_archives_of_all_kinds_arrive_as_they_are_listed(
    server: KaggleServer, project: Path
) -> None:
    images = {"train/a.png": b"a" * 999}
    server.files = {
        "train.7z": seven_zip_of(images),
        "test.tar.gz": tar_of(images, mode="w:gz"),
        "train.csv.zip": zip_of({"train.csv": b"id,label\na,0\n"}),
        "sample_submission.csv.gz": gzip.compress(b"id,label\nb,0\n"),
    }
    server.fault("GET file", kind="corrupt", on={"path": "train.7z"})
    done = command(server, project, "download")
    assert done.returncode == 0, done.stderr
    assert raw(project) == server.files
    assert "train.7z: arrived damaged" in done.stderr
    with RawFiles(project / "data" / "raw") as tree:
        assert list(tree.tables) == ["sample_submission.csv.gz", "train.csv.zip/train.csv"]
        assert tree.images.members == ["test.tar.gz/train/a.png", "train.7z/train/a.png"]


def test_a_file_named_as_our_manifest_arrives_beside_it(
    server: KaggleServer, project: Path
) -> None:
    server.files |= {"MANIFEST.json": b"the competition's own", "manifest.csv": b"a\n"}
    done = command(server, project, "download")
    assert done.returncode == 0, done.stderr
    assert raw(project) == server.files
    manifest = json.loads((project / "data/hidden/MANIFEST.json").read_text())
    assert [file["name"] for file in manifest["raw"]] == sorted(server.files)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([".train.csv.partial", "..", "a\0b", "NUL.csv"], "4 of 9 names otherwise (first: '..', "),
        (["Train_Data.ZIP"], "2 of 6 names otherwise (first: Train_Data.ZIP, train_data.zip)"),
    ],
)
def test_a_name_that_cannot_be_stored_is_an_error_before_any_file(
    server: KaggleServer, project: Path, names: list[str], found: str
) -> None:
    server.files |= dict.fromkeys(names, b"a")
    done = command(server, project, "download")
    assert last_line(done).startswith(f"KaggleError: {COMPETITION}: expected names ")
    assert found in last_line(done)
    assert not server.called("DownloadDataFile")


PAGE = f"https://www.kaggle.com/competitions/{COMPETITION}"
NOT_JOINED = (
    "either the rules of the competition are not accepted, or no competition has this name{}. Join "
    f"and accept them in a browser, with the same account: {PAGE}/rules; if there is no such page, "
    "correct the name"
)
DENIED = "Permission 'competitions.participate' was denied"
REFUSALS = {
    "401": (
        {"kind": "status", "status": 401, "message": "Unauthorized"},
        "Kaggle does not accept the credentials (Unauthorized). python -m pipeline doctor shows "
        "which are used; new ones: https://www.kaggle.com/settings, API",
    ),
    "rules": ({"kind": "rules"}, NOT_JOINED.format(f" ({RULES})")),
    "403": ({"kind": "status", "status": 403, "message": ""}, NOT_JOINED.format("")),
    "denied": (
        {"kind": "status", "status": 403, "message": DENIED},
        NOT_JOINED.format(f" ({DENIED})"),
    ),
    "phone": (
        {"kind": "status", "status": 403, "message": "Phone verification required", "shape": "old"},
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
@pytest.mark.parametrize(("fault", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_every_refusal_is_a_sentence_that_says_what_to_do(
    server: KaggleServer, project: Path, fault: dict[str, Any], sentence: str
) -> None:
    server.fault("ListDataFiles", **fault)
    done = command(server, project, "download", more="client.TIMEOUT_S = 0.5")
    assert last_line(done) == f"KaggleError: listing the files of {COMPETITION}: {sentence}"


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"http_proxy": "http://127.0.0.1:9"},
            f"listing the files of {COMPETITION}: the proxy cannot be reached. Check the variable "
            "http_proxy",
        ),
        (
            {"KAGGLE_USERNAME": None, "KAGGLE_KEY": None},
            "no credentials for Kaggle. Run: kaggle auth "
            "login; or press Generate New Token on https://www.kaggle.com/settings/api and save the "
            "token in {folder}/home/.kaggle/access_token (then chmod 600), or export "
            "KAGGLE_API_TOKEN=TOKEN. A legacy kaggle.json belongs in {folder}/home/.config/kaggle",
        ),
        (
            {"KAGGLE_API_TOKEN": "SECRET" * 50},
            "signing in: Kaggle's client fails (OSError: [Errno 36] File name too long: '***'). "
            "Run: python -m pipeline doctor; "
            "export KAGGLE_CONFIG_DIR=FOLDER moves the folder that it writes to",
        ),
    ],
    ids=["no network", "no credentials", "long token"],
)
def test_a_machine_that_cannot_sign_in_is_a_sentence(
    server: KaggleServer, project: Path, variables: dict[str, str | None], sentence: str
) -> None:
    given: dict[str, Any] = {
        name: text and text.format(folder=project) for name, text in variables.items()
    }
    done = command(server, project, "download", **given)
    assert last_line(done) == f"KaggleError: {sentence.format(folder=project)}"
    assert not server.calls


def test_a_text_that_is_no_slug_is_refused_before_any_call(
    server: KaggleServer, project: Path
) -> None:
    write_source(project, "{source: kaggle, competition: 'not a slug!'}")
    assert last_line(command(server, project, "download")).endswith(
        "params.yaml: download.competition: expected a slug or an address, as titanic or "
        "https://www.kaggle.com/competitions/titanic; found 'not a slug!'"
    )
    assert not server.calls


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("GET file", "expired"),
        *product(["GET file", "ListDataFiles", "IntrospectToken"], ["cut", "status", "drop"]),
    ],
)
def test_no_secret_is_printed_under_any_fault(
    server: KaggleServer, project: Path, call: str, kind: Any
) -> None:
    server.fault(call, kind, times=50)
    done = command(
        server, project, "download",
        more="client.TIMEOUT_S = 0.3; client.TRIES = 2; import time; time.sleep = lambda s: None",
        KAGGLE_API_TOKEN="good-token",
    )  # fmt: skip
    printed = done.stdout + done.stderr
    assert not [one for one in ("secret-key", "good-token", "X-Goog-Signature") if one in printed]


DATASET = "iarunava/cell-images-for-detecting-malaria"
CELLS = COMPETITIONS / "malaria-native" / "cells.zip"


@needs(CELLS)
def test_the_class_competition_is_rebuilt_from_the_served_dataset(
    server: KaggleServer, project: Path
) -> None:
    server.datasets[DATASET] = CELLS.read_bytes()
    server.fault("GET file", "cut")
    server.fault("GET file", "html")
    write_source(project, f"{{source: rebuild, dataset: {DATASET}, test_share: 0.2, seed: 1}}")
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
    assert not (project / "data" / ".download").exists()
