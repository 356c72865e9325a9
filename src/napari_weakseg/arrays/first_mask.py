r"""The classical first mask: everything six clicks say without a network, in well under a second.

1. A window around the box is cut out and averaged down to a working grid of at most 64 voxels per axis.
2. *Shape*: the radius in the tangent ellipsoid (`tangent_ellipsoid`).
3. *Appearance*: log-likelihood ratio of joint histograms (intensity, and intensity of the wider surroundings) inside
   and outside. They start from the ellipsoid's core and the places just inside the six points, against everything
   outside the box, and are re-estimated a few times with the posterior (as in GrabCut, Rother et al. 2004).
4. *Edges*: watersheds of the gradient magnitude vote, from the ellipsoid's core at several radii and from minimum-cost paths
   between opposite points (`object_paths`), and a random walker from the same paths.
5. The three are added as logits, and a random walker with that prior (`random_walker`) draws the boundary at the
   volume's own resolution, inside the box, which is tight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from .extreme_points import box_of
from .intensity import averaged, block_factors, interpolated, scaled_intensity
from .object_paths import object_paths
from .random_walker import BACKGROUND, FREE, random_walker
from .tangent_ellipsoid import ellipsoid_radius

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MARGIN = 0.25
"""Margin of the window around the box, as a share of the box's side: appearance outside is learnt there. It scales with
the object, so it needs no unit."""

SLACK = 1
"""Voxels by which a click may miss: the mask may reach that far beyond the box of the points."""

BINS = 16
"""Levels of each of the two intensities in the joint histograms."""

REACH = 0.06
"""How far the image may move the boundary of the prior, as a share of the object's size."""

BETA = 1000.0
"""How much an edge stops the walker that draws the boundary."""

SHAPE_WEIGHT, APPEARANCE_WEIGHT = 1.2, 0.6
"""Weights of the logits beside that of the edges, which is 1: chosen on the development cases, once for all sets."""

WALKER_VOTES, WALKER_BETA = 3, 8000.0
"""Votes of the random walker from the paths, and how much an edge stops it."""

CORES = (0.4, 0.55, 0.7)
RIMS = (1.35, 1.45, 1.6)
"""Radii inside which a watershed starts as object, and outside which as background; one vote per pair."""


@dataclass(frozen=True, eq=False)
class Window:
    """A part of a volume around one object.

    Parameters
    ----------
    start, stop : tuple of int
        Half-open box in the volume.
    points : ndarray, shape (6, 3)
        The object's points in voxels of the window.
    spacing : ndarray, shape (3,)
        Voxel size.
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    points: NDArray[np.float64]
    spacing: NDArray[np.float64]

    @classmethod
    def around(
        cls, points: ArrayLike, shape: tuple[int, ...], spacing: ArrayLike = (1, 1, 1), *, margin: float = MARGIN
    ) -> Window:
        """The box of `points` grown by `margin` times its side, at least `SLACK` + 2 voxels, clipped to the volume."""
        array = np.asarray(points, dtype=np.float64)
        side = np.diff(box_of(array, shape), axis=0)[0]
        start, stop = box_of(array, shape, margin=np.maximum(SLACK + 2, np.ceil(margin * side)).astype(int))
        (i, j, k), (a, b, c) = start.tolist(), stop.tolist()
        return cls((i, j, k), (a, b, c), array - start, np.asarray(spacing, dtype=np.float64))

    @property
    def index(self) -> tuple[slice, slice, slice]:
        """Index of the window in the volume."""
        i, j, k = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return i, j, k

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels per axis."""
        i, j, k = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return i, j, k

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """Index, in the window, of the box grown by `SLACK`: the mask stays inside it."""
        start, stop = box_of(self.points, self.shape, margin=SLACK)
        i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        return i, j, k


