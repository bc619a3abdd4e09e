"""A module imports from lower floors only, so that a newcomer can read from the ground up."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.scoring.metrics import METRICS

ROOT = Path(__file__).parent.parent
PIPELINE = ROOT / "pipeline"
FLOORS = [
    ["core"],
    ["raw", "scoring", "kaggle", "split"],
    ["download", "prepare", "train", "ensemble", "check", "report"],
    ["explain"],
    ["params"],
    ["ledger"],
    ["predict"],
    ["commands"],
    ["winner", "cluster"],
    ["notebook"],
    ["__main__"],
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
FILES = sorted(PIPELINE.rglob("*.py"))


def room(module: str) -> str:
    """`pipeline.train.fit` is in the room `train`."""
    return module.split(".")[1]


def imported_rooms(file: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pipeline"):
            modules = (
                [node.module] if "." in node.module else [f"pipeline.{a.name}" for a in node.names]
            )
            rooms |= {room(module) for module in modules}
    return rooms


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_imports_from_lower_floors_only(file: Path) -> None:
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    if name == "pipeline.__init__":
        assert not imported_rooms(file)
        return
    own = room(name)
    higher = [
        other for other in imported_rooms(file) if other != own and FLOOR[other] >= FLOOR[own]
    ]
    assert not higher


def test_no_module_lies_loose_and_no_room_is_unknown() -> None:
    loose = {path.stem for path in PIPELINE.glob("*.py")}
    assert loose == {"__init__", "__main__", "params"}
    rooms = {path.parent.name for path in PIPELINE.glob("*/__init__.py")}
    assert rooms | {"params", "__main__"} == set(FLOOR)


def test_a_type_has_a_name_of_its_own() -> None:
    names = [
        node.name
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    assert [name for name in sorted(set(names)) if names.count(name) > 1] == []


def test_no_module_asks_for_a_metrics_name() -> None:
    """What depends on the metric is an attribute of the metric."""
    asked = [
        f"{file}: {ast.unparse(node)}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Compare)
        for side in [node.left, *node.comparators]
        if isinstance(side, ast.Constant) and side.value in METRICS
    ]
    assert asked == []


@pytest.mark.parametrize(
    ("module", "libraries"),
    [
        ("__main__", "torch timm albumentations sklearn kaggle dvc"),
        ("split.stage", "torch timm albumentations cv2"),
        ("check.stage", "torch timm albumentations cv2 sklearn scipy"),
        ("ensemble.stage", "torch timm albumentations cv2 sklearn scipy"),
        ("report.stage", "torch timm albumentations cv2 sklearn scipy"),
        ("commands.summary", "torch timm albumentations cv2 sklearn pandas"),
        ("commands.doctor", "torch kaggle kagglesdk dvc"),
        ("kaggle.client", "kaggle kagglesdk"),
        ("kaggle.credentials", "kaggle kagglesdk requests"),
        ("prepare.stage", "torch timm albumentations sklearn"),
        ("train.stage", "timm sklearn albumentations cv2"),
        ("notebook.build", "torch timm albumentations cv2 sklearn nbformat nbclient ipykernel"),
        ("notebook.there", "dvc albumentations sklearn nbformat nbclient jinja2 kaggle requests"),
    ],
)
def test_a_command_starts_with_what_it_uses_alone(module: str, libraries: str) -> None:
    code = (
        f"import sys, pipeline.{module}\n"
        f"sys.exit(' '.join(set(sys.modules) & set({libraries.split()!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
