"""The simulation of a cluster gives the answers that are known, and the same bytes twice."""

import math
from dataclasses import replace

import pytest
from click.testing import Result
from typer.testing import CliRunner

from benchmarks import cluster
from benchmarks.cluster import Costs, draw, ideal_s, shares, simulate

APP = cluster.typer.Typer()
APP.command()(cluster.main)

TIMES = draw(40, 100.0, 0.3, seed=1)
EQUAL = [100.0] * 40


@pytest.mark.parametrize(
    ("train_s", "nodes", "costs", "expected"),
    [
        (TIMES, 1, Costs(), sum(TIMES)),
        (TIMES, 40, Costs(), max(TIMES)),
        (TIMES, 500, Costs(), max(TIMES)),
        (EQUAL, 10, Costs(), 400.0),
        (EQUAL, 40, Costs(record=(200.0, 0, 0, 0), at_once=False), 100 + 40 * 200),
        (EQUAL, 40, Costs(record=(0, 5.0, 2.0, 0)), 100 + 2 * (200 + 2) + 38 * 2),
        (EQUAL, 40, Costs(record=(0, 0, 0, 0.1)), 100 + 40 * 40 * 0.1),
        (EQUAL, 40, Costs(input_mb=10.0, head_mb_s=2.0), 40 * 5 + 100),
        (EQUAL, 10, Costs(input_mb=10.0, head_mb_s=2.0), 10 * 5 + 400),
        (EQUAL, 40, Costs(result_mb=10.0, head_mb_s=2.0), 100 + 40 * 5),
        (EQUAL, 40, Costs(input_mb=8.0, head_mb_s=2.0, shared_mb_s=4.0), 40 * 2 + 100),
        (EQUAL, 40, Costs(status=(3.0, 0.5, 0.01)), 3 + 20 + 16 + 100),
    ],
)  # fmt: skip
def test_without_losses_the_makespan_is_that_of_a_sum(
    train_s: list[float], nodes: int, costs: Costs, expected: float
) -> None:
    found = simulate(train_s, 1, nodes, costs, seed=1)
    assert found.makespan_s == pytest.approx(expected)
    assert found.lost_s == 0
    ideal = pytest.approx(ideal_s(train_s, nodes))
    assert (found.makespan_s == ideal) == (costs == Costs())


@pytest.mark.parametrize(("checkpoints", "parts"), [(False, 1), (True, 10)])
@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_lost_nodes_cost_what_exponential_lives_say(
    checkpoints: bool, parts: int, rate: float
) -> None:
    """A time T at a rate of losses λ takes (exp(λT) − 1) / λ on average; checkpoints cut it."""
    tasks = 10_000
    costs = Costs(mean_life_s=1 / rate, checkpoints=checkpoints)
    found = simulate([1.0] * tasks, 10, 1, costs, seed=1)
    expected = parts * math.expm1(rate / parts) / rate
    assert found.makespan_s / tasks == pytest.approx(expected, rel=0.03)
    assert found.lost_s == pytest.approx(found.makespan_s - tasks)


def test_another_node_goes_on_and_nobody_waits_for_a_lost_one() -> None:
    costs = Costs(mean_life_s=300.0, pause_s=1e6)
    found = [simulate([100.0], 1, 2, costs, seed) for seed in range(60)]
    lost_one = [one for one in found if one.lost_s and one.makespan_s < 1e6]
    assert len(lost_one) > 2
    assert all(one.makespan_s == pytest.approx(100 + one.lost_s) for one in lost_one)


def test_a_lost_node_comes_back_after_a_pause() -> None:
    costs = Costs(mean_life_s=200.0)
    alone = simulate(EQUAL, 1, 1, costs, seed=3)
    assert alone.lost_s == pytest.approx(alone.makespan_s - sum(EQUAL))
    paused = simulate(EQUAL, 1, 1, replace(costs, pause_s=1.0), seed=3)
    losses = paused.makespan_s - alone.makespan_s
    assert losses == pytest.approx(round(losses))
    assert 5 < losses < 60


@pytest.mark.parametrize(
    ("name", "costs"),
    [
        ("recording", Costs(record=(10.0, 0, 0, 0), at_once=False, input_mb=1.0, head_mb_s=1.0)),
        ("inputs", Costs(record=(1.0, 0, 0, 0), input_mb=10.0, head_mb_s=1.0)),
        ("results", Costs(record=(1.0, 0, 0, 0), result_mb=10.0, head_mb_s=1.0)),
        ("asking DVC", Costs(status=(1000.0, 0, 0), result_mb=1.0, head_mb_s=1.0)),
        ("lost nodes", Costs(record=(1.0, 0, 0, 0), mean_life_s=50.0)),
        (cluster.UNEVEN, Costs()),
    ],
)
def test_the_bottleneck_has_its_name(name: str, costs: Costs) -> None:
    found = shares(EQUAL, 1, 39 if name == cluster.UNEVEN else 40, costs, seed=1)
    assert max(found, key=lambda part: found[part]) == name
    assert found[name] > 0.4
    assert all(part >= -1e-9 for part in found.values()) or name == "lost nodes"


def test_recording_what_has_come_back_together_takes_the_head_off_the_way() -> None:
    costs = Costs(record=(30.0, 0, 0, 0))
    train_s = draw(400, 100.0, 0.1, seed=1)
    together = simulate(train_s, 1, 40, costs, seed=1).makespan_s
    single = simulate(train_s, 1, 40, replace(costs, at_once=False), seed=1).makespan_s
    assert single > 400 * 30
    assert together < simulate(train_s, 1, 40, Costs(), seed=1).makespan_s + 2 * 30 + 1


def test_the_same_seed_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "TASKS", [5, 50])
    monkeypatch.setattr(cluster, "NODES", [1, 5])

    def printed(seed: str) -> str:
        done: Result = CliRunner().invoke(APP, ["--life-h", "1", "--seed", seed])
        assert done.exit_code == 0, done.output
        return done.output

    assert printed("1") == printed("1") != printed("2")
    assert "| 50 | 5 | " in printed("1")