def first_mask(image: NDArray[Any], window: Window) -> NDArray[np.float32]:
    """Probability that a voxel belongs to the object, from its six points alone.

    Parameters
    ----------
    image : ndarray, shape of `window`
        The volume's intensities in the window.
    window : Window
        Where it lies, with the points.

    Returns
    -------
    ndarray, shape of `window`, float32
        0 outside the box of the points; threshold 0.5, see `clean_mask`.
    """
    return sharpened(image, coarse_first_mask(image, window), window)


def coarse_first_mask(image: NDArray[Any], window: Window) -> NDArray[np.float32]:
    """Like `first_mask` without its last step: shape, appearance and edges added up on the working grid."""
    scaled = scaled_intensity(image)
    factors = block_factors(scaled.shape)
    prior = _prior(averaged(scaled, factors), (window.points + 0.5) / factors - 0.5, window.spacing * factors)
    full = np.zeros(scaled.shape, dtype=np.float32)
    full[window.box] = interpolated(prior, factors, window.box)
    return full


def sharpened(image: NDArray[Any], prior: NDArray[np.float32], window: Window, *, reach: float = REACH) -> NDArray[np.float32]:
    """Let the random walker draw the boundary of a coarse probability along the image's edges, inside the box.

    Parameters
    ----------
    image : ndarray, shape of `window`
        Intensities.
    prior : ndarray, shape of `window`, float32
        The coarse probability.
    window : Window
        Where both lie.
    reach : float
        Diffusion length as a share of the object's size: so far may the image move the boundary.

    Returns
    -------
    ndarray, shape of `window`, float32
    """
    scaled = scaled_intensity(image)
    seeds = np.full(scaled.shape, BACKGROUND, dtype=np.int8)
    seeds[window.box] = FREE
    side = np.ptp(window.points, axis=0) + 1
    gamma = float(np.clip((0.08 * np.exp(np.log(side).mean())) ** -2, 0.03, 1.0)) * (0.08 / reach) ** 2
    spacing = window.spacing / window.spacing.min()
    maps = random_walker(scaled, seeds, spacing=spacing, beta=BETA, gamma=gamma, prior=prior, start=prior, tol=1e-2)
    return np.asarray(maps[0])


def clean_mask(probability: NDArray[np.floating[Any]], window: Window, *, threshold: float = 0.5) -> NDArray[np.bool_]:
    """The component that holds most of the ellipsoid's core, holes filled; never empty while any voxel has a probability."""
    mask = probability > threshold
    if not mask.any():
        mask = probability >= max(float(probability.max()) * 0.5, 1e-6)
    components, number = ndimage.label(mask)
    if number > 1:
        weight = np.exp(-np.square(ellipsoid_radius(window.points, window.shape)))
        held = np.bincount(components.ravel(), weights=weight.ravel())
        held[0] = 0
        mask = components == held.argmax()
    return np.asarray(ndimage.binary_fill_holes(mask), dtype=bool)


def _prior(image: NDArray[np.float32], points: NDArray[np.float64], spacing: NDArray[np.float64]) -> NDArray[np.float32]:
    """Shape, appearance and edges as one probability on the working grid."""
    radius = ellipsoid_radius(points, image.shape)
    inside = np.zeros(image.shape, dtype=bool)
    inside[tuple(slice(a, b) for a, b in box_of(points, image.shape, margin=SLACK).T)] = True
    shape = SHAPE_WEIGHT * np.clip(1 - radius**2, -2, 1)
    look = _appearance(image, points, spacing, radius, inside, shape)
    votes = _edge_votes(image, points, spacing, radius, inside)
    logit = shape + APPEARANCE_WEIGHT * look + _logit(votes)
    return np.where(inside, 1 / (1 + np.exp(-np.clip(logit, -12, 12))), 0).astype(np.float32)


