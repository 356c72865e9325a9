"""SimPLe over a cohort: points of several cases in, masks of volumes without points out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from napari_weakseg.arrays.extreme_points import simulate_points  # noqa: E402
from napari_weakseg.case import Case  # noqa: E402
from napari_weakseg.errors import DataError, PromptError, RecipeError  # noqa: E402
from napari_weakseg.methods import get_method  # noqa: E402
from napari_weakseg.methods.simple_propagation.first_masks import first_masks  # noqa: E402
from napari_weakseg.methods.simple_propagation.volumes import Grid, pseudo_volume, spacing_of, varied  # noqa: E402
from napari_weakseg.prompts import ExtremePoints, Structure  # noqa: E402
from napari_weakseg.volume import Volume  # noqa: E402

QUICK = {
    "widths": (4, 8),
    "first_mask": "classical",
    "steps_train": 4,
    "steps_propagate": 2,
    "steps_retrain": 3,
    "preview_seconds": 0,
    "device": "cpu",
}
STRUCTURES = (Structure("head", 1), Structure("tail", 2))


def a_case(seed):
    """Two bright halves that touch, of two brightnesses."""
    rng = np.random.default_rng(seed)
    i, j, k = np.ogrid[:16, :20, :14]
    ball = ((i - 8) / 4) ** 2 + ((j - 10) / 7) ** 2 + ((k - 7) / 4) ** 2 <= 1
    mask = np.where(ball, np.where(j < 10, 1, 2), 0).astype(np.uint8)
    image = rng.normal(20, 3, mask.shape) + np.choose(mask, [0, 60, 90])
    volume = Volume(image.astype(np.float32), np.diag([1.0, 1.0, 1.2, 1.0]), f"case {seed}")
    points = np.stack([simulate_points(mask == value) for value in (1, 2)]).astype(float)
    marks = ExtremePoints(points, np.array([1, 2]), STRUCTURES, volume.affine)
    return Case(f"case{seed}", {"image": volume}, points=marks, reference=volume.with_array(mask))


def a_recipe(**changes):
    return get_method("simple_propagation").recipe_class.for_cohort("laptop", **{**QUICK, **changes})


def drain(generator):
    steps = []
    while True:
        try:
            steps.append(next(generator))
        except StopIteration as end:
            return steps, end.value


class Memory:
    """Checkpoints in memory at every step."""

    def __init__(self):
        self.state = None

    def latest(self):
        return self.state

    def due(self):
        return True

    def save(self, state):
        self.state = state


@pytest.fixture(scope="module")
def cases():
    return [a_case(seed) for seed in range(3)]


def test_it_learns_from_points_and_predicts_without(cases):
    method = get_method("simple_propagation")
    steps, weights = drain(method.fit([replace(case, reference=None) for case in cases], a_recipe()))
    assert steps[0].preview is not None
    assert [step.index for step in steps if step.scores] == [1, 2, 3, 4, 1, 2, 1, 2, 3]
    assert weights.recipe.stop_after == (4, 2, 3)
    assert weights.recipe.grid_spacing == (1.2, 1.0, 1.0)  # the cohort's own, along z, y, x
    assert weights.recipe.patch == (14, 20, 16)
    other = Case("other", a_case(9).channels)
    result = method.predict(other, weights)
    assert result.labels.shape == other.volume.shape
    assert set(result.maps) == {"probability head", "probability tail"}
    assert (method.predict(other, weights).labels == result.labels).all()


def test_several_channels_are_learnt_from_and_taken_by_name(cases):
    method = get_method("simple_propagation")
    two = [replace(case, channels={"t1": case.volume, "t2": case.volume.with_array(-case.volume.array)}) for case in cases]
    _, weights = drain(method.fit(two, a_recipe()))
    assert weights.tensors["first.0.weight"].shape[1] == 2
    wanted = method.predict(two[0], weights)
    turned = replace(two[0], channels=dict(reversed(two[0].channels.items())))
    assert (method.predict(turned, weights).labels == wanted.labels).all()
    with pytest.raises(DataError, match="give the same"):
        drain(method.fit([two[0], cases[1]], a_recipe()))


def test_a_broken_run_has_the_losses_of_an_unbroken_one_in_every_stage(cases):
    method = get_method("simple_propagation")
    whole, first = drain(method.fit(cases, a_recipe()))
    expected = [dict(step.scores) for step in whole if step.scores]
    for stop in (2, 5, 8):
        memory = Memory()
        begun = method.fit(cases, a_recipe(), checkpoints=memory)
        seen = []
        for step in begun:
            if step.scores:
                seen.append(dict(step.scores))
            if len(seen) == stop:
                break
        begun.close()
        rest, second = drain(method.fit(cases, a_recipe(), checkpoints=memory))
        again = [dict(step.scores) for step in rest if step.scores]
        assert again == expected[len(expected) - len(again) :]
        assert len(again) >= len(expected) - stop
        assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def test_full_masks_take_the_same_number_of_steps_and_need_masks(cases):
    method = get_method("simple_propagation")
    steps, weights = drain(method.fit(cases, a_recipe(supervision="masks")))
    assert [step.stage for step in steps if step.scores] == ["train"] * 9
    assert [s.name for s in weights.structures] == ["head", "tail"]
    with pytest.raises(PromptError, match="no reference mask"):
        drain(method.fit([replace(case, reference=None) for case in cases], a_recipe(supervision="masks")))
    with pytest.raises(RecipeError, match="marks"):
        drain(method.fit(cases, a_recipe(supervision="masks", marks=True)))


def test_a_loss_that_is_not_finite_ends_it_with_good_weights(cases):
    method = get_method("simple_propagation")
    _, weights = drain(method.fit(cases, a_recipe(learning_rate=1.0, steps_train=12)))
    assert all(np.isfinite(value).all() for value in weights.tensors.values())


def test_weights_that_do_not_fit_are_refused(cases):
    method = get_method("simple_propagation")
    _, weights = drain(method.fit(cases, a_recipe()))
    name = next(iter(weights.tensors))
    spoilt = replace(weights, tensors={**weights.tensors, name: weights.tensors[name][:1]})
    with pytest.raises(DataError, match="do not fit"):
        method.predict(cases[0], spoilt)
    two = Case("two", {"a": cases[0].volume, "b": cases[0].volume})
    with pytest.raises(DataError, match="reads image and two has a, b"):
        method.predict(two, weights)


def test_where_two_objects_claim_a_voxel_the_more_probable_one_has_it(cases):
    case = cases[0]
    first = first_masks(case, a_recipe())
    labels, box, probability = pseudo_volume(first, case.volume, STRUCTURES)
    assert set(np.unique(labels)) <= {-1, 0, 1, 2}
    assert not box[labels == 0].all()
    both = (probability > 0.6).all(axis=0)
    assert (labels[both] == probability[:, both].argmax(axis=0) + 1).mean() > 0.9 if both.any() else True
    wrong = (labels > 0) & (labels != case.reference.array)
    assert wrong.sum() < 0.2 * (labels > 0).sum()


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_a_grid_goes_there_and_back(signs):
    i, j, k = np.ogrid[:6, :8, :10]
    array = (np.sin(i / 4) + j / 8 + np.cos(k / 5)).astype(np.float32)
    affine = np.zeros((4, 4))
    affine[[1, 0, 2, 3], [0, 1, 2, 3]] = [*(np.array(signs) * (1.0, 2.0, 3.0)), 1]
    volume = Volume(array, affine)
    grid = Grid.of(volume, ())
    assert grid.shape == (10, 6, 8)  # z, y, x of RAS
    assert spacing_of(volume) == (3.0, 1.0, 2.0)
    assert np.array_equal(grid.back(grid.there(array, order=0)), array)
    finer = Grid.of(volume, (1.5, 0.5, 1.0))
    assert finer.shape == (20, 12, 16)
    assert np.abs(finer.back(finer.there(array, order=1)) - array).mean() < 0.1


def test_varied_patches_keep_labels_on_their_voxels():
    torch.manual_seed(0)
    image = torch.zeros(4, 1, 16, 20, 24)
    image[:, :, 4:12, 5:15, 6:18] = 1
    labels = image[:, 0].long()
    moved, known = varied(image, labels)
    assert moved.shape == image.shape
    assert set(known.unique().tolist()) <= {-1, 0, 1}
    for one, of in zip(moved, known, strict=True):
        assert one[0][of == 1].mean() > one[0][of == 0].mean() + 0.5
        assert 0.7 < (of == 1).sum() / (labels[0] == 1).sum() < 1.4
