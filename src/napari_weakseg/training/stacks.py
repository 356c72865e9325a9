"""Volumes as stacks of slices on a common pixel size, and the way back: one for fit and predict, so that they cut alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ..arrays.intensity import finite_intensity
from ..errors import DataError, PromptError, RecipeError
from ..prompts import BACKGROUND_STROKE, Structure, distinct, free_name
from .partial_losses import IGNORE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..case import Case
    from ..volume import Volume
    from .slice_recipe import SliceRecipe

Labels = NDArray[np.int8] | NDArray[np.int16]
"""Classes, `IGNORE` where unlabelled; the wider type where there are more structures than the narrow one can count."""

NARROW = 126
"""The highest class that int8 holds together with the next number, which counting needs."""

THICK = 1.2
"""An axis along which voxels are longer than along the others by this factor is the one that slices are stacked along."""

THICKEST = 3.0
"""A slice may be thicker than its pixels by this factor for a 3D network."""


@dataclass(frozen=True)
class Frame:
    """How every volume of a cohort is cut, so that training and prediction cut alike.

    Parameters
    ----------
    axis : int
        Axis that slices are stacked along where no axis has thick voxels: of RAS, or of the array where sides are unknown.
    spacing : float
        Pixel size in mm that slices are resampled to; 0 keeps each volume's own.
    """

    axis: int = 2
    spacing: float = 0.0


class Cut:
    """One volume as a stack of slices, and the way back.

    Parameters
    ----------
    volume : Volume
        Its grid is what counts.
    frame : Frame
        The cohort's.
    """

    def __init__(self, volume: Volume, frame: Frame) -> None:
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        if volume.orientation_known:
            own, ras = io_orientation(volume.affine), axcodes2ornt("RAS")
            self._to, self._from = ornt_transform(own, ras), ornt_transform(ras, own)
        else:
            self._to = self._from = np.array([[0, 1], [1, 1], [2, 1]], dtype=float)
        order = np.argsort(self._to[:, 0])
        steps = np.array(volume.spacing)[order]
        longest = int(steps.argmax())
        thick = steps[longest] > THICK * np.median(steps)
        self.axis = longest if thick else frame.axis
        self.file_axis = int(order[self.axis])
        self.reversed = bool(self._to[self.file_axis, 1] < 0)
        in_plane = [axis for axis in range(3) if axis != self.axis]
        sides = np.array([volume.shape[int(order[axis])] for axis in in_plane])
        pixels = steps[in_plane]
        target = np.full(2, frame.spacing) if frame.spacing > 0 and volume.spacing_known else np.full(2, pixels.min())
        self.native = (int(sides[0]), int(sides[1]))
        height, width = (max(1, int(n)) for n in np.round(sides * pixels / target))
        self.sides = (height, width)
        self.thickness = float(steps[self.axis] / target.min())

    def slices(self, array: NDArray[Any]) -> NDArray[Any]:
        """(I, J, K) as (S, H, W) at the volume's own pixel size."""
        from nibabel.orientations import apply_orientation

        return np.ascontiguousarray(np.moveaxis(np.asarray(apply_orientation(array, self._to)), self.axis, 0))

    def image(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """One channel (I, J, K) as (S, height, width): resampled, clipped to the 5..95 percentiles, (x - median) / IQR."""
        slices = torch.from_numpy(self.slices(finite_intensity(array)))[:, None]
        if self.sides != self.native:
            slices = functional.interpolate(slices, self.sides, mode="bilinear", align_corners=False, antialias=True)
        resampled: NDArray[np.float32] = slices[:, 0].numpy()
        low, first, middle, third, high = np.percentile(resampled, (5, 25, 50, 75, 95))
        spread = float(third - first) or float(high - low) or float(resampled.std()) or 1.0
        if high == low:  # hardly anything but air
            low, high = resampled.min(), resampled.max()
        return np.asarray((np.clip(resampled, low, high) - middle) / spread, dtype=np.float32)

    def labels(self, code: Labels, classes: int) -> Labels:
        """Classes (I, J, K), `IGNORE` where unlabelled, as (S, height, width).

        Where pixels grow, a pixel gets the class that most of the labelled voxels in it have: a thin stroke stays whole.
        """
        slices = self.slices(code)
        if self.sides == self.native:
            return slices
        if any(new > old for new, old in zip(self.sides, self.native, strict=True)):
            rows, columns = (
                np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
                for new, old in zip(self.sides, self.native, strict=True)
            )
            return np.ascontiguousarray(slices[:, rows][:, :, columns])
        s, i, j = np.nonzero(slices != IGNORE)
        value = slices[s, i, j].astype(np.int64)
        row = ((i + 0.5) * self.sides[0] / self.native[0]).astype(np.int64)
        column = ((j + 0.5) * self.sides[1] / self.native[1]).astype(np.int64)
        shape = (len(slices), *self.sides)
        counts = np.zeros((classes, int(np.prod(shape))), dtype=np.int32)
        np.add.at(counts, (value, np.ravel_multi_index((s, row, column), shape)), 1)
        best = classes - 1 - counts[::-1].argmax(axis=0)  # at a tie a structure wins over the background
        labels = np.where(counts.any(axis=0), best, IGNORE).reshape(shape)
        return labels.astype(np.int8) if code.dtype == np.int8 else labels.astype(np.int16)

    def maps(self, maps: NDArray[np.float32]) -> NDArray[np.float16]:
        """Probabilities (K, I, J, K') as (K, S, height, width): `back`, the other way round."""
        slices = torch.from_numpy(np.stack([self.slices(one) for one in maps]))
        if self.sides != self.native:
            slices = functional.interpolate(slices, self.sides, mode="bilinear", align_corners=False, antialias=True)
        return np.asarray(slices.numpy(), dtype=np.float16)

    def back(self, maps: torch.Tensor) -> NDArray[np.float32]:
        """Maps (S, C, height, width) as (C, I, J, K) on the volume's grid, interpolated linearly."""
        from nibabel.orientations import apply_orientation

        if self.sides != self.native:
            maps = functional.interpolate(maps, self.native, mode="bilinear", align_corners=False, antialias=True)
        whole = maps.movedim(0, 1).float().cpu().numpy()
        turned = [apply_orientation(np.moveaxis(one, 0, self.axis), self._from) for one in whole]
        return np.ascontiguousarray(np.stack(turned), dtype=np.float32)

    def in_file_order(self, per_slice: NDArray[Any]) -> NDArray[Any]:
        """Figures per slice in the order of the volume's own array axis `file_axis`."""
        return np.ascontiguousarray(per_slice[::-1]) if self.reversed else per_slice


@dataclass(frozen=True, eq=False)
class Stack:
    """The slices of one case.

    Parameters
    ----------
    image : ndarray, shape (C, S, H, W), float32
    labels : ndarray, shape (S, H, W), int8 or int16
        Class, or `IGNORE`: not marked.
    box : tuple of int or None
        First row, behind the last row, first column, behind the last column of what is marked as structure.
    first : ndarray, shape (K, S, H, W), float16, or None
        Probabilities of the first mask, where it is learnt from.
    """

    image: NDArray[np.float32]
    labels: Labels
    box: tuple[int, int, int, int] | None
    first: NDArray[np.float16] | None = None

    @classmethod
    def of(cls, image: NDArray[np.float32], labels: Labels) -> Stack:
        """With the box of the labels."""
        return cls(image, labels, _box(labels > 0))

    def marked_slices(self) -> list[int]:
        """Slices with marks."""
        return np.flatnonzero((self.labels != IGNORE).any(axis=(1, 2))).tolist()

    def filled_slices(self) -> list[int]:
        """Slices that are not of one value: a blank one teaches nothing."""
        if not len(self.image):
            return []
        return np.flatnonzero(self.image.max(axis=(0, 2, 3)) > self.image.min(axis=(0, 2, 3))).tolist()


def _box(marked: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero(marked.any(axis=(0, 2))), np.flatnonzero(marked.any(axis=(0, 1)))
    return (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1) if len(rows) else None


def structures_of(cases: Sequence[Case], recipe: SliceRecipe) -> tuple[Structure, ...]:
    """All structures of the cases, by value; with full masks alone each label is one.

    Raises
    ------
    PromptError
        There is nothing to learn from, or two cases call different structures by one name.
    """
    found: dict[int, Structure] = {}
    for case in cases:
        known = case.scribbles.structures if case.scribbles is not None else case.structures
        found |= {structure.value: structure for structure in known if structure.value not in found}
        if recipe.supervision == "masks" and case.reference is not None and not known:
            for value in np.unique(case.reference.array):
                if value and int(value) not in found:
                    found[int(value)] = Structure(free_name(found.values(), int(value), "label"), int(value))
    if not found:
        what = "strokes" if recipe.supervision == "marks" else "full masks"
        raise PromptError(f"no case has {what}; draw some on each structure and on the background.")
    return distinct(found[value] for value in sorted(found))


def codes_of(case: Case, structures: Sequence[Structure], recipe: SliceRecipe) -> Labels | None:
    """Classes (I, J, K) that supervise the case: 0 background, 1..C structures, `IGNORE` elsewhere; None without marks.

    Raises
    ------
    DataError
        Full masks are to be learnt from and the case has none, or its mask holds a value that no structure has.
    """
    order = {structure.value: index + 1 for index, structure in enumerate(structures)}
    if recipe.supervision == "masks":
        if case.reference is None:
            raise DataError(f"{case.id} has no full mask; give one, or learn from strokes (supervision=marks).")
        return _as_classes(case.reference.array, {0: 0, **order}, case.id)
    if case.scribbles is None:
        return None
    return _as_classes(case.scribbles.checked(case.volume).labels, {0: IGNORE, BACKGROUND_STROKE: 0, **order}, case.id)


def _as_classes(array: NDArray[Any], order: Mapping[int, int], name: str) -> Labels:
    code = np.full(array.shape, IGNORE, dtype=np.int8 if max(order.values()) <= NARROW else np.int16)
    for value in np.unique(array):
        if int(value) not in order:
            raise DataError(f"{name} holds the label {int(value)}, which no structure has; name its structure or remove it.")
        code[array == value] = order[int(value)]
    return code


def stack_of(case: Case, frame: Frame, structures: Sequence[Structure], recipe: SliceRecipe) -> Stack:
    """The case cut, resampled and normalised, with what supervises it."""
    cut = Cut(case.volume, frame)
    check_thickness(cut, case, recipe)
    image = np.stack([cut.image(channel.array) for channel in case.channels.values()])
    code = codes_of(case, structures, recipe)
    shape = image.shape[1:]
    labels = np.full(shape, IGNORE, np.int8) if code is None else cut.labels(code, len(structures) + 1)
    return Stack.of(image, labels)


def check_thickness(cut: Cut, case: Case, recipe: SliceRecipe) -> None:
    """Refuse a 3D network where slices are thick.

    Raises
    ------
    RecipeError
    """
    if recipe.dimensions == "3D" and cut.thickness > THICKEST:
        raise RecipeError(
            f"the slices of {case.id} are {cut.thickness:.1f} times as thick as their pixels are wide; use dimensions=2D."
        )


def mask_labels(mask: Volume, frame: Frame, structures: Sequence[Structure]) -> Labels:
    """The slices of an unpaired mask that hold a structure, (S, H, W).

    Raises
    ------
    DataError
        It holds a value that no structure has.
    """
    order = {structure.value: index + 1 for index, structure in enumerate(structures)}
    code = _as_classes(mask.array, {0: 0, **order}, f"the mask {mask.name}")
    labels = Cut(mask, frame).labels(code, len(structures) + 1)
    return labels[(labels > 0).any(axis=(1, 2))]


def frame_of(cases: Iterable[Case], structures: Sequence[Structure], recipe: SliceRecipe) -> Frame:
    """Slice axis and pixel size for a cohort, from its marked cases.

    The axis is the one along which the marks lie in the fewest slices: people draw in planes. The pixel size, where the recipe
    leaves it open, makes ``recipe.field`` times the extent of the structures (or the whole slice, if that is less) fill the
    window, but is never finer than the volumes' own.
    """
    axes = np.zeros(3)
    spacings: list[float] = []
    for case in cases:
        code = codes_of(case, structures, recipe)
        if code is None:
            continue
        cuts = [Cut(case.volume, Frame(axis)) for axis in range(3)]
        marked = code != IGNORE
        for axis, cut in enumerate(cuts):
            others = tuple(other for other in range(3) if other != cut.file_axis)
            axes[axis] += float(marked.any(axis=others).mean())
        axis = int(axes.argmin())
        cut = cuts[axis]
        place = _box(cut.slices(code > 0))
        step = float(min(np.delete(case.volume.spacing, cut.file_axis)))
        extent = max(cut.sides) if place is None else recipe.field * max(place[1] - place[0], place[3] - place[2])
        spacings.append(max(step, step * min(extent, max(cut.sides)) / recipe.window[-1]))
    axis = int(axes.argmin()) if axes.any() and np.ptp(axes) > 0 else 2
    if recipe.grid_spacing > 0 or not spacings:
        return Frame(axis, recipe.grid_spacing)
    return Frame(axis, round(float(np.median(spacings)), 4))
