"""The simulated strokes, the correcting user and the counting, on arrays of a few voxels."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def on_path():
    """The benchmarks are scripts beside each other, not a package."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def bar():
    """A bar of 24 x 9 x 7 voxels."""
    mask = np.zeros((40, 30, 26), dtype=bool)
    mask[8:32, 10:19, 9:16] = True
    return mask


def test_full_strokes_lie_on_their_side(bar):
    from strokes import full_strokes

    marks = full_strokes(bar)
    assert bar[marks == 1].all()
    assert not bar[marks == 255].any()
    assert (marks == 1).any(axis=(1, 2)).sum() > 10
    assert {*np.unique(marks)} == {0, 1, 255}


def test_few_slices_are_marked_first_largest_and_last():
    from strokes import full_strokes

    mask = np.zeros((40, 40, 9), dtype=bool)
    mask[10:30, 12:28, 2:7] = True
    mask[8:32, 10:30, 4] = True
    assert np.flatnonzero((full_strokes(mask) == 1).any(axis=(0, 1))).tolist() == [2, 4, 6]


def test_sparse_strokes_are_two_curves_on_one_slice_and_the_same_for_the_same_seed(bar):
    from strokes import sparse_strokes

    marks = sparse_strokes(bar, (1, 1, 3), np.random.default_rng(1))
    assert np.flatnonzero(marks.any(axis=(0, 1))).size == 1
    assert bar[marks == 1].all() and not bar[marks == 255].any()
    np.testing.assert_array_equal(marks, sparse_strokes(bar, (1, 1, 3), np.random.default_rng(1)))
    assert not np.array_equal(marks, sparse_strokes(bar, (1, 1, 3), np.random.default_rng(2)))


def test_the_slices_of_a_user_are_the_thick_ones(bar):
    from strokes import slice_axis

    assert slice_axis(bar, (1, 4, 1)) == 1
    assert slice_axis(bar, (1, 1, 1)) == 2


@pytest.mark.parametrize(("unlabelled", "codes"), [(4, [0, 1, 2, 3, 4]), (255, [0, 1, 2, 3, 255])])
def test_the_codes_of_experts_become_ours(unlabelled, codes):
    from strokes import expert_strokes

    assert expert_strokes(np.array(codes), (3,), unlabelled).tolist() == [255, 255, 255, 1, 0]


def test_one_stroke_of_a_pen_has_no_branch():
    from strokes import longest_curve

    line = np.zeros((9, 12), dtype=bool)
    line[4, 1:11] = True
    line[1:4, 6] = True  # a short branch
    pixels = longest_curve(line)
    assert {tuple(pixels[0]), tuple(pixels[-1])} == {(4, 1), (4, 10)}
    assert len(pixels) == 10


def test_the_user_marks_the_largest_error_and_says_what_it_is(bar):
    from corrections import draw_stroke, largest_error

    mask = bar.copy()
    mask[8:12] = False  # 4 x 9 x 7 are missing
    mask[20, 2:8, 12] = True  # 6 too many
    error, missing = largest_error(mask, bar)
    assert missing and error.sum() == 4 * 9 * 7
    stroke = draw_stroke(error, (1, 1, 1))
    assert error[stroke].all()
    assert np.unique(stroke[0]).size == 1  # the slice that shows most of it: 9 x 7
    error, missing = largest_error(bar | mask, bar)
    assert not missing and error.sum() == 6
    assert largest_error(bar, bar) is None


def test_missing_and_too_much_are_not_one_error():
    from corrections import largest_error

    reference = np.zeros((6, 6, 6), dtype=bool)
    reference[2:4, 2:4, 2:4] = True
    error, missing = largest_error(np.roll(reference, 1, axis=0), reference)
    assert missing and error.sum() == 4


def test_a_slice_counts_by_its_area_not_by_its_voxels():
    from corrections import draw_stroke

    error = np.zeros((12, 12, 12), dtype=bool)
    error[2:8, 5, 3:8] = True  # 30 voxels in the plane of i and k, which the long step of j makes no larger
    error[2:8, 5:7, 3] = True  # 12 in the plane of i and j
    assert np.unique(draw_stroke(error, (1, 1, 1))[1]).size == 1
    assert np.unique(draw_stroke(error, (1, 9, 1))[2]).size == 1


