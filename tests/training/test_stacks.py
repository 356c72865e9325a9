"""Volumes to slices and back: axes, pixel sizes, strokes that stay whole, padding that never supervises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_weakseg.case import Case
from napari_weakseg.errors import PromptError, RecipeError
from napari_weakseg.methods import new_recipe
from napari_weakseg.prompts import Scribbles, Structure
from napari_weakseg.training.partial_losses import IGNORE
from napari_weakseg.training.slice_batches import SliceBatches
from napari_weakseg.training.slice_material import gather
from napari_weakseg.training.stacks import Cut, Frame, Stack, frame_of, stack_of, structures_of
from napari_weakseg.volume import Volume
from toy_cohort import STRUCTURES, toy_case


def recipe_of(**changes):
    return new_recipe("partial_cross_entropy", **{"size": 32, "batch": 4, **changes})


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSL", "ARI", "SLP"])
def test_every_orientation_is_cut_alike_and_comes_back(codes):
    from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

    base = np.random.default_rng(0).normal(size=(7, 9, 5)).astype(np.float32)
    affine = np.diag([1.0, 1.2, 4.0, 1.0])
    to = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    from nibabel.orientations import apply_orientation

    turned = np.ascontiguousarray(apply_orientation(base, to))
    volume = Volume(turned, affine @ inv_ornt_aff(to, base.shape))
    cut = Cut(volume, Frame(axis=0))  # the thick axis wins over the frame's
    np.testing.assert_array_equal(cut.slices(turned), Cut(Volume(base, affine), Frame()).slices(base))
    assert cut.axis == 2
    maps = torch.from_numpy(np.ascontiguousarray(cut.slices(turned)))[:, None]
    np.testing.assert_allclose(
        Cut(volume, Frame(spacing=0)).back(torch.nn.functional.interpolate(maps, cut.sides))[0].shape, turned.shape
    )
    per_slice = cut.in_file_order(np.array([s.mean() for s in cut.slices(turned)]))
    np.testing.assert_allclose(per_slice, [s.mean() for s in np.moveaxis(turned, cut.file_axis, 0)], rtol=1e-4, atol=1e-6)


def test_there_and_back_keeps_the_place():
    i, j = np.meshgrid(np.arange(40), np.arange(60), indexing="ij")
    smooth = np.repeat(np.exp(-(((i - 12) / 6) ** 2) - ((j - 40) / 9) ** 2)[:, :, None], 3, axis=2).astype(np.float32)
    volume = Volume(smooth, np.diag([0.8, 0.6, 8.0, 1.0]))
    cut = Cut(volume, Frame(spacing=1.5))
    assert cut.sides == (21, 24)
    slices = torch.from_numpy(cut.slices(smooth))[:, None]
    small = torch.nn.functional.interpolate(slices, cut.sides, mode="bilinear", antialias=True)
    again = cut.back(small)[0]
    assert again.shape == smooth.shape
    assert np.unravel_index(again[:, :, 1].argmax(), again.shape[:2]) == pytest.approx((12, 40), abs=1)


def test_thin_strokes_stay_whole_where_pixels_grow():
    code = np.full((64, 64, 2), IGNORE, dtype=np.int8)
    code[20, 5:60, 0] = 2
    code[21, 5:60, 0] = 0  # the background's stroke beside it
    volume = Volume(np.zeros((64, 64, 2), np.float32), np.diag([0.5, 0.5, 5.0, 1.0]))
    labels = Cut(volume, Frame(spacing=1.6)).labels(code, 3)
    assert labels.shape == (2, 20, 20)
    row = labels[0][6]
    assert (row[2:18] == 2).all()  # at a tie the structure wins
    assert (labels[1] == IGNORE).all()


@pytest.mark.parametrize("count", [126, 127, 254])
def test_as_many_structures_as_a_mask_can_hold_are_told_apart(count):
    structures = tuple(Structure(f"structure {value}", value) for value in range(1, count + 1))
    blocks = np.zeros((16, 32), np.uint8)
    blocks[:, 0::2].flat[:count] = np.arange(1, count + 1)
    blocks[:, 1::2] = 255
    code = np.stack([blocks.repeat(2, axis=0).repeat(2, axis=1), np.zeros((32, 64), np.uint8)], axis=2)
    case = Case(
        "many", {"image": Volume(np.random.default_rng(0).normal(size=code.shape))}, scribbles=Scribbles(code, structures)
    )
    mask = Volume(np.where(code == 255, 0, code), name="other")
    steps = gather([case], (), [mask], recipe_of(grid_spacing=2.0, hold_out=0.0))
    with pytest.raises(StopIteration) as end:
        while True:
            next(steps)
    material = end.value.value
    (stack,) = material.stacks
    assert set(stack.labels[0].ravel().tolist()) - {IGNORE} == set(range(count + 1))
    assert set(material.masks[0].labels.ravel().tolist()) == set(range(count + 1))
    assert not [note for note in material.notes if "no stroke" in note or "no unpaired mask" in note]


def test_two_cases_that_call_different_structures_by_one_name_are_refused():
    drawn = np.zeros((8, 8, 2), np.uint8)
    drawn[2:4, 2:4] = 1
    volume = Volume(np.zeros(drawn.shape, np.float32))
    cases = [
        Case(str(value), {"image": volume}, scribbles=Scribbles(value * drawn, (Structure("core", value),))) for value in (1, 2)
    ]
    with pytest.raises(PromptError, match="two structures are called 'core'"):
        structures_of(cases, recipe_of())


def test_the_pixel_size_comes_from_the_strokes_and_is_never_finer_than_the_volume_s():
    case = toy_case(0)
    assert frame_of([case], STRUCTURES, recipe_of(size=32)).spacing == 1.0
    fine = Volume(np.zeros((400, 400, 4), np.float32), np.diag([0.5, 0.5, 8.0, 1.0]))
    labels = np.zeros(fine.shape, np.uint8)
    labels[100:260, 150:310, 1] = 1
    drawn = Case("fine", {"image": fine}, scribbles=Scribbles(labels, STRUCTURES))
    frame = frame_of([drawn], STRUCTURES, recipe_of(size=144, field=2.5))
    assert frame.spacing == pytest.approx(0.5 * 160 * 2.5 / 144, rel=0.01)


def test_isotropic_volumes_are_cut_in_the_plane_that_was_drawn_in():
    volume = Volume(np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32))
    labels = np.zeros(volume.shape, np.uint8)
    labels[3:12, 7, 4:15] = 1
    case = Case("iso", {"image": volume}, scribbles=Scribbles(labels, STRUCTURES))
    assert frame_of([case], STRUCTURES, recipe_of()).axis == 1


def test_thick_slices_are_refused_in_3d():
    with pytest.raises(RecipeError, match="2D"):
        stack_of(toy_case(0), Frame(), STRUCTURES, recipe_of(dimensions="3D"))


def test_padding_never_supervises_and_the_image_goes_on_at_its_edge():
    """A window larger than the slice: what lies outside has no label, not the background's."""
    image = np.full((1, 2, 20, 20), 5.0, np.float32)
    stack = Stack.of(image, np.zeros((2, 20, 20), np.int8))
    recipe = recipe_of(size=32, rotation=45, noise=0, contrast=0)
    batch = SliceBatches([stack], [], 3, recipe, torch.device("cpu")).draw(0)
    assert batch.images.shape == (4, 1, 32, 32)
    torch.testing.assert_close(batch.images, torch.full_like(batch.images, 5.0))
    assert ((batch.labels == 0).sum(dim=(1, 2)) < 600).all()
    assert set(batch.labels.unique().tolist()) == {IGNORE, 0}


