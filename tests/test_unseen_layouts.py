"""Competitions that nothing was made for are solved as well, or refused in a sentence."""

from pathlib import Path

import pytest
from drawing import Drawn
from layouts import BEYOND, UNSEEN
from solving import prepared, solve

from pipeline.core.errors import PipelineError


@pytest.mark.slow
@pytest.mark.parametrize("name", UNSEEN)
def test_an_unseen_competition_is_solved(name: str, tmp_path: Path) -> None:
    assert solve(UNSEEN[name], tmp_path / "project") >= UNSEEN[name].bar


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_out_of_reach_is_refused_before_anything_is_trained(
    name: str, tmp_path: Path
) -> None:
    layout = BEYOND[name]
    with (
        pytest.raises(PipelineError) as caught,
        prepared(layout, Drawn(layout), tmp_path / "project"),
    ):
        pass
    assert "expected" in str(caught.value)
