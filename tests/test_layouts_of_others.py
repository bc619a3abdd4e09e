"""Competitions of several labels, of numbers, and of other files than a picture for each row."""

from pathlib import Path

import pytest
from layouts import OTHERS
from solving import solve


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_a_competition_is_solved(name: str, tmp_path: Path) -> None:
    assert solve(OTHERS[name], tmp_path / "project") >= OTHERS[name].bar
