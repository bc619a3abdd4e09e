"""A module imports from lower floors only, so that a newcomer can read from the ground up."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [
    ["errors", "shapes"],
    ["files", "progress", "config"],
    ["tables", "metrics", "competition", "paths", "kaggle", "gallery"],
    ["archive"],
    ["candidates"],
    ["download", "prepare", "folds", "noise"],
    ["train"],
    ["ensemble"],
    ["leaderboard"],
    ["report"],
    ["stages", "profiles", "doctor", "jobs"],
    ["__main__"],
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
FILES = sorted((ROOT / "pipeline").rglob("*.py"))


def part(module: str) -> str:
    """`pipeline.train.fit` is of the part `train`."""
    return module.split(".")[1]


def imported_parts(file: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pipeline"):
            modules = (
                [node.module] if "." in node.module else [f"pipeline.{a.name}" for a in node.names]
            )
            parts |= {part(module) for module in modules}
    return parts


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_imports_from_lower_floors_only(file: Path) -> None:
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    if name == "pipeline.__init__":
        assert not imported_parts(file)
        return
    own = part(name)
    higher = [
        other for other in imported_parts(file) if other != own and FLOOR[other] >= FLOOR[own]
    ]
    assert not higher


@pytest.mark.parametrize("library", ["torch", "timm", "albumentations", "sklearn", "kaggle", "dvc"])
def test_the_command_line_starts_without_heavy_libraries(library: str) -> None:
    code = f"import sys, pipeline.__main__; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("stage", "libraries"),
    [
        ("split", "torch timm albumentations cv2"),
        ("check", "torch timm albumentations cv2 sklearn scipy"),
        ("ensemble", "torch timm albumentations cv2 sklearn scipy"),
        ("report", "torch timm albumentations cv2 sklearn scipy"),
        ("summary", "torch timm albumentations cv2 sklearn pandas"),
        ("prepare", "torch timm albumentations sklearn"),
        ("train", "timm sklearn albumentations cv2"),
    ],
)
def test_a_stage_starts_with_what_it_uses_alone(stage: str, libraries: str) -> None:
    code = (
        f"import sys, pipeline.stages.{stage}\n"
        f"sys.exit(' '.join(set(sys.modules) & set({libraries.split()!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
