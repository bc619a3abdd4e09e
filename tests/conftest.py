"""Shapes and dtypes in the signatures of pipeline/ are checked while the tests run."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
# Tests run side by side on tiny networks: more threads than cores only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from jaxtyping import config, install_import_hook

ROOT = Path(__file__).parent.parent
# The modules that compute with arrays. Not the parameters: pydantic checks those itself.
ARRAYS = [
    "core/ranks.py",
    "core/tables.py",
    "scoring/*.py",
    "prepare/*.py",
    "split/*.py",
    "train/**/*.py",
    "ensemble/**/*.py",
    "check/*.py",
    "explain/*.py",
    "commands/*.py",
    "report/*.py",
]
CHECKED = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for pattern in ARRAYS
    for path in sorted((ROOT / "pipeline").glob(pattern))
    if path.stem not in ("config", "__init__")
]

install_import_hook(CHECKED, "beartype.beartype")

LONGEST = [
    "test_kills", "test_jobs", "test_pipeline", "test_winner", "test_reproduce", "test_baseline",
    "test_ours", "test_damage", "test_submit", "test_attack", "test_kaggle_download",
]  # fmt: skip
"""The files whose tests take longest begin first, so that all processes end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {file: at for at, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(autouse=True)
def _checked(request: pytest.FixtureRequest) -> Iterator[None]:
    """All tests but those marked `unchecked`."""
    config.update("jaxtyping_disable", request.node.get_closest_marker("unchecked") is not None)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one trained project of all tests, to be read; project.copy_project copies it."""
    from project import trained_project  # after the hook

    return trained_project(tmp_path_factory)
