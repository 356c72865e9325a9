"""The volumes that come with the package: made by ``sample_data/make_samples.py``, nobody was scanned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    from ..case import Case

TITLES = {
    "brain_mri": "Brain MRI with a lesion (made up, oblique, 1 x 1 x 3 mm)",
    "abdomen_ct": "Abdominal CT with liver and right kidney (made up, 1.5 x 1.5 x 3 mm)",
}
COHORT = "brain_cohort"
"""Folder of the sample cohort: 16 made-up FLAIR heads of 3 x 3 x 6 mm, half with a lesion, and a table of labels per slice."""

HEART = "heart_mri"
"""A sample to draw strokes on: short-axis slices (made up, 1.5 x 1.5 x 8 mm) of right ventricle, muscle and left ventricle."""

OTHERS = "unpaired_hearts"
"""Folder with 12 masks of other made-up hearts, for methods that learn shapes from unpaired masks."""

_CHANNEL = {"brain_mri": "t1", "abdomen_ct": "ct", HEART: "cine"}
_NAMES = {HEART: {1: "right ventricle", 2: "muscle", 3: "left ventricle"}}
_SUFFIX = {"image": ".nii.gz", "mask": "_mask.nii.gz", "points": "_points.json", "scribbles": "_scribbles.nii.gz"}


def list_samples() -> tuple[str, ...]:
    """The samples with extreme points; `TITLES` says what they show. `read_sample` and `sample_path` take `HEART` too."""
    return tuple(TITLES)


def sample_path(name: str, part: str = "image") -> Path:
    """Where a file of a sample lies.

    Parameters
    ----------
    name : str
        One of `list_samples`, or `HEART`, which has no points.
    part : {"image", "mask", "points", "scribbles"}
        Which of its files.

    Raises
    ------
    DataError
        No such sample, or no such part of it.
    """
    if name not in _CHANNEL:
        raise DataError(f"there is no sample {name!r}; choose one of {', '.join(_CHANNEL)}.")
    parts = [known for known in _SUFFIX if known != "points" or name != HEART]
    if part not in parts:
        raise DataError(f"{name} has no {part!r}; choose one of {', '.join(parts)}.")
    return Path(__file__).parent / f"{name}{_SUFFIX[part]}"


def cohort_files() -> tuple[Path, ...]:
    """The files of the sample cohort: ``cohort.json``, ``labels.csv``, images, and masks for scoring.

    Marks are written into a cohort's own file: copy the folder (``weakseg sample-data FOLDER``) and work on the copy.
    """
    return tuple(sorted(path for path in (Path(__file__).parent / COHORT).iterdir() if path.suffix in (".json", ".csv", ".gz")))


def unpaired_hearts() -> tuple[Path, ...]:
    """Where the masks of other hearts lie."""
    return tuple(sorted((Path(__file__).parent / OTHERS).glob("*.nii.gz")))


def read_sample(name: str) -> Case:
    """A sample with everything that was made for it.

    Returns
    -------
    Case
        One channel (int16), six points per structure (none for `HEART`), scribbles, and the reference mask.

    Raises
    ------
    DataError
        No such sample.
    """
    from ..case import Case
    from ..io.nifti import read_mask, read_volume
    from ..io.points import read_points
    from ..prompts import Scribbles, Structure

    volume = read_volume(sample_path(name), name=name)
    reference = read_mask(sample_path(name, "mask"), like=volume)
    strokes = read_mask(sample_path(name, "scribbles"), like=volume)
    if name in _NAMES:
        structures = tuple(Structure(words, value) for value, words in _NAMES[name].items())
        return Case(name, {_CHANNEL[name]: volume}, scribbles=Scribbles(strokes.array, structures), reference=reference)
    points = read_points(sample_path(name, "points"), volume)
    scribbles = Scribbles(strokes.array, points.structures)
    return Case(name, {_CHANNEL[name]: volume}, points=points, scribbles=scribbles, reference=reference)
