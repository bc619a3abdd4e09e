"""The notebook: its cells' text, its metadata for Kaggle, and its three modes, run to the end."""

import ast
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import numpy as np
import pandas as pd
import pytest
from cards import make_explanation
from competing import make_ready
from pictures import fill
from project import copy_project, digests, environment, processes_with, stage

from pipeline.core import paths
from pipeline.core.errors import KaggleError, NotebookError, OutputError, SubmissionError
from pipeline.core.tables import read_csv
from pipeline.download.config import DrawnCells
from pipeline.download.drawn.competition import draw_competition
from pipeline.notebook import build, kaggle, look
from pipeline.notebook.cells import to_text, write_cells
from pipeline.notebook.kaggle import Publication, describe_dataset, describe_kernel
from pipeline.notebook.needs import PREDICTION, VENDORED, check_packages, list_versions
from pipeline.notebook.show import Page, charts, pictures
from pipeline.params import read_config
from pipeline.report import seen
from pipeline.report.gallery import picture
from pipeline.report.page import render_seen
from pipeline.report.seen import show
from pipeline.report.svg import Chart, Scale

OF = Publication("me", "tiny-submission", "tiny-networks", "cells-x", trains=False, gpu=True)
TEMPLATES: list[tuple[str, dict[str, Any]]] = [
    *(
        ("local.md.j2", {"name": "tiny", "row": row, "engines": {"one": "batched", "probe": None}, "augmented": 2})
        for row in ("image", "signal")
    ),
    *(
        ("kaggle.md.j2", {"published": Publication("me", kernel, "tiny-networks", "cells-x", trains, True),
                          "needed": ["torch"], "code": "code", "packages": "packages", "name": "tiny", "row": "image"})
        for kernel, trains in (("tiny-submission", False), ("tiny-training", True))
    ),
]  # fmt: skip


# The cells


@pytest.mark.parametrize(("template", "facts"), TEMPLATES)
def test_a_cell_is_short_and_calls_the_pipeline_and_text_stands_before_it(
    template: str, facts: dict[str, Any]
) -> None:
    cells = write_cells(template, **facts).cells
    assert [cell.id for cell in cells] == [f"cell-{at:02}" for at in range(len(cells))]
    assert cells[0].source.startswith(f"# {facts['name']}")
    for cell in cells:
        assert "{{" not in cell.source
        assert "{%" not in cell.source
        assert "```python" not in cell.source
        if cell.cell_type == "code":
            assert 1 <= len(cell.source.splitlines()) <= 8
            defined = [
                each
                for each in ast.walk(ast.parse(cell.source))
                if isinstance(each, ast.FunctionDef)
            ]
            assert [each.name for each in defined] in ([], ["find"])  # before there is a pipeline
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert len(cells) - len(code) >= len(code) / 3


