"""Structures, extreme points, scribbles and image-level labels as words."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.errors import PromptError
from napari_weakseg.prompts import (
    BACKGROUND_STROKE,
    LESION,
    PALETTE,
    ExtremePoints,
    ImageLabel,
    Scribbles,
    Structure,
    six_points,
)
from napari_weakseg.volume import Volume

SIX = np.array([[1, 3, 3], [6, 3, 3], [3, 1, 3], [3, 6, 3], [3, 3, 1], [3, 3, 6]], dtype=float)
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
VOLUME = Volume(np.zeros((8, 8, 8)), AFFINE, name="brain")


class TestStructure:
    def test_colours_come_from_the_palette(self):
        assert Structure("a", 1).colour == PALETTE[0]
        assert Structure("b", 8).colour == PALETTE[0]
        assert Structure("c", 2, "#000000").colour == "#000000"

    @pytest.mark.parametrize("value", [0, -1, BACKGROUND_STROKE, 300])
    def test_reserved_values(self, value):
        with pytest.raises(PromptError, match="use 1 to 254"):
            Structure("x", value)


class TestExtremePoints:
    def test_one_and_several_objects(self):
        assert len(ExtremePoints.from_points(SIX, VOLUME)) == 1
        several = ExtremePoints.from_points([SIX, SIX], VOLUME, structure=Structure("node", 4))
        assert several.values.tolist() == [4, 4]

    @pytest.mark.parametrize("points", [[], np.zeros((0, 6, 3)), SIX[:5], SIX[:, :2], np.zeros((6, 3, 2))])
    def test_wrong_shapes(self, points):
        with pytest.raises(PromptError):
            ExtremePoints.from_points(points, VOLUME)

    def test_first_bad_object_is_named(self):
        bad = SIX.copy()
        bad[2, 1] = np.inf
        with pytest.raises(PromptError, match="object 2"):
            ExtremePoints.from_points([SIX, bad], VOLUME)

    def test_each_object_has_a_known_structure(self):
        with pytest.raises(PromptError, match="known value"):
            ExtremePoints([SIX], [2], (LESION,), AFFINE)
        with pytest.raises(PromptError, match="known value"):
            ExtremePoints([SIX], [1, 1], (LESION,), AFFINE)
        with pytest.raises(PromptError, match="same value"):
            ExtremePoints([SIX], [1], (LESION, Structure("other", 1)), AFFINE)

    def test_same_places_on_another_volume(self):
        finer = Volume(np.zeros((16, 16, 16)), np.diag([0.5, 1.0, 1.5, 1.0]))
        moved = ExtremePoints.from_points(SIX, VOLUME).on(finer)
        np.testing.assert_allclose(moved.points[0], 2 * SIX)
        np.testing.assert_allclose(moved.world, ExtremePoints.from_points(SIX, VOLUME).world)

    def test_notes_stay_with_the_points(self):
        points = ExtremePoints.from_objects([(LESION, [*SIX, SIX[0]])], VOLUME)
        assert len(points.notes) == 1
        assert points.on(VOLUME).checked(VOLUME).notes == points.notes

    def test_json_round_trip(self):
        points = ExtremePoints([SIX, SIX + 0.25], [3, 1], (Structure("a", 1), Structure("b", 3), Structure("c", 5)), AFFINE)
        again = ExtremePoints.from_json(points.to_json(), VOLUME)
        assert again.values.tolist() == [1, 3]
        np.testing.assert_array_equal(again.points, [SIX + 0.25, SIX])
        assert again.structures == points.structures

    def test_single_slice_needs_no_extent_across_it(self):
        flat = Volume(np.zeros((8, 8, 1)))
        points = SIX.copy()
        points[:, 2] = 0
        assert len(ExtremePoints.from_points(points, flat).checked(flat)) == 1


def test_six_points_in_mm():
    np.testing.assert_allclose(six_points(VOLUME.to_world(SIX), label="x", volume=VOLUME, space="ras_mm"), SIX)


class TestScribbles:
    def test_known_values(self):
        labels = np.zeros((3, 3, 3), np.int64)
        labels[0, 0, :2] = (1, 255)
        assert Scribbles(labels, (LESION,)).labels.dtype == np.uint8

    @pytest.mark.parametrize("value", [2, 254, -1, 256, 257, 511])
    def test_value_without_structure(self, value):
        labels = np.zeros((3, 3, 3), np.int64)
        labels[1, 1, 1] = value
        with pytest.raises(PromptError, match=str(value)):
            Scribbles(labels, (LESION,))


class TestImageLabel:
    def test_volume_and_slices(self):
        assert ImageLabel(("normal", "lesion"), 1).label == 1
        assert ImageLabel(("normal", "lesion"), (0, 1, 1)).slice_axis == 2

    @pytest.mark.parametrize("label", [2, -1, (0, 2)])
    def test_class_without_name(self, label):
        with pytest.raises(PromptError, match="no class name"):
            ImageLabel(("normal", "lesion"), label)
