"""GP-UNet, GP-ShuffleUNet, GP-ReconResNet: image-level labels, a classifier, and the full-resolution map that decided.

`networks`: the three networks in 2D and 3D. `pooling`: the shared head, its heatmap and its decision points. `training`:
image labels to weights. `inference`: weights to scores, heatmaps and a mask. `comparison`: is the explanation true?
``arrays.heatmaps``: heatmap to mask and to prompts. ``arrays.faithfulness``: the measures.

References
----------
S. Chatterjee et al., "Weakly-supervised segmentation using inherently-explainable classification models and their application
to brain tumour classification", Neurocomputing 682:133460 (2026), arXiv 2206.05148.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from ...method import Card
from ...recipe import Recipe, knob

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ...case import Case
    from ...method import Result, Step, Weights

card = Card(
    name="explainable_heatmap",
    title="Image labels (explainable heatmap)",
    prompts=("image_label",),
    paper="Chatterjee et al., Neurocomputing 2026",
    doi="10.1016/j.neucom.2026.133460",
    dimensions="2D, 3D",
)

CODE = "authors' code"
NETWORKS = ("gp_unet", "gp_shuffleunet", "gp_reconresnet")


@dataclass(frozen=True, kw_only=True)
class ExplainableHeatmapRecipe(Recipe):
    """Settings of the explainable classifiers; defaults are those of ``laptop``."""

    PRESETS: ClassVar = {
        "laptop": {},
        "paper": {
            "width": 64,
            "depth": None,
            "normalisation": "published",
            "upsampling": "sinc",
            "dropout": 0.5,
            "pooling": "max",
            "phi": 0.0,
            "working_size": 0,
            "crop_body": False,
            "intensity": "slice maximum",
            "augmentation": "paper",
            "context": 0,
            "symmetry": "off",
            "sequence": 0.0,
            "self_training": 0.0,
            "learning_rate": 1e-3,
            "schedule": "constant",
            "averaging": 0.0,
            "weight_decay": 5e-4,
            "epochs": 300,
            "batch": 8,
            "accumulation": 16,
            "max_seconds": 1e7,
        },
    }

    network: str = knob("gp_unet", choices=NETWORKS, source="paper", tooltip="Which of the paper's three networks")
    dimensions: str = knob(
        "2D", choices=("2D", "3D"), source="paper", tooltip="2D: each slice is an image, as published; 3D: the whole volume"
    )
    width: int = knob(16, min=2, max=256, tooltip="Channels at full resolution, doubled at each coarser one; published: 64")
    depth: int | None = knob(4, min=2, max=6, tooltip="Number of resolutions; empty: as published (3, GP-ShuffleUNet 4)")
    blocks: int = knob(14, min=1, max=50, source=CODE, tooltip="Residual blocks of GP-ReconResNet")
    normalisation: str = knob(
        "batch",
        choices=("published", "batch"),
        tooltip="published: none, or instance norm in GP-ReconResNet; batch: batch norm before every activation",
    )
    upsampling: str = knob(
        "bilinear", choices=("bilinear", "sinc", "transposed"), tooltip="How maps grow (GP-ShuffleUNet shuffles voxels instead)"
    )
    dropout: float = knob(0.2, min=0, max=0.95, source=CODE, tooltip="Share of channels dropped in training; published: 0.5")
    pooling: str = knob(
        "top", choices=("max", "top", "log-sum-exp"), tooltip="What of a feature map the decision sees; published: max"
    )
    pooling_share: float = knob(0.02, min=0, max=1, tooltip="Share of the voxels whose mean is taken (top only)")
    pooling_sharpness: float = knob(
        5.0, min=0.01, max=1000, tooltip="Large: close to max, small: to the mean (log-sum-exp only)"
    )
    working_spacing: float = knob(
        0.0, min=0, max=20, unit="mm", tooltip="Images are resampled to this voxel size; 0 keeps theirs"
    )
    working_size: int = knob(
        96, min=0, max=2048, unit="voxels", tooltip="Images whose longer side is larger are shrunk to this; 0 keeps them"
    )
    crop_body: bool = knob(True, tooltip="Cut away the air around the body")
    intensity: str = knob(
        "body",
        choices=("body", "slice maximum"),
        tooltip="body: percentiles of the volume's body; slice maximum: each slice by its largest value, as published",
    )
    context: int = knob(
        1,
        min=0,
        max=16,
        unit="voxels",
        tooltip="Neighbouring slices on either side that a 2D network sees as well; published: 0",
    )
    symmetry: str = knob(
        "brighter",
        choices=("off", "brighter", "darker"),
        tooltip="Further channels show where one side of the body is brighter (or darker) than the other, as lesions are",
    )
    supervision: str = knob(
        "marks", choices=("marks", "masks"), tooltip="Learn from image labels, or from full masks (for comparisons only)"
    )
    augmentation: str = knob(
        "light", choices=("none", "light", "paper"), tooltip="paper: flips, rotation by any angle; light: flips, small changes"
    )
    learning_rate: float = knob(2e-3, min=0, max=1, tooltip="Learning rate of Adam; published: 0.001")
    schedule: str = knob(
        "cosine", choices=("constant", "cosine"), tooltip="cosine: the learning rate falls to nothing; constant: as published"
    )
    averaging: float = knob(
        0.99,
        min=0,
        max=0.99999,
        tooltip="Share of the old in the running mean of the weights that predicts; 0: the last weights",
    )
    self_training: float = knob(
        0.4,
        min=0,
        max=0.9,
        tooltip="Share of the epochs that also learn from its own refined heatmaps on training slices; 0: labels alone",
    )
    label_smoothing: float = knob(0.0, min=0, max=0.5, tooltip="Doubt about image-level labels; 0 takes them as certain")
    weight_decay: float = knob(5e-4, min=0, max=1, source=CODE, tooltip="Weight decay of Adam")
    epochs: float = knob(16.0, min=0, max=10**5, tooltip="Passes over the training images")
    batch: int = knob(16, min=1, max=1024, tooltip="Images per pass through the network; 1 is slow on a CPU")
    accumulation: int = knob(1, min=1, max=1024, tooltip="Passes whose gradients are summed before each step of the optimiser")
    clip: float = knob(1.0, min=0, max=1e6, source=CODE, tooltip="Bound on each value of the gradient; 0 for none")
    class_weights: bool = knob(True, source=CODE, tooltip="Rare classes count more, by their share of the training images")
    sequence: float = knob(
        0.0, min=0, max=1, tooltip="Weight of a slice's own view beside its neighbours', labels per slice only; 0: slices alone"
    )
    threshold: str = knob(
        "otsu",
        choices=("otsu", "negatives"),
        tooltip="otsu: from the volume's own heatmap; negatives: from training images without the class",
    )
    phi: float = knob(0.5, min=0, max=1, tooltip="otsu only: 0 draws the brightest of three classes, 1 the middle one as well")
    percentile: float = knob(
        99.5, min=0, max=100, tooltip="negatives only: share in % of their heatmap that must stay below the threshold"
    )
    min_component: float = knob(
        0.0, min=0, max=1e9, tooltip="Smaller components are dropped: mm³, or voxels where the spacing is unknown"
    )
    refine: bool = knob(True, tooltip="Seeds from the heatmap and the random walker on the image draw the boundary")
    max_seconds: float = knob(1100.0, min=0.0, max=1e7, unit="s", tooltip="Training stops after this")
    preview_seconds: float = knob(20.0, min=0, max=1e6, unit="s", tooltip="Time between previews; 0 shows none")
    stop_after: tuple[int, ...] = knob((), min=0, hidden=True, tooltip="Steps actually done per stage, for replay")


recipe_class = ExplainableHeatmapRecipe


def fit(
    cases: Sequence[Case],
    recipe: Recipe,
    weights: Weights | None = None,
    *,
    validation: Sequence[Case] = (),
    checkpoints: Any = None,
) -> Generator[Step, None, Weights]:
    """Learn from the image-level labels of `cases`; full masks are never read (but see the knob `supervision`)."""
    from .training import fit as run

    return run(cases, recipe, weights, validation=validation, checkpoints=checkpoints)


def predict(case: Case, weights: Weights) -> Result:
    """Scores, heatmaps, decision points and the mask of `case`; its own marks are not needed."""
    from .inference import predict as run

    return run(case, weights)


def working_memory(case: Case, recipe: Recipe, weights: Weights | None = None) -> int:
    """Bytes that a prediction needs beside image and result (a fit of many cases has its own bound); see `api.expected_memory`.

    Measured on volumes half of which are drawn (within 10 % for four shapes and both presets); less where less is drawn.
    """
    how = cast("ExplainableHeatmapRecipe", recipe)
    shape, voxels = case.volume.shape, case.volume.array.size
    sides = sorted(shape)[1:]
    canvas = how.working_size**2 if how.working_size else sides[0] * sides[1]
    slices, copies = (8, 4.6) if how.dimensions == "2D" else (min(shape[2], 96), 2.3)
    return int(73 * voxels + 9 * voxels * (len(case.channels) - 1) + 4 * copies * slices * canvas * how.width)


def faithfulness(
    cases: Sequence[Case], weights: Weights, *, on_case: Callable[[int, int], None] | None = None, **options: Any
) -> dict[str, dict[str, float | None]]:
    """Whether the heatmaps are true explanations, beside Grad-CAM, occlusion and chance; see `comparison.faithfulness`."""
    from .comparison import faithfulness as run

    return run(cases, weights, on_case=on_case, **options)
