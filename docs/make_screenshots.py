"""Pictures of the real window for the documentation, on the project's own sample volumes.

Run on a machine without a screen as ``xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py``, with
``points``, ``cohort`` or ``scribbles`` for one part alone. Every picture is to be looked at before it is committed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDockWidget

from napari_weakseg.demo import DEMO_RECIPE
from napari_weakseg.samples import read_sample

FOLDER = Path(__file__).parent / "images"
SECONDS = 30.0


def shoot(viewer: napari.Viewer, name: str) -> None:
    """Save the whole window as a small PNG, and refuse one whose canvas stayed empty."""
    from PIL import Image

    for _ in range(20):
        QApplication.processEvents()
    canvas = viewer.screenshot(canvas_only=True, flash=False)
    assert len(np.unique(canvas.reshape(-1, 4), axis=0)) > 50, "the canvas is empty"
    picture = Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)[..., :3])
    picture.save(FOLDER / name, optimize=True)
    assert (FOLDER / name).stat().st_size < 300_000, "the picture is too large for the repository"


def wait_for(condition: object, seconds: float = 120.0) -> None:
    """Let the window work until something is so."""
    waited = 0.0
    while not condition():  # type: ignore[operator]
        QTest.qWait(50)
        waited += 0.05
        assert waited < seconds, "the window took too long"


def main() -> None:
    """Take the pictures of the parts that are named, or of all."""
    FOLDER.mkdir(exist_ok=True)
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp()  # no journal of another session is to be offered
    parts = {"points": points_pictures, "cohort": cohort_pictures, "scribbles": scribbles_pictures}
    for name in sys.argv[1:] or parts:
        parts[name]()


def dock(viewer: napari.Viewer, name: str, width: int = 340) -> Any:
    """Open a panel from the menu, in a window of the pictures' size."""
    _, panel = viewer.window.add_plugin_dock_widget("napari-weakseg", name, tabify=True)
    window = viewer.window._qt_window
    window.resize(QSize(1200, 860))
    docks = [found for found in window.findChildren(QDockWidget) if found.widget() is panel]
    window.resizeDocks(docks, [width], Qt.Orientation.Horizontal)
    docks[0].raise_()
    QTest.qWait(500)
    return panel


def cohort_pictures() -> None:
    """Label, train, predict, review; then what the classifier decided from."""
    from napari_weakseg.demo import copy_samples
    from napari_weakseg.samples import COHORT

    folder = Path(tempfile.mkdtemp())
    copy_samples(folder)
    viewer = napari.Viewer(show=True)
    panel = dock(viewer, "Cohort", 380)
    panel.open_cohort(str(folder / COHORT / "cohort.json"))
    panel.open_case("case_04")
    wait_for(lambda: panel.desk.case_id == "case_04")
    QTest.qWait(500)
    shoot(viewer, "cohort_labels.png")
    for knob, value in DEMO_RECIPE.items():
        panel.training.form.container[knob].value = value
    panel.training.train()
    wait_for(lambda: panel.training.runs.news is not None and panel.training.runs.news.share > 0.6, 1800)
    shoot(viewer, "cohort_training.png")
    wait_for(lambda: panel.training.runs.idle, 1800)
    panel.training.predict()
    wait_for(lambda: panel.training.runs.idle, 900)
    panel.open_case("case_12")
    wait_for(lambda: panel.desk.case_id == "case_12" and not panel._opening)
    QTest.qWait(500)
    shoot(viewer, "cohort_review.png")
    run = panel.training.folder
    panel.desk.close_case()
    viewer.window.remove_dock_widget(panel.parent())
    viewer.open(folder / COHORT / "case_12.nii.gz", plugin="napari-weakseg")
    panel = dock(viewer, "Explainable heatmap")
    panel.open_run(str(run))
    panel.start()
    wait_for(lambda: panel.task is None and panel.desk.explanation is not None, 300)
    panel.view.decision_box.click()
    QTest.qWait(500)
    shoot(viewer, "explainable_heatmap.png")
    viewer.close()


