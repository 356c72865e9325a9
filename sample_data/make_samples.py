"""Make the sample volumes that ship with napari-weakseg: brain MRI, abdominal CT, heart MRI, and a small cohort of heads.

Nobody was scanned: all are drawn from signed distances and band-limited noise (`shapes.py`, `brain.py`,
`abdomen.py`, `heart.py`, `cohort.py`), with numpy and scipy alone. Everything random comes from `SEED`, so the same versions
make the same voxels::

    python sample_data/make_samples.py            # writes into src/napari_weakseg/samples
    python sample_data/make_samples.py --check    # compares with the files that are there, writes nothing
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from abdomen import make_abdomen
from brain import make_brain
from cohort import TESTING, TRAINING, make_case
from heart import LEFT, make_heart, make_other_mask
from scipy import ndimage

from napari_weakseg.arrays.extreme_points import simulate_points
from napari_weakseg.arrays.simulated_scribbles import simulate_scribbles
from napari_weakseg.io.cohort import write_cohort as write_cohort_file
from napari_weakseg.prompts import BACKGROUND_STROKE, ExtremePoints, Structure

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 20261121
HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parent / "src" / "napari_weakseg" / "samples"
STRUCTURES = {
    "brain_mri": (Structure("lesion", 1, concept=("SCT", "52988006", "Lesion")),),
    "abdomen_ct": (Structure("liver", 1), Structure("right kidney", 2)),
}
COHORT = "brain_cohort"
MAKERS = {"brain_mri": make_brain, "abdomen_ct": make_abdomen}
HEART, OTHERS, OTHER_HEARTS = "heart_mri", "unpaired_hearts", 12


def make(name: str) -> dict[str, Any]:
    """One sample: ``image``, ``mask``, ``scribbles`` (arrays in voxel order), ``affine`` and ``points`` (JSON values)."""
    image, mask, affine = MAKERS[name](SEED)
    rng = np.random.default_rng(SEED)
    structures = STRUCTURES[name]
    sixes = np.stack([simulate_points(mask == s.value, jitter=1, rng=rng) for s in structures]).astype(float)
    points = ExtremePoints(sixes, np.array([s.value for s in structures]), structures, affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    scribbles = draw_scribbles(mask, spacing)
    return {"image": image, "mask": mask, "scribbles": scribbles, "affine": affine, "points": points.to_json()}


def draw_scribbles(mask: NDArray[np.uint8], spacing: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A few strokes as a quick reader would draw them: on three axial slices per structure, and around it.

    A structure's stroke runs along the middle of its section; the background's is an open arc 8 mm outside.

    Returns
    -------
    ndarray, shape (I, J, K), uint8
        0 not marked, 1..C structures, 255 background.
    """
    strokes = np.zeros_like(mask)
    pixel = float(spacing[0])
    for value in range(1, int(mask.max()) + 1):
        slices = np.flatnonzero((mask == value).any(axis=(0, 1)))
        for k in slices[[len(slices) // 4, len(slices) // 2, 3 * len(slices) // 4]]:
            plane = mask[:, :, k]
            pieces, _ = ndimage.label(plane == value)
            section = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
            strokes[:, :, k][_middle_line(section)] = value
            arc = _arc(section, ndimage.distance_transform_edt(plane == 0) * pixel, distance=8.0 / pixel)
            strokes[:, :, k][arc & (plane == 0)] = BACKGROUND_STROKE
    return strokes


def _middle_line(section: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a line along the middle of a section, ends trimmed."""
    places = np.argwhere(section)
    centre = places.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((places - centre).T))
    along, across = vectors[:, 1], vectors[:, 0]
    depth = ndimage.distance_transform_edt(section)[section]
    reach = (places - centre) @ along
    low, high = np.quantile(reach, [0.10, 0.90])
    knots = np.linspace(low, high, 9)
    best = [places[np.abs(reach - t) < 1.0][depth[np.abs(reach - t) < 1.0].argmax()] for t in knots]
    offset = np.array([(place - centre) @ across for place in best])
    smooth = ndimage.gaussian_filter1d(offset, 1.0)
    return _polyline(centre + knots[:, None] * along + smooth[:, None] * across, section.shape) & section


def _arc(section: NDArray[np.bool_], clear: NDArray[np.float64], *, distance: float) -> NDArray[np.bool_]:
    """Pixels of an open line around a section, where no structure is nearer than 4 mm."""
    places = np.argwhere(section)
    centre = places.mean(axis=0)
    turn = np.arctan2(*(places - centre).T[::-1])
    radius = np.hypot(*(places - centre).T)
    angles = np.linspace(-np.pi, np.pi, 24, endpoint=False)
    outer = np.array([radius[np.abs(np.angle(np.exp(1j * (turn - a)))) < 0.25].max(initial=2.0) for a in angles]) + distance
    knots = centre + outer[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return _polyline(knots[2:20], section.shape) & (clear > 4.0)


def _polyline(knots: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels of a line, one wide."""
    drawn = np.zeros(shape, dtype=bool)
    for start, stop in itertools.pairwise(knots):
        steps = np.linspace(start, stop, int(np.ceil(np.abs(stop - start).max())) * 2 + 1)
        inside = ((steps >= 0) & (steps <= np.array(shape) - 1)).all(axis=1)
        drawn[tuple(np.rint(steps[inside]).astype(int).T)] = True
    return drawn


def voxel_hash(array: NDArray[Any]) -> str:
    """SHA-256 of shape, type and voxels."""
    digest = hashlib.sha256(repr((array.shape, array.dtype.str)).encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def make_cohort() -> dict[str, dict[str, Any]]:
    """The small cohort: ``image``, ``mask`` and ``affine`` of every case, by id."""
    made = (make_case(number, SEED) for number in range(TRAINING + TESTING))
    return {f"case_{n:02d}": dict(zip(("image", "mask", "affine"), case, strict=True)) for n, case in enumerate(made)}


def write_cohort(cases: dict[str, dict[str, Any]], folder: Path) -> None:
    """Images, masks (for scoring alone), the table of labels per slice, and the cohort file that names them."""
    folder.mkdir(exist_ok=True)
    rows, entries = ["case,slice,class"], []
    for number, (name, parts) in enumerate(cases.items()):
        for part, suffix in (("image", ""), ("mask", "_mask")):
            write_image(parts[part], parts["affine"], folder / f"{name}{suffix}.nii.gz")
        shown = parts["mask"].any(axis=(0, 1))
        rows += [f"{name},{k},{'lesion' if here else 'normal'}" for k, here in enumerate(shown)]
        entry = {"id": name, "image": f"{name}.nii.gz", "image_label": "labels.csv", "label": f"{name}_mask.nii.gz"}
        entries.append((number < TRAINING, entry))
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    data = {
        "name": "brain_cohort",
        "channels": ["flair"],
        "structures": [{"name": "lesion", "value": 1}],
        "image_classes": ["normal", "lesion"],
        "slice_axis": 2,
        "training": [entry for learnt, entry in entries if learnt],
        "validation": [],
        "testing": [entry for learnt, entry in entries if not learnt],
        "unpaired_masks": [],
    }
    write_cohort_file(data, folder / "cohort.json")


def check_cohort(cases: dict[str, dict[str, Any]], folder: Path) -> list[str]:
    """The cases whose voxels differ from the files in `folder`."""
    return [
        f"{name} {part}"
        for name, parts in cases.items()
        for part, suffix in (("image", ""), ("mask", "_mask"))
        if voxel_hash(np.asanyarray(nib.load(folder / f"{name}{suffix}.nii.gz").dataobj)) != voxel_hash(parts[part])
    ]


def write_image(array: NDArray[Any], affine: NDArray[np.float64], path: Path) -> None:
    """One NIfTI file; gzip without a time stamp, so that the same voxels give the same bytes."""
    picture = nib.Nifti1Image(array, affine)
    picture.set_sform(affine, code=1)
    picture.set_qform(affine, code=1)
    picture.header.set_xyzt_units("mm")
    path.write_bytes(gzip.compress(picture.to_bytes(), compresslevel=9, mtime=0))


def write(name: str, parts: dict[str, Any], folder: Path) -> None:
    """One sample's four files."""
    for part, suffix in (("image", ""), ("mask", "_mask"), ("scribbles", "_scribbles")):
        write_image(parts[part], parts["affine"], folder / f"{name}{suffix}.nii.gz")
    (folder / f"{name}_points.json").write_text(json.dumps(parts["points"]) + "\n", encoding="utf-8")


def check(name: str, parts: dict[str, Any], folder: Path) -> list[str]:
    """The parts whose voxels or points differ from the files in `folder`."""
    different = []
    for part, suffix in (("image", ""), ("mask", "_mask"), ("scribbles", "_scribbles")):
        shipped = np.asanyarray(nib.load(folder / f"{name}{suffix}.nii.gz").dataobj)
        if voxel_hash(shipped) != voxel_hash(parts[part]):
            different.append(part)
    if json.loads((folder / f"{name}_points.json").read_text(encoding="utf-8")) != parts["points"]:
        different.append("points")
    return different


def make_hearts() -> dict[str, tuple[NDArray[Any], NDArray[np.float64]]]:
    """The heart to draw on, with strokes on every third of its slices, and masks of others: array and affine by file."""
    image, mask, affine = make_heart(SEED)
    strokes = simulate_scribbles(mask, every=3, seed=SEED, border=False)
    for k in np.flatnonzero((strokes == LEFT).any(axis=(0, 1))):
        plane, flat = strokes[:, :, k], mask[:, :, k]
        i, j = (int(n) for n in np.argwhere(flat == LEFT).mean(axis=0).round())
        reach = int(0.6 * np.sqrt((flat == LEFT).sum() / np.pi))
        plane[i - reach : i + reach + 1, j] = LEFT  # the skeleton of a disc is a dot: nobody draws that
        distance = ndimage.distance_transform_edt(flat == 0)
        plane[plane == BACKGROUND_STROKE] = 0
        plane[(distance > 4) & (distance <= 5.2)] = BACKGROUND_STROKE  # once around the heart
    made = {HEART: image, f"{HEART}_mask": mask, f"{HEART}_scribbles": strokes}
    others = {f"{OTHERS}/mask_{n:02d}": make_other_mask(n, SEED) for n in range(1, OTHER_HEARTS + 1)}
    return {name: (array, affine) for name, array in made.items()} | others


def write_hearts(files: dict[str, tuple[NDArray[Any], NDArray[np.float64]]], folder: Path) -> None:
    """All of `make_hearts`."""
    (folder / OTHERS).mkdir(exist_ok=True)
    for name, (array, affine) in files.items():
        write_image(array, affine, folder / f"{name}.nii.gz")


def check_hearts(files: dict[str, tuple[NDArray[Any], NDArray[np.float64]]], folder: Path) -> list[str]:
    """The files whose voxels differ from those in `folder`."""
    return [
        name
        for name, (array, _) in files.items()
        if voxel_hash(np.asanyarray(nib.load(folder / f"{name}.nii.gz").dataobj)) != voxel_hash(array)
    ]


def draw_sheet(samples: dict[str, dict[str, Any]], path: Path) -> None:
    """A contact sheet: axial slices of both, with mask borders and strokes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(4, 5, figsize=(15, 11.6), facecolor="black", height_ratios=[3.7, 3.7, 2.2, 2.2])
    for rows, (name, parts) in zip((axes[:2], axes[2:]), samples.items(), strict=True):
        window = (0, 540) if name == "brain_mri" else (-150, 250)
        codes = nib.aff2axcodes(parts["affine"])
        turned = [parts[key] for key in ("image", "mask", "scribbles")]
        # radiological: the patient's right on the left, the front on top
        flips = tuple(slice(None, None, -1 if code in "RA" else 1) for code in codes[:2])
        count = parts["image"].shape[2]
        for panel, k in zip(rows.flat, np.linspace(2, count - 3, 10).astype(int), strict=True):
            image, mask, strokes = (volume[flips][:, :, k].T for volume in turned)
            panel.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear")
            for value, colour in ((1, "#E69F00"), (2, "#56B4E9")):
                if (mask == value).any():
                    panel.contour(mask == value, [0.5], colors=colour, linewidths=0.9)
                panel.plot(*np.argwhere(strokes == value)[:, ::-1].T, "s", color=colour, markersize=1.6)
            panel.plot(*np.argwhere(strokes == BACKGROUND_STROKE)[:, ::-1].T, "s", color="white", markersize=1.0)
            panel.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    figure.savefig(path, dpi=54)
    plt.close(figure)


def main() -> int:
    """Make both samples, write or compare them; exit code 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the shipped files, write nothing")
    parser.add_argument("--only", choices=[*sorted(MAKERS), COHORT, HEART], help="one sample alone (no contact sheet)")
    parser.add_argument("--folder", type=Path, default=SHIPPED, help="where the files lie (default: the package's samples)")
    options = parser.parse_args()
    names = [options.only] if options.only else [*MAKERS, COHORT, HEART]
    samples = {name: make(name) for name in names if name in MAKERS}
    cases = make_cohort() if COHORT in names else {}
    hearts = make_hearts() if HEART in names else {}
    if options.check:
        different = {name: check(name, parts, options.folder) for name, parts in samples.items()}
        if cases:
            different[COHORT] = check_cohort(cases, options.folder / COHORT)
        if hearts:
            different[HEART] = check_hearts(hearts, options.folder)
        for name, found in different.items():
            print(f"{name}: {'same as shipped' if not found else 'differs in ' + ', '.join(found)}")
        return 1 if any(different.values()) else 0
    for name, parts in samples.items():
        write(name, parts, options.folder)
        print(f"{name}: {parts['image'].shape}, mask {np.bincount(parts['mask'].ravel())[1:].tolist()} voxels")
    if cases:
        write_cohort(cases, options.folder / COHORT)
        print(f"{COHORT}: {len(cases)} cases, {sum(parts['mask'].any() for parts in cases.values())} with a lesion")
    if hearts:
        write_hearts(hearts, options.folder)
        print(f"{HEART}: {hearts[HEART][0].shape}, and {OTHER_HEARTS} masks of others")
    if not options.only:
        draw_sheet(samples, HERE / "contact_sheet.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
