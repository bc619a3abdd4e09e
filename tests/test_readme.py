"""What README.md, CONTRIBUTING.md and the pages of docs/ name exists, and is as they say."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from project import ROOT
from ruamel.yaml import YAML
from test_floors import FLOORS

from pipeline.__main__ import app

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = {
    path: path.read_text()
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "corrections/README.md",
        *DOCS,
    ]
}
DESIGN = PAGES[ROOT / "docs" / "DESIGN.md"]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = "\n".join(
    code
    for text in PAGES.values()
    for code in [*FENCED.findall(text), *re.findall(r"`([^`]+)`", FENCED.sub("", text))]
)
TARGETS = set(re.findall(r"^([a-z/-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
COMMANDS = typer.main.get_command(app).commands
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))
STAGES = set(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"])


def named(pattern: str) -> list[str]:
    """Everything that the pattern finds in code, once each; there is something."""
    found = sorted(set(re.findall(pattern, CODE)))
    assert found
    return found


@pytest.mark.parametrize("target", named(r"\bmake ([a-z/-]+)"))
def test_each_make_target_in_the_texts_exists(target: str) -> None:
    assert target in TARGETS


@pytest.mark.parametrize("line", named(r"python -m pipeline ([^\n|&#]*\w)"))
def test_each_command_in_the_texts_exists_with_its_options(line: str) -> None:
    name, *words = line.split()
    assert name in COMMANDS
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


@pytest.mark.parametrize("module", named(r"python -m benchmarks\.(\w+)"))
def test_each_benchmark_in_the_texts_exists(module: str) -> None:
    assert (ROOT / "benchmarks" / f"{module}.py").is_file()


@pytest.mark.parametrize("stage", named(r"dvc repro (?:-\w )?([a-z]+)"))
def test_each_dvc_stage_in_the_texts_exists(stage: str) -> None:
    assert stage in STAGES


@pytest.mark.parametrize(
    "path", named(r"(?<![\w/.-])((?:pipeline|tests|docs|profiles|benchmarks)/[\w/.-]*\w/?)")
)
def test_each_path_in_the_texts_exists(path: str) -> None:
    assert (ROOT / path).exists() or path.startswith("benchmarks/out")


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_relative_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_readme_links_each_page_of_docs_once(page: Path) -> None:
    assert PAGES[ROOT / "README.md"].count(f"(docs/{page.name}") == 1


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_a_profile_says_where_its_files_come_from(profile: Path) -> None:
    text = profile.read_text()
    assert "\n# Files: " in text.split("\ndownload:")[0]
    folder = YAML(typ="safe").load(text)["download"].get("folder", "competitions/none")
    assert folder.startswith("competitions/"), "a folder that only we have"


def test_every_command_and_make_target_has_help() -> None:
    for name, command in COMMANDS.items():
        assert command.help, name
    helped = subprocess.run(
        ["make", "--silent", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    listed = {line.split()[0] for line in helped.stdout.splitlines()}
    assert listed == {target for target in TARGETS if "/" not in target}


def test_the_profiles_in_the_texts_are_those_that_make_profiles_lists() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pipeline", "profiles"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    shown = PAGES[ROOT / "docs" / "PARAMETERS.md"].split("$ make profiles\n")[1].split("$ ")[0]
    assert shown == listed.replace("*", " ")  # which marks the one in use


def test_the_floors_in_the_design_are_the_tested_ones() -> None:
    drawn = re.findall(r"^`core` <.*?`__main__`$", DESIGN, re.MULTILINE | re.DOTALL)
    assert [floor.split() for floor in drawn[0].replace("`", "").split("<")] == FLOORS


def test_the_tree_in_the_design_is_the_one_on_disk() -> None:
    drawn = set()
    rows = re.findall(r"^\| `(\w+)/` \| .* \| ([^|]+) \|$", DESIGN, re.MULTILINE)
    for folder, modules in rows:
        for within, inner, name in re.findall(r"(\w+)/\{([^}]+)\}|(\w+)", modules):
            drawn |= {f"{folder}/{within}/{each}" for each in inner.split()}
            drawn |= {f"{folder}/{name}"} if name else set()
    files = (ROOT / "pipeline").glob("*/**/*.py")
    real = {str(file.relative_to(ROOT / "pipeline").with_suffix("")) for file in files}
    assert drawn == {name for name in real if not name.endswith("__init__")}


def test_no_lock_file_names_a_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    packages = re.findall(r"^[\w.-]+(?:\[[\w,]+\])?==", lock, re.MULTILINE)
    hashed = re.findall(r"--hash=sha256:[0-9a-f]{64}", lock)
    assert len(hashed) >= len(packages) > 100


def test_the_lock_covers_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["dev"]
    locked = set(
        re.findall(
            r"^([\w.-]+)(?:\[[\w,]+\])?==", (ROOT / "requirements.lock").read_text(), re.MULTILINE
        )
    )
    names = {
        re.match(r"[\w.-]+", requirement)[0].lower().replace(".", "-") for requirement in asked
    }
    assert names <= locked