def _logit(probability: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    clipped = np.clip(probability, 0.02, 0.98)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _appearance(
    image: NDArray[np.float32],
    points: NDArray[np.float64],
    spacing: NDArray[np.float64],
    radius: NDArray[np.float32],
    inside: NDArray[np.bool_],
    shape: NDArray[np.float32],
    rounds: int = 3,
) -> NDArray[np.float64]:
    """Log-likelihood ratio of the joint histograms inside and outside, clipped to +-4."""
    near = ndimage.gaussian_filter(image, 0.7 * spacing.min() / spacing)
    wide = ndimage.gaussian_filter(image, 2.0 * spacing.min() / spacing)
    cell = np.minimum((near * BINS).astype(int), BINS - 1) * BINS + np.minimum((wide * BINS).astype(int), BINS - 1)
    behind_points = _just_inside(points, image.shape) * inside
    core = inside * np.exp(-np.square(radius / 0.8))
    object_weight = core / core.sum() + 0.5 * behind_points / max(float(behind_points.sum()), 1e-12)
    outside_weight = (~inside | (radius > 1.5)).astype(np.float64)
    ratio = np.zeros(image.shape)
    for _ in range(rounds + 1):
        table = np.log(_histogram(cell, object_weight)) - np.log(_histogram(cell, outside_weight))
        ratio = np.clip(table, -4, 4)[cell]
        posterior = np.where(inside, 1 / (1 + np.exp(-(ratio + shape))), 0)
        object_weight = posterior / max(float(posterior.sum()), 1e-12) + 0.25 * behind_points / max(
            float(behind_points.sum()), 1e-12
        )
        outside_weight = 1 - posterior
    return ratio


def _just_inside(points: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Gaussian blobs two voxels from each point towards the centre: the object is there, wherever its middle may be."""
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    reach = np.maximum(0.08 * (points.max(axis=0) - points.min(axis=0) + 1), 1.0)
    total = np.zeros(shape)
    for point in points:
        way = centre - point
        place = point + way * min(2.0 / max(float(np.linalg.norm(way)), 1e-6), 0.5)
        i, j, k = (np.exp(-0.5 * np.square((np.arange(n) - x) / r)) for n, x, r in zip(shape, place, reach, strict=True))
        total += i[:, None, None] * j[:, None] * k
    return total


def _histogram(cell: NDArray[np.integer[Any]], weight: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Smoothed joint histogram, normalised to a mean of about 1 per occupied row, with a floor against empty cells."""
    counts = np.bincount(cell.ravel(), weights=weight.ravel(), minlength=BINS * BINS).reshape(BINS, BINS)
    smooth = ndimage.gaussian_filter(counts, 1.0, mode="nearest")
    return np.asarray(smooth / max(float(smooth.sum()), 1e-12) * BINS + 2e-3 * BINS).ravel()


def _edge_votes(
    image: NDArray[np.float32],
    points: NDArray[np.float64],
    spacing: NDArray[np.float64],
    radius: NDArray[np.float32],
    inside: NDArray[np.bool_],
) -> NDArray[np.floating[Any]]:
    """Share of the votes for the object, slightly blurred: watersheds from cores and from paths, a walker from paths."""
    from skimage.segmentation import watershed

    gradient = ndimage.gaussian_gradient_magnitude(image, 0.5)
    votes = np.zeros(image.shape, dtype=np.float32)
    count = 0
    for core, rim in zip(CORES, RIMS, strict=True):
        markers = np.where(~inside | (radius > rim), 2, np.where(radius < core, 1, 0))
        if not (markers == 1).any():
            markers[np.unravel_index(int(radius.argmin()), radius.shape)] = 1
        votes += watershed(gradient, markers) == 1
        count += 1
    background = ~inside | (radius > 1.55)
    paths = object_paths(image, points, spacing) & ~background
    if paths.any() and background.any():
        votes += watershed(gradient, np.where(paths, 1, np.where(background, 2, 0))) == 1
        seeds = np.where(paths, 1, np.where(background, BACKGROUND, FREE)).astype(np.int8)
        votes += WALKER_VOTES * random_walker(image, seeds, beta=WALKER_BETA, tol=1e-2)[0]
        count += 1 + WALKER_VOTES
    return np.asarray(ndimage.gaussian_filter(votes / count, 0.7 * spacing.min() / spacing))