def test_a_window_is_no_larger_than_the_largest_slice_needs():
    sizes = ((2, 8, 8), (2, 9, 20))
    small, wide = (Stack.of(np.zeros((1, *size), np.float32), np.zeros(size, np.int8)) for size in sizes)
    device = torch.device("cpu")
    assert SliceBatches([small], [], 3, recipe_of(size=64), device).window == (16, 16)
    assert SliceBatches([small, wide], [], 3, recipe_of(size=64), device).window == (32, 32)
    assert SliceBatches([small, wide], [], 3, recipe_of(size=16), device).window == (16, 16)


def test_a_batch_depends_on_seed_and_step_alone_and_each_slice_takes_its_turn():
    stacks = [stack_of(toy_case(n), Frame(), STRUCTURES, recipe_of()) for n in range(2)]
    make = lambda seed: SliceBatches(stacks, [], 3, recipe_of(seed=seed), torch.device("cpu"))  # noqa: E731
    one, other = make(0), make(0)
    other.draw(0)
    torch.testing.assert_close(one.draw(5).images, other.draw(5).images)
    assert not torch.equal(one.draw(5).images, make(1).draw(5).images)
    places = [place for step in range(2) for place in one._turn(one.marked, 2, step)]
    assert sorted(places) == sorted(one.marked)


def test_labels_move_with_the_image():
    """The brightest voxels are the labelled ones, whatever the turn."""
    image = np.zeros((1, 1, 40, 40), np.float32)
    image[0, 0, 10:20, 22:34] = 1
    stack = Stack.of(image, (image[0] > 0).astype(np.int8))
    recipe = recipe_of(size=32, rotation=90, noise=0, contrast=0)
    batch = SliceBatches([stack], [], 3, recipe, torch.device("cpu")).draw(3)
    seen = batch.labels == 1
    assert batch.images[:, 0][seen].mean() > 0.9
    assert batch.images[:, 0][batch.labels == 0].mean() < 0.1
