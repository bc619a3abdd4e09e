"""Competitions of one class an image run from the folder to a submission that is right."""

from pathlib import Path

import pytest
from layouts import CLASSES
from solving import solve


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_a_competition_is_solved(name: str, tmp_path: Path) -> None:
    assert solve(CLASSES[name], tmp_path / "project") >= CLASSES[name].bar