def points_pictures() -> None:
    """Open, click, refine, accept; a picture of each."""
    case = read_sample("brain_mri")
    assert case.points is not None
    viewer = napari.Viewer(show=True)
    viewer.open_sample("napari-weakseg", "brain_mri")
    _, panel = viewer.window.add_plugin_dock_widget("napari-weakseg", "Extreme points (SimPLe)")
    window = viewer.window._qt_window
    window.resize(QSize(1200, 800))
    docks = [dock for dock in window.findChildren(QDockWidget) if dock.widget() is panel]
    window.resizeDocks(docks, [340], Qt.Orientation.Horizontal)
    QTest.qWait(500)
    bench = panel.bench
    points = bench.layers.find("points")
    six = case.points.points[0]
    middle = (six.min(axis=0) + six.max(axis=0)) / 2
    for coordinate in bench.layers.grid.points_to_layer(six)[:4]:
        points.add(coordinate)
        QTest.qWait(100)
    bench.layers.jump(np.round(six[:4].mean(axis=0)))
    zoom(viewer, bench, middle)
    shoot(viewer, "points.png")
    for coordinate in bench.layers.grid.points_to_layer(six)[4:]:
        points.add(coordinate)
        QTest.qWait(100)
    wait_for(lambda: bench.proposals and panel.runs.idle)
    bench.layers.jump(np.round(middle))
    QTest.qWait(300)
    shoot(viewer, "first_mask.png")
    correct(viewer, panel, six)
    panel.form.container["max_seconds"].value = SECONDS
    panel.runs.refine()
    halfway = lambda: panel.runs.progress is not None and panel.runs.progress.share > 0.15  # noqa: E731
    wait_for(lambda: halfway() or panel.runs.idle)  # a busy machine may take the rest in one stride
    assert not panel.runs.idle, "the run had ended before it could be seen; give it more SECONDS"
    shoot(viewer, "refining.png")
    wait_for(lambda: panel.runs.idle)
    panel.accept()
    panel.view.measures.expand(animate=False)
    panel.refresh()
    QTest.qWait(300)
    shoot(viewer, "accepted.png")
    viewer.close()


def scribbles_pictures() -> None:
    """Strokes on a heart, what a network learns from them, and strokes from elsewhere."""
    from napari_weakseg.demo import copy_samples
    from napari_weakseg.io.nifti import write_mask
    from napari_weakseg.samples import HEART

    folder = Path(tempfile.mkdtemp())
    copy_samples(folder)
    case = read_sample(HEART)
    assert case.scribbles is not None
    viewer = napari.Viewer(show=True)
    viewer.open_sample("napari-weakseg", HEART)
    panel = dock(viewer, "Scribbles (adversarial gates)", 380)
    for value, name in ((1, "right ventricle"), (2, "muscle"), (3, "left ventricle")):
        if value > 1:
            panel.add_structure()
        panel._rename(value, name)
    for code in (1, 2, 3, 255):
        scribble(panel, case.scribbles.labels, code)
    show_middle(viewer, panel, case.scribbles.labels)
    shoot(viewer, "scribbles_strokes.png")
    panel.read_masks(str(folder / "unpaired_hearts"))
    wait_for(lambda: panel.desk.masks)
    for knob, value in HEART_RECIPE.items():
        panel.form.container[knob].value = value
    panel.runs.refine()
    wait_for(lambda: panel.runs.news is not None and panel.runs.news.share > 0.6, 3600)
    shoot(viewer, "scribbles_refining.png")
    wait_for(lambda: panel.runs.idle, 3600)
    panel.view.maps_box.click()
    for name in ("1/1", "1/4", "1/8"):
        viewer.layers[f"{HEART} attention {name}"].visible = False
    for name in ("mask of strokes", "scribbles"):
        viewer.layers[f"{HEART} {name}"].visible = False
    shoot(viewer, "scribbles_attention.png")
    panel.view.maps_box.click()
    viewer.layers[f"{HEART} refined mask of strokes"].visible = False
    foreign = np.full(case.volume.shape, 4, dtype=np.uint8)
    marked = case.scribbles.labels > 0
    foreign[marked] = np.where(case.scribbles.labels[marked] == 255, 0, case.scribbles.labels[marked])
    write_mask(case.volume.with_array(foreign), folder / "drawn_elsewhere.nii.gz")
    panel.open_strokes(str(folder / "drawn_elsewhere.nii.gz"))
    wait_for(lambda: panel.view.codes.question is not None)
    QTest.qWait(500)
    shoot(viewer, "scribbles_codes.png")
    viewer.close()


