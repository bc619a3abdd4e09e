"""dvc.yaml names all that a stage depends on: DVC looks at nothing else."""

import ast
import sys
from pathlib import Path

import pytest
from project import ROOT, make_project, run
from ruamel.yaml import YAML

from pipeline.core import paths
from pipeline.params import Config

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def module_file(name: str) -> Path | None:
    """The file of a module of the project, None for a library's."""
    path = ROOT / Path(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def imported_files(file: Path) -> set[Path]:
    """The project's files that a file imports itself, anywhere in it, packages included."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    names |= {
        ".".join(name.split(".")[:n]) for name in names for n in range(1, name.count(".") + 1)
    }
    return {found for name in names if (found := module_file(name)) and name.startswith("pipeline")}


def true_imports(stage: str) -> list[str]:
    """Everything that a stage's module imports, and what that imports."""
    seen: set[Path] = set()
    left = {module_file(f"pipeline.{stage}.stage") or ROOT / "pipeline" / f"{stage}.py"}
    while left:
        file = left.pop()
        seen.add(file)
        left |= imported_files(file) - seen
    return sorted(str(file.relative_to(ROOT)) for file in seen)


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_names_each_folder_that_a_stage_reaches_and_no_other(stage: str) -> None:
    named = sorted(dep for dep in STAGES[stage]["deps"] if dep.startswith("pipeline/"))
    reached = {"/".join(Path(file).parts[:2]) for file in true_imports(stage)}
    assert named == sorted(reached - {"pipeline/__init__.py"})


@pytest.mark.slow
def test_a_new_module_makes_its_own_stage_stale_and_compiled_code_makes_none(
    tmp_path: Path,
) -> None:
    project = make_project(tmp_path / "project")

    def status() -> str:
        done = run(project, "dvc", "status", "download", "prepare", "split")
        assert done.returncode == 0, done.stdout
        return done.stdout

    assert run(project, "dvc", "repro", "split").returncode == 0
    for folder in project.glob("pipeline/**/__pycache__"):
        for file in folder.iterdir():
            file.unlink()
    code = "import sys; sys.dont_write_bytecode = False; import pipeline.prepare.stage"
    assert run(project, sys.executable, "-c", code).returncode == 0
    assert list(project.glob("pipeline/prepare/__pycache__/*.pyc"))
    assert "up to date" in status()
    (project / "pipeline" / "prepare" / "more.py").write_text("ANSWER = 42\n")
    assert "prepare:\n\tchanged deps:\n\t\tmodified:           pipeline/prepare\n" in status()
    assert not [stage for stage in ("download:", "split:") if stage in status()]


@pytest.mark.parametrize("stage", ["download", "prepare", "split", "ensemble"])
def test_dvc_names_the_whole_section_of_a_stage(stage: str) -> None:
    assert stage in STAGES[stage]["params"]


def test_every_section_is_checked_before_any_other_stage_runs() -> None:
    assert STAGES["params"]["params"] == list(Config.model_fields)
    (checked,) = STAGES["params"]["outs"]
    assert paths.CHECKED.as_posix() in checked
    first = [name for name, stage in STAGES.items() if paths.CHECKED.as_posix() in stage["deps"]]
    assert first == ["download"]
    for name in set(STAGES) - {"params", "download"}:
        made = ("data/raw", "data/hidden", "data/store", "folds", "models", "submissions")
        assert any(dep.startswith(made) for dep in STAGES[name]["deps"])


def test_one_model_of_train_depends_on_its_own_parameters_only() -> None:
    assert STAGES["train"]["params"] == [
        "train.device",
        "train.threads",
        "train.world",
        "train.sync_batch_norm",
        "train.models.${item.member}",
    ]


def test_only_check_depends_on_hidden_files() -> None:
    hidden = [name for name, stage in STAGES.items() if any("hidden" in d for d in stage["deps"])]
    assert hidden == ["check"]


def names_in(file: Path) -> set[str]:
    """Names, attributes and texts of a file's code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Constant(value=str(text)):
                found.add(text)
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                found.add(name)
    return found


def hidden_names(file: Path) -> set[str]:
    """What in a file's code leads to the hidden files: names in core/paths.py, or their paths."""
    names = names_in(file)
    hidden = {"HIDDEN", "SOLUTION", "hidden", "solution.csv"}
    return names & hidden | {name for name in names if "data/hidden" in name}


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"download", "check"}))
def test_no_code_of_another_stage_names_the_hidden_files(stage: str) -> None:
    files = {ROOT / file for file in true_imports(stage)} - {
        ROOT / "pipeline" / "core" / "paths.py"
    }
    assert not {str(file): found for file in files if (found := hidden_names(file))}


@pytest.mark.parametrize("stage", ["download", "check"])
def test_the_names_of_the_hidden_files_are_found_where_they_stand(stage: str) -> None:
    assert hidden_names(ROOT / "pipeline" / stage / "stage.py") & {"HIDDEN", "SOLUTION"}
