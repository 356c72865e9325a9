"""The real targets that everything is measured on: listed here, never chosen by their result.

Each target is the largest face-connected component of one label of one case; its six points are simulated with a jitter
of one voxel and a seed made from its name. The volumes lie beside the project in ``shared/data`` and are never part of
it; elsewhere this module lists nothing.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from scipy import ndimage

from napari_weakseg.arrays.extreme_points import simulate_points
from napari_weakseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PER_SET = 10

SETS: dict[str, list[tuple[str, str, tuple[int, ...]]]] = {
    # set: (folder, image file, labels that make the target)
    "sts_mr": [("sts_mr", "image_t1.nii.gz", (1,))],
    "la": [("la", "image.nii.gz", (1,))],
    "hippocampus": [("hippocampus", "image.nii.gz", (1, 2))],
    "hippocampus anterior": [("hippocampus", "image.nii.gz", (1,))],
    "hippocampus posterior": [("hippocampus", "image.nii.gz", (2,))],
    "lgg": [("lgg", "image_flair.nii.gz", (1,))],
    "acdc LV": [("acdc", "image.nii.gz", (3,))],
    "acdc RV": [("acdc", "image.nii.gz", (1,))],
    "ct": [("lung_ct", "image_ct.nii.gz", (1,)), ("sts_ct", "image_ct.nii.gz", (1,))],
    "pyradiomics": [("pyradiomics", "image.nii.gz", (1,))],
}
SPACING_UNKNOWN = ("lgg",)


@dataclass(frozen=True)
class Target:
    """One object of one case, read when asked for."""

    set: str
    folder: Path
    image: str
    labels: tuple[int, ...]

    @property
    def name(self) -> str:
        """Set and case, the key of every table."""
        return f"{self.set}/{self.folder.name}"

    def read(self) -> tuple[Volume, NDArray[np.bool_]]:
        """The volume and the target's reference mask."""
        source = nib.load(self.folder / self.image)
        volume = Volume(
            np.asanyarray(source.dataobj), source.affine, name=self.folder.name, spacing_known=self.set not in SPACING_UNKNOWN
        )
        mask = np.isin(np.asanyarray(nib.load(self.folder / "mask.nii.gz").dataobj), self.labels)
        components, _ = ndimage.label(mask)
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        return volume, components == sizes.argmax()

    def points(self, mask: NDArray[np.bool_], *, jitter: int = 1, seed: int = 0) -> NDArray[np.int64]:
        """Six simulated clicks, shape (6, 3); the seed goes with the target's name."""
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        return simulate_points(mask, jitter=jitter, rng=rng)


def list_targets(sets: tuple[str, ...] = tuple(SETS), per_set: int = PER_SET) -> Iterator[Target]:
    """At most `per_set` targets of each set, spread evenly over the set's cases in file order."""
    for name in sets:
        found: list[Target] = []
        for folder, image, labels in SETS[name]:
            cases = sorted(path.parent for path in (DATA / folder).glob(f"*/{image}") if (path.parent / "mask.nii.gz").exists())
            if folder == "acdc":  # one phase per patient, end-diastole first
                cases = list({case.name.split("_")[0]: case for case in reversed(cases)}.values())[::-1]
            found += [Target(name, case, image, labels) for case in cases]
        picked = np.unique(np.linspace(0, len(found) - 1, min(per_set, len(found))).round().astype(int)) if found else []
        yield from (found[index] for index in picked)