HEART_RECIPE = {"max_seconds": 60.0, "steps": 150, "preview_seconds": 20.0}


def scribble(panel: Any, codes: np.ndarray, code: int) -> None:
    """Draw one structure's strokes and wait for the mask."""
    panel.brush(code)
    layer = panel.desk.own.find("scribbles")
    where = panel.desk.own.grid.points_to_layer(np.argwhere(codes == code)).astype(int)
    thick = np.unique((where[:, None] + np.array([(0, 0, 0), (0, 0, 1), (0, 1, 0)])).reshape(-1, 3), axis=0)
    free = layer.data[tuple(thick.T)] == 0
    with layer.block_history():
        layer.data_setitem(tuple(thick[free].T), code)
    QTest.qWait(100)
    wait_for(lambda: panel.runs.idle, 600)


def show_middle(viewer: napari.Viewer, panel: Any, codes: np.ndarray) -> None:
    """The marked slice that is nearest to the middle, enlarged."""
    slices = np.flatnonzero(codes.any(axis=(0, 1)))
    middle = (np.array(codes.shape) - 1) / 2
    middle[2] = slices[np.abs(slices - middle[2]).argmin()]
    panel.desk.own.jump(middle)
    viewer.reset_view()
    viewer.scene.camera.zoom *= 1.15
    QTest.qWait(300)


def correct(viewer: napari.Viewer, panel: object, six: np.ndarray) -> None:
    """A stroke on the rest and one on the object, and the doubt that is left; all of it is taken back."""
    bench, view = panel.bench, panel.view  # type: ignore[attr-defined]
    middle = np.round((six.min(axis=0) + six.max(axis=0)) / 2).astype(int)
    low, high = six.min(axis=0).astype(int), six.max(axis=0).astype(int)
    for button, start, stop in (
        (view.background_stroke, (low[0] + 2, middle[1] - 6), (low[0] + 2, middle[1] + 6)),
        (view.object_stroke, (high[0] - 1, middle[1] - 5), (high[0] - 1, middle[1] + 5)),
    ):
        button.click()
        strokes = bench.layers.find("scribbles")
        line = [
            bench.layers.grid.points_to_layer([*start, middle[2]])[0],
            bench.layers.grid.points_to_layer([*stop, middle[2]])[0],
        ]
        with strokes.block_history():
            for place in np.linspace(line[0], line[1], 13):
                strokes.paint(tuple(np.round(place)), strokes.selected_label)
        panel.take_strokes()  # type: ignore[attr-defined]
        wait_for(lambda: panel.runs.idle)  # type: ignore[attr-defined]
    QTest.qWait(300)
    shoot(viewer, "correction.png")
    view.doubt_box.click()
    order = viewer.dims.order
    view.doubt_button.click()
    viewer.dims.order = order
    viewer.reset_view()
    zoom(viewer, bench, middle)
    shoot(viewer, "doubt.png")
    view.doubt_box.click()
    panel.undo()  # type: ignore[attr-defined]
    panel.undo()  # type: ignore[attr-defined]
    wait_for(lambda: panel.runs.idle)  # type: ignore[attr-defined]
    panel.place_points()  # type: ignore[attr-defined]
    bench.layers.jump(middle.astype(float))
    QTest.qWait(300)


def zoom(viewer: napari.Viewer, bench: object, middle: np.ndarray) -> None:
    """Bring the object into view, with its surroundings."""
    layers = bench.layers  # type: ignore[attr-defined]
    world = layers.image.data_to_world(tuple(layers.grid.points_to_layer(middle)[0]))
    viewer.scene.camera.center = world
    viewer.scene.camera.zoom *= 1.8
    QTest.qWait(300)


if __name__ == "__main__":
    main()
    sys.exit(0)
