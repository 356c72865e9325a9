"""`Case`: channels on one grid, marks, and whose they are."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.case import Case
from napari_weakseg.errors import DataError, GeometryError
from napari_weakseg.prompts import LESION, ExtremePoints, Scribbles
from napari_weakseg.volume import Volume

FLAIR = Volume(np.zeros((4, 5, 6)), name="flair")
SIX = [[0, 2, 2], [3, 2, 2], [2, 0, 2], [2, 4, 2], [2, 2, 0], [2, 2, 5]]


def test_first_channel_gives_the_grid():
    case = Case("case_01", {"flair": FLAIR, "t1": FLAIR.with_array(np.ones((4, 5, 6)))})
    assert case.volume is FLAIR
    assert case.patient == "case_01"
    assert Case("case_01", {"flair": FLAIR}, patient="p1").patient == "p1"


def test_channels_share_a_grid():
    moved = Volume(np.zeros((4, 5, 6)), np.diag([1, 1, 2, 1.0]))
    with pytest.raises(GeometryError, match="t1"):
        Case("case_01", {"flair": FLAIR, "t1": moved})
    with pytest.raises(DataError, match="no image"):
        Case("case_01", {})


def test_structures_are_those_of_the_marks():
    assert Case("a", {"flair": FLAIR}).structures == ()
    assert Case("a", {"flair": FLAIR}, points=ExtremePoints.from_points(SIX, FLAIR)).structures == (LESION,)
    assert Case("a", {"flair": FLAIR}, scribbles=Scribbles(np.zeros((4, 5, 6), np.uint8), (LESION,))).structures == (LESION,)