@pytest.mark.parametrize(("template", "facts"), TEMPLATES)
def test_a_notebook_passes_the_repositorys_own_lint(
    template: str, facts: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "a.ipynb"
    file.write_text(to_text(write_cells(template, **facts)))
    rules = Path(__file__).parent.parent / "pyproject.toml"
    for command in (["format", "--check"], ["check", "--no-cache"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--config", str(rules), str(file)]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_text_of_a_stranger_stays_text_in_a_drawing() -> None:
    evil = '</text><script>x</script>\x00\u202e&"'
    pixels = np.zeros((8, 8, 3), np.uint8)
    drawn = pictures([(picture(pixels), [evil]), (picture(pixels.astype(np.float32)[0]), ["a"])])
    root = ElementTree.fromstring(drawn._repr_svg_())  # valid XML
    assert {each.tag.partition("}")[2] for each in root.iter()} == {
        "svg", "style", "rect", "image", "title", "text", "polyline"
    }  # fmt: skip
    assert repr(drawn) == "a drawing"


def test_charts_stand_two_in_a_row_with_the_colours_of_the_report() -> None:
    axis = Scale(0.0, 1.0, [0.0, 1.0], "x")
    drawn = charts(*[Chart("a", axis, axis).markup()] * 3)
    root = ElementTree.fromstring(drawn.svg)
    inner = [each for each in root if each.tag.endswith("}svg")]
    assert [(each.get("x"), each.get("y")) for each in inner] == [
        ("0", "0"),
        ("352", "0"),
        ("0", "242"),
    ]
    style = root[0].text or ""
    assert "--s0: #0b62a4" in style
    assert ":root" not in style


def test_a_page_stands_in_a_frame_without_scripts_and_its_text_stays_text() -> None:
    record, drawn = make_explanation("one", "ab" * 32)
    page = Page(render_seen(show(record, drawn), large=False))
    parsed = HTMLParser()
    found: list[dict[str, str | None]] = []
    parsed.handle_starttag = lambda tag, attributes: found.append({"tag": tag, **dict(attributes)})  # type: ignore[method-assign]
    parsed.feed(page._repr_html_())
    (frame,) = found
    assert (frame["tag"], frame["sandbox"], frame["srcdoc"]) == ("iframe", None, page.html)
    assert "Grad-CAM" in page.html
    assert repr(page) == "a page"


def test_pictures_of_noise_for_all_sections_have_less_than_five_megabytes() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (96, 96, 3), np.uint8)
    engines, kinds = 2, 3  # classes, duplicates and mistakes
    tiles = kinds * look.MOST_PICTURES + engines * build.AUGMENTED * 4
    svg = len(pictures([(picture(noise), ["a caption"])] * tiles).svg)
    assert svg + seen.MOST_BYTES < 5_000_000


@pytest.mark.parametrize("labels", [["a", "b"], ["a"], list("abcdefghijklmnopqrstu")])
def test_each_class_is_shown_until_there_is_no_place(labels: list[str]) -> None:
    rows = [f"{number}" for number in range(63)]
    table = pd.DataFrame(
        {"image_id": rows, "label": [labels[at % len(labels)] for at in range(63)]}
    )
    images = np.zeros((63, 8, 8, 3), np.uint8)
    drawn = look.show_classes(look.ShownImages(images, table))
    shown = re.findall(r"<title>(\w), \d+</title>", drawn.svg)
    assert len(shown) <= look.MOST_PICTURES
    assert len(set(shown)) >= min(len(labels), look.MOST_PICTURES // 2)


# What Kaggle's client and its image ask


def test_kaggles_client_accepts_both_metadata_files(tmp_path: Path) -> None:
    fill(tmp_path, {
        "kernel/kernel-metadata.json": json.dumps(describe_kernel(OF)).encode(),
        "kernel/tiny-submission.ipynb": to_text(write_cells(TEMPLATES[2][0], **TEMPLATES[2][1])).encode(),
        "dataset/dataset-metadata.json": json.dumps(describe_dataset(OF)).encode(),
    })  # fmt: skip
    code = """
import sys
from kaggle.api.kaggle_api_extended import KaggleApi

class Reached(Exception):
    "All checks are passed: what comes next is the network."

def reach(*_):
    raise Reached

api = KaggleApi()
api.config_values = {"username": "me"}
api.build_kaggle_client = api.dataset_status = reach
for call, folder in ((api.kernels_push, "kernel"), (api.dataset_create_new, "dataset")):
    try:
        call(folder)
    except Reached:
        print("reached", folder)
"""
    keys = {"HOME": str(tmp_path), "KAGGLE_USERNAME": "me", "KAGGLE_KEY": "0" * 32}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment() | keys, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["reached kernel", "reached dataset"], done.stderr


def test_the_notebook_of_kaggle_has_no_internet_and_names_its_inputs() -> None:
    kernel = describe_kernel(OF)
    assert kernel["enable_internet"] is False
    assert kernel["is_private"] is True
    assert kernel["dataset_sources"] == ["me/tiny-networks"] == [describe_dataset(OF)["id"]]
    assert kernel["competition_sources"] == ["cells-x"]


def test_packages_are_compared_with_those_that_made_the_notebook(tmp_path: Path) -> None:
    here = list_versions(PREDICTION)
    assert all(here.values())
    file = tmp_path / "versions.json"
    file.write_text(json.dumps(here))
    assert check_packages(file, PREDICTION).endswith(", as where it was made.")
    file.write_text(json.dumps(here | {"torch": "1.0"}))
    assert check_packages(file, PREDICTION).endswith(", but it was made with torch 1.0.")
    with pytest.raises(NotebookError, match=r"not here: no.such, none\. Choose Kaggle's latest"):
        check_packages(file, PREDICTION | {"no.such": "no.such", "none": "none"})


def test_the_packages_that_come_along_are_python_alone(tmp_path: Path) -> None:
    kaggle._copy_packages(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".so", ".pyd", ".pyc")]
    code = f"import {', '.join(each.replace('-', '_') for each in VENDORED)}; print(typer.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith(str(tmp_path)), done.stderr


# What is refused


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a submission and nothing that was trained."""
    make_ready(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "project"


def test_before_a_run_the_command_says_so(ready: Path) -> None:
    config = read_config(paths.PARAMS)
    (ready / "submissions/tiny.csv").unlink()
    for attempt in (
        lambda: build.run(config),
        lambda: build.publish(config, "me", "cells-x", trains=False),
    ):
        with pytest.raises(
            SubmissionError, match=r"^submissions/tiny.csv: no such file. Run: make"
        ):
            attempt()
    assert not (ready / "notebooks").exists()


def test_a_notebook_that_a_person_wrote_or_changed_stays(ready: Path) -> None:
    fill(ready, {"notebooks/tiny.ipynb": b"mine", "notebooks/tiny-kaggle/mine.txt": b"mine"})
    config = read_config(paths.PARAMS)
    with pytest.raises(OutputError, match=r"^notebooks/tiny.ipynb: expected nothing there"):
        build.run(config)
    with pytest.raises(OutputError, match=r"^notebooks/tiny-kaggle/mine.txt: expected nothing"):
        build.publish(config, "me", "cells-x", trains=False)
    assert (ready / "notebooks/tiny.ipynb").read_bytes() == b"mine"


def test_without_a_user_the_command_says_how_to_name_one(ready: Path) -> None:
    config = read_config(paths.PARAMS)
    with pytest.raises(
        KaggleError, match=r"found ''. Add --user NAME, which stands in the address"
    ):
        build.publish(config, None, "cells-x", trains=True)
    assert not (ready / "notebooks").exists()


def test_what_cannot_be_trained_without_internet_is_refused(ready: Path) -> None:
    text = (ready / "params.yaml").read_text()
    own = "{family: small, name: vgg, width: 4, stages: 2, dropout: 0.1}"
    assert own in text
    fetched = "{family: timm, name: resnet18, pretrained: true, weights: null, dropout: 0.0, drop_path: null}"
    (ready / "params.yaml").write_text(text.replace(own, fetched))
    with pytest.raises(NotebookError, match=r"train.models.one.network: pretrained: true fetches"):
        build.publish(read_config(paths.PARAMS), "me", "cells-x", trains=True)
    assert not (ready / "notebooks").exists()


def test_without_the_libraries_the_command_names_the_one_that_installs_them(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nbclient", None)
    with pytest.raises(
        NotebookError, match=r"^a notebook needs nbclient\. Run: python -m pip inst"
    ):
        build.publish(read_config(paths.PARAMS), "me", "cells-x", trains=True)
    assert not (ready / "notebooks").exists()


# The three modes


def run_cells(file: Path, folder: Path, variables: dict[str, str]) -> Any:
    """Run a notebook in a folder, with no way to this repository, and return it."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
        "import nbformat\nfrom pathlib import Path\nfrom pipeline.notebook import cells\n"
        f"notebook = nbformat.read({str(file)!r}, 4)\n"
        f"cells.execute(notebook, Path({str(folder)!r}))\n"
        f"Path({str(file)!r}).write_text(cells.to_text(notebook))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment() | variables, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(file, 4)


LACKING = """
import socket
from importlib.machinery import PathFinder as _PathFinder

class _Local(socket.socket):
    def connect(self, address):
        assert self.family == socket.AF_UNIX, f"no network: {address}"
        super().connect(address)

socket.socket = _Local
_known = _PathFinder.find_spec
_PathFinder.find_spec = lambda name, *more: None if name.split(".")[0] in LACKED else _known(name, *more)
"""
"""A first cell that takes the network away, and what Kaggle's image may lack."""

LACKED = ["dvc", "kaggle", "kagglesdk", "nbformat", "nbclient", "requests"]
TO_TRAIN = ["albumentations", "sklearn", "jinja2", "markupsafe", "filelock", "threadpoolctl"]


@pytest.fixture(scope="module")
def packed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained project with both folders for Kaggle."""
    project = copy_project(trained, tmp_path_factory.mktemp("packed") / "project")
    for mode in ("--kaggle", "--train"):
        done = stage(project, "notebook", mode, "--user", "me", "--competition", "cells-x")
        assert done.returncode == 0, done.stdout
        assert "kaggle kernels push -p notebooks/tiny-kaggle" in done.stdout
    return project


def on_kaggle(
    project: Path, folder: Path, raw: Path, mode: str, lacked: list[str]
) -> tuple[Path, Any]:
    """Run a notebook as Kaggle does: the inputs are unpacked folders, the output another one."""
    made, working = project / "notebooks" / mode, folder / "working"
    named = json.loads((made / "dataset/dataset-metadata.json").read_text())["id"].split("/")[1]
    shutil.copytree(made / "dataset", folder / "input/datasets/me" / named)
    inputs = folder / "input/cells-x"
    inputs.mkdir()
    for file in raw.iterdir():
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                archive.extractall(inputs / file.stem)
        else:
            shutil.copy(file, inputs)
    working.mkdir()
    (source,) = (made / "kernel").glob("*.ipynb")
    notebook = nbformat.read(source, 4)
    first = LACKING.replace("LACKED", repr(lacked))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(first, id="lacking"))
    file = folder / "a.ipynb"
    file.write_text(to_text(notebook))
    before = digests(folder / "input", "**/*")
    with tempfile.TemporaryDirectory() as temporary:  # short, for the names of sockets
        variables = {
            "KAGGLE_INPUT_DIR": str(folder / "input"), "KAGGLE_WORKING_DIR": str(working),
            "TMPDIR": temporary, "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        ran = run_cells(file, working, variables)
    assert digests(folder / "input", "**/*") == before
    return working, ran


@pytest.mark.slow
def test_here_it_runs_to_the_end_and_twice_to_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    project = copy_project(trained, tmp_path / "project")
    made = ("models/**/*", "submissions/*", "data/**/*", "reports/*", "folds/*")
    before = digests(project, *made)
    first = stage(project, "notebook")
    assert first.returncode == 0, first.stdout
    file = project / "notebooks/tiny.ipynb"
    text = file.read_text()
    assert len(text.encode()) < 5_000_000
    assert first.stdout == (
        "notebooks/tiny.ipynb: running its cells\n"
        f"notebooks/tiny.ipynb: {len(text.encode()) / 1e6:.1f} MB, open it in Jupyter\n"
    )
    again = stage(project, "notebook", "--local")
    assert again.returncode == 0, again.stdout
    assert file.read_text() == text
    assert digests(project, *made) == before
    assert str(project) not in text
    notebook = nbformat.reads(text, 4)
    outputs = [each for cell in notebook.cells if cell.cell_type == "code" for each in cell.outputs]
    assert {each.output_type for each in outputs} == {"execute_result", "stream"}
    assert {each.name for each in outputs if each.output_type == "stream"} == {"stdout"}
    assert sum("image/svg+xml" in each.get("data", {}) for each in outputs) >= 8
    shown = "".join(
        str(each.get("text", each.get("data", {}).get("text/plain"))) for each in outputs
    )
    assert "one of 2 classes" in shown
    assert "accuracy" in shown
    assert "epochs: 20" in shown
    assert read_csv(project / "submissions/tiny.csv").iloc[0, 0] in shown
    pages = [each["data"]["text/html"] for each in outputs if "iframe" in str(each.get("data"))]
    assert len(pages) == 2
    assert "What one sees" in pages[0]

    file.write_text(text + " ")
    refused = stage(project, "notebook")
    assert refused.returncode == 1
    assert "OutputError: notebooks/tiny.ipynb: " in refused.stdout


@pytest.mark.slow
def test_after_ctrl_c_nothing_is_left_of_a_notebook_and_nothing_runs_on(
    trained: Path, tmp_path: Path
) -> None:
    project, mark = copy_project(trained, tmp_path / "project"), "NOTEBOOK_OF_A_TEST=1"
    name, _, value = mark.partition("=")
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "notebook"], cwd=project, text=True,
        env=environment() | {name: value}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "notebooks/tiny.ipynb: running its cells\n"
    while len(processes_with(mark)) < 2:  # the kernel, too
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "interrupted: the same command goes on where it was\n"
    assert not (project / "notebooks").exists()
    deadline = time.monotonic() + 20
    while processes_with(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_with(mark) == {}


@pytest.mark.slow
def test_on_kaggle_it_predicts_whatever_test_images_are_there(packed: Path, tmp_path: Path) -> None:
    drawn = DrawnCells(source="synthetic", kind="cells", train_images=20, test_images=37,
                       patients=8, wrong_labels=0.0, duplicates=0.0, seed=5)  # fmt: skip
    raw = tmp_path / "raw"
    raw.mkdir()
    (tmp_path / "hidden").mkdir()
    draw_competition(drawn, raw, tmp_path / "hidden")
    working, ran = on_kaggle(packed, tmp_path, raw, "tiny-kaggle", [*LACKED, *TO_TRAIN])
    made, sample = read_csv(working / "submission.csv"), read_csv(raw / "sample_submission.csv")
    assert list(made["id"]) == list(sample["id"])
    assert len(made) == 37 > 24
    assert list(made.columns) == list(sample.columns)
    assert set(made["label"]) <= {"0", "1"}
    assert [path.name for path in working.iterdir()] == ["submission.csv"]
    shown = "".join(each.get("text", "") for cell in ran.cells for each in cell.get("outputs", []))
    assert "its rows are not those of" in shown


@pytest.mark.slow
def test_on_kaggle_it_trains_the_same_networks_from_the_start(packed: Path, tmp_path: Path) -> None:
    working, ran = on_kaggle(packed, tmp_path, packed / "data/raw", "tiny-kaggle-train", LACKED)
    assert (working / "submission.csv").read_bytes() == (
        packed / "submissions/tiny.csv"
    ).read_bytes()
    networks = digests(working / "models", "**/*.safetensors")
    assert networks == digests(packed / "models", "**/*.safetensors")
    drawn = [each for cell in ran.cells for each in cell.get("outputs", [])
             if "image/svg+xml" in each.get("data", {})]  # fmt: skip
    assert len(drawn) == 3


@pytest.mark.slow
def test_the_folder_for_kaggle_has_the_same_bytes_twice(packed: Path) -> None:
    folder = packed / "notebooks/tiny-kaggle"
    before = digests(folder, "**/*")
    names = {name.split("/")[1] for name in before if name.startswith("dataset/")}
    assert names == {"code", "packages", "models", "submissions", "dataset-metadata.json"}
    assert not [name for name in before if "__pycache__" in name or "/data/" in name]
    done = stage(packed, "notebook", "--kaggle", "--user", "me", "--competition", "cells-x")
    assert done.returncode == 0, done.stdout
    assert digests(folder, "**/*") == before
