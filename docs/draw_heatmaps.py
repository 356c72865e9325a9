"""Draw ``docs/images/heatmap_good.png`` and ``heatmap_bad.png``: what the sample cohort's classifier decides from.

``python docs/draw_heatmaps.py`` trains it first, in about a minute; ``python docs/draw_heatmaps.py RUN`` takes a run of that
cohort. The bad case is the good one with its lesion faded: the same head, so that nothing else makes the difference.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_weakseg.api import predict, train
from napari_weakseg.demo import DEMO_RECIPE
from napari_weakseg.io.cohort import read_cohort
from napari_weakseg.io.runs import read_weights
from napari_weakseg.methods import new_recipe
from napari_weakseg.overview import write_heatmap_overview
from napari_weakseg.samples import cohort_files

if TYPE_CHECKING:
    from napari_weakseg.case import Case

IMAGES = Path(__file__).parent / "images"
CASE = "case_12"  # of the four that are tested
LEFT = 0.3  # of the lesion's contrast, in the bad case


def faded(case: Case, share: float) -> Case:
    """The case with `share` of its lesion's contrast, the swelling around it included."""
    assert case.reference is not None
    image = np.asarray(case.volume.array, dtype=np.float64)
    lesion = case.reference.array == 1
    around = ndimage.binary_dilation(lesion, iterations=8) & ~ndimage.binary_dilation(lesion, iterations=5)
    tissue = np.median(image[around & (image > 0.3 * image[lesion].mean())])
    weight = ndimage.gaussian_filter(ndimage.binary_dilation(lesion, iterations=2).astype(np.float64), 1.0)
    image -= (1 - share) * weight * np.clip(image - tissue, 0, None)
    volume = case.volume.with_array(image.astype(np.float32), name="faded")
    return replace(case, channels=dict.fromkeys(case.channels, volume))


def main() -> None:
    """Write both pictures."""
    path = next(source for source in cohort_files() if source.name == "cohort.json")
    cohort = read_cohort(Path(str(path)), references=True)
    weights = (
        read_weights(sys.argv[1]) if len(sys.argv) > 1 else train(cohort, new_recipe("explainable_heatmap", **DEMO_RECIPE))
    )
    good = next(case for case in cohort.testing if case.id == CASE)
    for name, case in (("good", good), ("bad", faded(good, LEFT))):
        result = predict(weights, replace(case, reference=None, image_label=None))
        chance = result.scores["probability lesion"]
        sure = result.tables["slice probabilities"].argmax(axis=1) == 1
        wanted = (case.reference.array == 1).any(axis=(0, 1))
        title = f"lesion {chance:.2f}, {int((sure == wanted).sum())} of {len(sure)} slices right"
        write_heatmap_overview(
            IMAGES / f"heatmap_{name}.png", case.volume, result, "lesion", reference=case.reference, slices=2, title=title
        )


if __name__ == "__main__":
    main()
