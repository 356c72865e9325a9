"""The stock peers of the benchmarks, on a ball that every method has to find."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_weakseg.arrays.extreme_points import simulate_points

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def on_path():
    """The benchmarks are scripts beside each other, not a package."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def ball():
    """A bright ellipsoid in noise: volume, reference mask and six exact points."""
    grid = np.indices((34, 38, 30))
    mask = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, (16, 19, 15), (8, 11, 7), strict=True)) < 1
    noise = np.random.default_rng(3).normal(0, 0.2, mask.shape)
    return (ndimage.gaussian_filter(mask.astype(float), 0.7) + noise).astype(np.float32), mask, simulate_points(mask)


def test_seeds_lie_where_they_should(ball):
    from seeds import RECIPES, Problem

    volume, mask, points = ball
    problem = Problem.of(volume, points, (1, 1, 1))
    assert problem.image.dtype == np.float32
    for recipe in RECIPES:
        foreground, background = problem.seeds(recipe)
        assert mask[problem.index][foreground].mean() > 0.9
        assert not mask[problem.index][background].any()
        assert not (foreground & background).any()


@pytest.mark.parametrize("name", json.loads((BENCHMARKS / "tuned_peers.json").read_text(encoding="utf-8"))["peers"])
def test_every_peer_finds_the_ball(ball, name):
    from peers import available, run_peer
    from seeds import Problem

    if not available(name):
        pytest.skip(f"the library of {name} is not installed")
    volume, mask, points = ball
    problem = Problem.of(volume, points, (1, 1, 1))
    found, wanted = run_peer(name, problem), mask[problem.index]
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.75


def test_geodesic_distance_has_a_stand_in_without_fastgeodis(ball, monkeypatch):
    import peers
    from seeds import Problem

    monkeypatch.setattr(peers, "has_fastgeodis", lambda: False)
    assert "MCP_Geometric" in peers.geodesic_engine()
    volume, mask, points = ball
    problem = Problem.of(volume, points, (1, 1, 1))
    found, wanted = peers.run_peer("geodesic distance", problem, {"seeds": "core", "balance": 0.99}), mask[problem.index]
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.75


def test_tuning_states_its_cases_and_takes_the_best_of_each_grid():
    tuned = json.loads((BENCHMARKS / "tuned_peers.json").read_text(encoding="utf-8"))
    assert len(tuned["cases"]) >= 15
    for entry in tuned["peers"].values():
        best = max(entry["grid"], key=lambda row: row["mean_dice"])
        assert entry["best"] == {key: value for key, value in best.items() if key != "mean_dice"}