def test_correcting_stops_at_the_goal_and_counts(bar):
    from corrections import correct, needed

    seen = []

    def obedient(strokes, before):
        """Adds the slab of every stroke."""
        seen.append(before is None)
        mask = np.zeros_like(bar)
        mask[16:32, 10:19, 9:16] = True
        for i in np.flatnonzero((strokes == 1).any(axis=(1, 2))):
            mask[i] |= bar[i]
        return mask

    curve = correct(obedient, bar, (1, 1, 1), cap=10)
    assert seen[0] and not any(seen[1:])
    assert curve["dice"][0] == pytest.approx(0.8)
    assert curve["dice"] == sorted(curve["dice"])
    assert curve["dice"][-1] >= 0.95 > curve["dice"][-2]
    assert len(curve["cpu"]) == len(curve["dice"]) - 1
    assert needed(curve["dice"], 0.95) == len(curve["dice"]) - 1
    assert needed([0.5, 0.91, 0.89], 0.9) == 1
    assert needed([0.5, 0.6], 0.9) is None
    assert len(correct(lambda strokes, before: ~bar, bar, (1, 1, 1), cap=3)["cpu"]) == 3


def test_cleaning_obeys_the_user():
    from ours import cleaned

    mask = np.zeros((12, 12, 12), dtype=bool)
    mask[1:6, 1:6, 1:6] = True
    mask[3, 3, 3] = False
    mask[8:10, 8:10, 8:10] = True
    core = np.zeros(mask.shape)
    core[2, 2, 2] = 1
    nothing = np.zeros_like(mask)
    assert cleaned(mask, core).sum() == 125
    foreground, background = nothing.copy(), nothing.copy()
    foreground[9, 9, 9] = True
    background[3, 3, 3] = True
    found = cleaned(mask, core, foreground, background)
    assert found.sum() == 124 + 8
    assert not found[3, 3, 3]


def test_peers_take_strokes_and_every_correction(bar):
    from corrections import peer_update
    from strokes import STROKE_PEERS, crop_of, full_strokes, run_stroke_peer

    from napari_weakseg.arrays.extreme_points import simulate_points
    from napari_weakseg.volume import Volume

    noise = np.random.default_rng(0).normal(0, 0.05, bar.shape)
    volume = Volume((bar + noise).astype(np.float32), np.eye(4))
    for crop in ("strokes", "window"):
        problem, foreground, background = crop_of(volume, full_strokes(bar), crop)
        assert not (foreground & background).any()
        assert not bar[problem.index][background].any()
        found = run_stroke_peer("watershed", problem, foreground, background, {"sigma": 0.5})
        assert 2 * (found & bar[problem.index]).sum() / (found.sum() + bar.sum()) > 0.9
    assert "random walker + prior" in STROKE_PEERS
    update = peer_update("watershed", volume, simulate_points(bar))
    strokes = np.zeros(bar.shape, dtype=np.uint8)
    strokes[20, 14, 9:16] = 255
    assert not update(strokes, None)[strokes == 255].any()


def test_every_stroke_peer_is_tuned_for_both_kinds():
    tuned = json.loads((BENCHMARKS / "tuned_peers.json").read_text(encoding="utf-8"))
    for kind in ("full strokes", "sparse strokes"):
        assert len(tuned[kind]["cases"]) >= 10
        for entry in tuned[kind]["peers"].values():
            best = max(entry["grid"], key=lambda row: row["median_dice"])
            assert entry["best"] == {key: value for key, value in best.items() if key != "median_dice"}


def test_a_perfect_probability_has_no_calibration_error():
    from robustness import binned, calibration_error

    rng = np.random.default_rng(0)
    probability = rng.random(200_000)
    assert calibration_error(binned(probability, rng.random(probability.size) < probability)) < 0.01
    assert calibration_error(binned(np.full(100, 0.9), np.zeros(100, dtype=bool))) == pytest.approx(0.9)


def test_one_click_is_off_by_ten(bar):
    from cases import Target
    from robustness import HANDS, shaken

    target = Target("made up", Path("case"), "image.nii.gz", (1,))
    usual, wrong = target.points(bar, jitter=1), shaken(target, bar, HANDS[-1])
    moved = (usual != wrong).any(axis=1)
    assert moved.sum() == 1
    assert 1 <= np.abs(usual - wrong).max() <= 10
    np.testing.assert_array_equal(shaken(target, bar, "1"), usual)


def test_the_interval_of_a_constant_gain_is_that_gain():
    from tables import interval

    assert interval(np.full(6, 0.1), [f"set/{n}" for n in range(6)]) == pytest.approx((0.1, 0.1))


def test_the_record_keeps_what_the_cache_has_lost(tmp_path):
    from tables import Measured

    cache = tmp_path / "cache" / "first"
    cache.mkdir(parents=True)
    (cache / "a.json").write_text(json.dumps({"target": "s/a", "set": "s", "value": {"dice": 0.5}}))
    record = tmp_path / "results.json"
    Measured(tmp_path / "cache", record).write(record, {})
    (cache / "a.json").write_text(json.dumps({"target": "s/b", "set": "s", "value": {"dice": 0.7}}))
    again = Measured(tmp_path / "cache", record)
    assert again.part("first") == {"s/a": {"dice": 0.5}, "s/b": {"dice": 0.7}}
