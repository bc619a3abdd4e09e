"""What README.md and CONTRIBUTING.md say is there, and is so."""

import re
import subprocess
import sys
import tomllib

import pytest
from project import ROOT
from ruamel.yaml import YAML
from test_floors import FLOORS

from pipeline.__main__ import app

README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
TEXTS = README + CONTRIBUTING
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
COMMANDS = {command.name or command.callback.__name__ for command in app.registered_commands}
STAGES = set(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"])


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z-]+)\b(?=[ `\n)])", TEXTS))))
def test_each_make_target_in_the_texts_exists(target: str) -> None:
    assert target in TARGETS


@pytest.mark.parametrize("command", sorted(set(re.findall(r"python -m pipeline ([a-z]+)", TEXTS))))
def test_each_pipeline_command_in_the_texts_exists(command: str) -> None:
    assert command in COMMANDS


@pytest.mark.parametrize("stage", sorted(set(re.findall(r"dvc repro (?:-\w )?([a-z]+)", TEXTS))))
def test_each_dvc_stage_in_the_texts_exists(stage: str) -> None:
    assert stage in STAGES


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"\b((?:pipeline|tests|docs|profiles)/[\w/.-]*\w/?)", TEXTS)))
)
def test_each_path_in_the_texts_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_command_and_make_target_has_help() -> None:
    for command in app.registered_commands:
        assert command.callback.__doc__, command.name
    helped = subprocess.run(
        ["make", "--silent", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    listed = {line.split()[0] for line in helped.stdout.splitlines()}
    assert listed == TARGETS


def test_the_profiles_in_the_readme_are_those_that_make_profiles_lists() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pipeline", "profiles"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for line in listed.splitlines():
        assert line in README.splitlines(), line


def test_the_floors_in_contributing_are_the_tested_ones() -> None:
    drawn = CONTRIBUTING.split("draws them):")[1].split("**A new parameter**")[0]
    floors = [part.split() for part in drawn.replace("`", "").replace("\n", " ").split("<")]
    assert floors == FLOORS


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
