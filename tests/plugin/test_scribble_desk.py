"""The scribbles panel's work with napari's ViewerModel in place of the window: strokes, masks, undo, locks, saving."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from napari.components import ViewerModel

import stroke_method
from napari_weakseg.case import Case
from napari_weakseg.errors import GeometryError, PromptError
from napari_weakseg.io.nifti import read_mask
from napari_weakseg.io.records import read_record
from napari_weakseg.method import Result
from napari_weakseg.methods import get_method
from napari_weakseg.plugin.edits import recoverable
from napari_weakseg.plugin.layers import from_layer, image_layer_data
from napari_weakseg.plugin.proposals import FIRST, REFINED
from napari_weakseg.plugin.refinement import DOUBT_TABLE, Kept, Refinement, first_steps, from_result
from napari_weakseg.plugin.scribble_codes import CodesQuestion
from napari_weakseg.plugin.scribble_desk import KEPT_MASKS, ScribbleDesk
from napari_weakseg.plugin.scribble_session import (
    ScribbleJob,
    coloured,
    new_document,
    renamed,
    renumbered,
    replaced_strokes,
    with_lock,
    with_structure,
)
from napari_weakseg.plugin.session import Problem
from napari_weakseg.plugin.strokes_elsewhere import labels_elsewhere, strokes_of_file, strokes_of_layer
from napari_weakseg.prompts import Scribbles, Structure
from napari_weakseg.volume import Volume

SHAPE = (24, 20, 8)


class Person:
    """Somebody who draws, without a window."""

    def __init__(self, volume=None):
        self.viewer = ViewerModel()
        self.volume = volume or discs()
        data, options, _ = image_layer_data(self.volume)
        self.image = self.viewer.add_image(data, **options)
        self.desk = ScribbleDesk(self.viewer)
        self.desk.choose_image(self.image)
        self.kept = Kept()

    @property
    def codes(self):
        return self.desk.own.read_strokes()

    @property
    def mask(self):
        return self.desk.layers.mask_voxels()

    def draw(self, code, start, stop):
        """A stroke from one voxel to another, as the brush does it."""
        self.desk.brush(code)
        layer = self.desk.own.find("scribbles")
        line = np.unique(np.round(np.linspace(start, stop, 40)).astype(int), axis=0)
        where = tuple(self.desk.own.grid.points_to_layer(line).astype(int).T)
        with layer.block_history():
            layer.data_setitem(where, code)
        return self.desk.strokes_changed()

    def draw_all(self):
        """Two structures and the background."""
        self.desk.act("add a structure", with_structure(self.desk.document))
        self.draw(1, (6, 8, 4), (8, 10, 4))
        self.draw(2, (16, 8, 4), (18, 10, 4))
        self.draw(255, (2, 2, 4), (20, 2, 4))

    def job(self, **changes):
        return self.desk.job("strokes", stroke_method.StrokeRecipe(), **changes)

    def first(self):
        """The first mask, as the panel shows it."""
        self.desk.propose(_ends(first_steps(self.job(max_seconds=0.0))))

    def refine(self):
        self.desk.begin_refining()
        self.desk.propose(_ends(Refinement(self.job(), self.kept).steps()))
        self.desk.finish_refining()


def discs():
    """Two discs of different brightness on a dark ground, in thick slices."""
    i, j, _ = np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")
    image = np.full(SHAPE, 50.0, dtype=np.float32)
    image[(i - 7) ** 2 + (j - 9) ** 2 < 16] = 120
    image[(i - 17) ** 2 + (j - 9) ** 2 < 16] = 190
    return Volume(image, np.diag([-1.0, 1.0, 4.0, 1.0]), "scan")


def _ends(steps):
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


@pytest.fixture(autouse=True)
def stroke_room(monkeypatch):
    point = EntryPoint("strokes", "stroke_method", "napari_weakseg.methods")
    monkeypatch.setattr("napari_weakseg.methods.entry_points", lambda group: (point,))
    stroke_method.begun.clear()
    stroke_method.gates.clear()


@pytest.fixture
def person():
    return Person()


def test_strokes_go_into_a_labels_layer_with_our_codes(person):
    person.draw_all()
    assert set(np.unique(person.codes)) == {0, 1, 2, 255}
    layer = person.viewer.layers["scan scribbles"]
    assert layer.n_edit_dimensions == 2
    scribbles = from_layer(layer)
    assert [structure.value for structure in scribbles.structures] == [1, 2]
    assert np.array_equal(scribbles.labels, person.codes)
    counts = person.desk.counts()
    assert counts[1].slices == counts[255].slices == 1
    assert counts[2].voxels == (person.codes == 2).sum()


def test_strokes_lie_where_they_were_drawn_in_any_plane(person):
    person.desk.act("add a structure", with_structure(person.desk.document))
    person.draw(1, (7, 5, 1), (7, 12, 6))
    assert person.codes[7, 5, 1] == 1
    assert person.codes[7, 12, 6] == 1
    assert person.desk.counts()[1].slices == 6


def test_the_first_mask_and_the_refined_one_follow_the_strokes(person):
    assert isinstance(person.job(), Problem)
    assert "draw a stroke on each structure" in person.job().sentence
    person.draw_all()
    person.first()
    shown = person.desk.in_view()
    assert shown.stage == FIRST
    labels = shown.labels
    assert labels[7 - shown.start[0], 9 - shown.start[1], 0] == 1
    assert shown.record["method"] == "strokes"
    person.refine()
    assert person.desk.in_view().stage == REFINED
    first, refined = (person.viewer.layers[f"scan {name}"] for name in ("mask of strokes", "refined mask of strokes"))
    assert first.visible
    assert refined.contour == 1
    assert np.array_equal(person.desk.own.grid.to_volume(refined.data) == 2, person.volume.array == 190)


def test_what_a_run_notes_stays_with_its_mask_and_while_the_next_is_made(person):
    person.draw(1, (6, 8, 4), (8, 10, 4))
    person.first()
    alone = "all strokes are of one kind: little can be learnt without some on the rest."
    assert alone in person.desk.in_view().notes
    person.draw(1, (6, 8, 5), (8, 10, 5))
    news = next(first_steps(person.job(max_seconds=0.0)))
    person.desk.propose(news.proposal)
    assert alone in person.desk.in_view().notes
    person.draw(255, (2, 2, 4), (20, 2, 4))
    person.first()
    assert alone not in person.desk.in_view().notes


def test_notes_on_the_image_are_not_said_again_with_the_mask():
    person = Person(replace(discs(), notes=("the spacing is odd.",)))
    person.draw_all()
    person.first()
    shown = person.desk.in_view()
    assert "the spacing is odd." in shown.record["notes"]
    assert "the spacing is odd." not in shown.notes


@pytest.mark.parametrize("masks", [0, 2])
def test_the_first_mask_needs_no_masks_of_others_whatever_form_the_refinement_has(person, masks):
    person.draw_all()
    recipe = get_method("adversarial_gating").recipe_class(form="MAAG", device="cpu")
    mask = person.volume.with_array(np.where(person.volume.array > 100, 1, 0).astype(np.uint8))
    job = replace(person.desk.job("adversarial_gating", recipe, max_seconds=0.0), masks=(mask,) * masks)
    shown = _ends(first_steps(job))
    assert set(np.unique(shown.labels)) == {0, 1, 2}
    assert not any("MAAG" in note or "PyAG" in note for note in shown.notes)  # nothing was learnt
    assert "unpaired_masks" not in shown.record


def test_accept_writes_unlocked_structures_and_leaves_the_others(person):
    person.draw_all()
    person.first()
    assert person.desk.accept() == "accepted."
    before = person.mask.copy()
    assert {0, 1, 2} == set(np.unique(before))
    person.mask[7, 9, 0] = 7  # somebody else's label
    person.desk.act("lock", with_lock(person.desk.document, 2, locked=True))
    person.draw(1, (16, 9, 2), (18, 9, 2))  # would make the second disc the first structure
    person.draw(255, (7, 6, 2), (7, 12, 2))
    person.first()
    words = person.desk.accept()
    assert words.startswith("accepted, 1 locked")
    assert np.array_equal(person.mask == 2, before == 2)
    assert person.mask[7, 9, 0] == 7
    assert person.mask[7, 9, 2] == 0  # the background stroke
    for title in ("accept a mask", "draw a stroke", "draw a stroke"):
        assert person.desk.undo()[0] == title
    assert person.mask[7, 9, 2] == 1
    assert person.desk.document.locked == {2}
    assert person.desk.undo()[0] == "lock"
    assert person.desk.document.locked == set()


def test_everything_locked_writes_nothing(person):
    person.draw_all()
    person.first()
    for value in (1, 2):
        person.desk.act("lock", with_lock(person.desk.document, value, locked=True))
    assert "every structure is locked" in person.desk.accept()
    assert person.mask is None


def test_strokes_and_results_are_undone_and_done_again_over_several_steps(person):
    person.draw_all()
    person.first()
    one = person.desk.in_view()
    person.draw(1, (6, 8, 6), (8, 10, 6))
    person.first()
    two = person.desk.in_view()
    person.refine()
    three = person.desk.in_view()
    person.refine()
    assert person.desk.undo() == ("refine", False)
    assert np.array_equal(person.desk.in_view().labels, three.labels)
    assert person.desk.undo() == ("refine", False)
    assert person.desk.in_view().stage == FIRST
    assert np.array_equal(person.desk.in_view().labels, two.labels)
    assert person.desk.undo() == ("draw a stroke", False)
    assert not (person.codes[:, :, 6] == 1).any()
    assert np.array_equal(person.desk.in_view().labels, one.labels)
    for title in ("draw a stroke", "refine", "refine"):
        assert person.desk.redo()[0] == title
    assert person.desk.in_view().stage == REFINED
    assert (person.codes[:, :, 6] == 1).any()
    assert person.desk.redo() == ("", False)


def test_old_steps_forget_their_masks_and_ask_for_a_new_one(person):
    person.draw_all()
    person.first()
    for _ in range(KEPT_MASKS + 2):
        person.draw(1, (6, 8, 5), (8, 10, 5))
        person.draw(0, (6, 8, 5), (8, 10, 5))
        person.first()
    kept = [edit for edit in person.desk.history.past if edit.shown]
    assert len(kept) == KEPT_MASKS
    asked = [person.desk.undo()[1] for _ in range(KEPT_MASKS + 1)]
    assert asked[-1]
    assert not any(asked[:-1])


def test_refining_goes_on_from_where_it_was(person):
    person.draw_all()
    person.refine()
    assert stroke_method.begun == [0]
    person.draw(1, (6, 8, 6), (8, 10, 6))
    person.refine()
    assert stroke_method.begun == [0, 4]  # at most three quarters count as done, so that the new stroke is learnt
    assert person.desk.in_view().record["training"]["fitted"] is False
    person.desk.act("add a structure", with_structure(person.desk.document))
    person.refine()
    assert stroke_method.begun[-1] == 0  # another network


def test_a_run_takes_new_strokes_while_it_goes(person):
    person.draw_all()
    refinement = Refinement(person.job(), person.kept)
    person.kept.due = lambda: True
    steps = refinement.steps()
    told = [next(steps) for _ in range(4)]
    assert told[-1].proposal.labels.any()
    refinement.hold()
    assert next(steps) is None
    person.draw(255, (16, 8, 4), (18, 10, 4))
    newer = person.job()
    refinement.give(newer)
    rest = []
    while True:
        try:
            rest.append(next(steps))
        except StopIteration as stop:
            ended = stop.value
            break
    assert all(news is None or news.job is newer for news in rest)
    assert stroke_method.begun[0] == 0
    assert stroke_method.begun[1] > 0
    assert ended.record["prompts"]["scribbles"]["structures"][0]["value"] == 1


def test_structures_are_renamed_coloured_and_renumbered(person):
    person.draw_all()
    document = renamed(person.desk.document, 1, " RV ")
    with pytest.raises(PromptError, match="already"):
        renamed(document, 2, "RV")
    with pytest.raises(PromptError, match="needs a name"):
        renamed(document, 2, " ")
    document = renumbered(coloured(document, 2, "#112233"), 2, 30)
    assert document.structures == (Structure("RV", 1), Structure("structure 2", 30, "#112233"))
    with pytest.raises(PromptError, match="free"):
        renumbered(document, 30, 1)
    with pytest.raises(PromptError, match="1 to 254"):
        renumbered(document, 30, 255)
    person.first()
    assert person.desk.act("change a value", document)
    assert set(np.unique(person.codes)) == {0, 1, 30, 255}
    assert person.desk.in_view() is None
    person.first()
    assert 30 in person.desk.in_view().labels
    assert person.desk.undo()[0] == "change a value"
    assert set(np.unique(person.codes)) == {0, 1, 2, 255}
    assert with_structure(renumbered(person.desk.document, 2, 3)).structures[-1].value == 2


def test_no_two_structures_get_one_name():
    document = with_structure(renumbered(with_structure(new_document()), 2, 3))
    assert [(s.name, s.value) for s in document.structures] == [("structure 1", 1), ("structure 2", 3), ("structure 3", 2)]
    document = renamed(renamed(document, 1, "RV"), 3, "structure 7")
    codes = np.arange(9, dtype=np.uint8).reshape(1, 3, 3)
    codes[codes == 8] = 0
    brought = Scribbles(codes, (*(Structure(f"structure {n}", n) for n in (1, 2, 3, 4, 6, 7)), Structure("RV", 5)))
    names = {s.value: s.name for s in replaced_strokes(document, brought).structures}
    assert (names[1], names[3], names[5]) == ("RV", "structure 7", "structure 5")
    assert len(set(names.values())) == 7
    again = with_structure(renamed(new_document(), 1, "structure 2"))
    assert [s.name for s in again.structures] == ["structure 2", "structure 3"]


def test_hidden_structures_are_clear_and_locked_ones_are_not_proposed(person):
    person.draw_all()
    person.first()
    person.desk.hide(1, hidden=True)
    for name in ("scan scribbles", "scan mask of strokes"):
        assert person.viewer.layers[name].colormap.color_dict[1][3] == 0
        assert person.viewer.layers[name].colormap.color_dict[2][3] == 1
    person.desk.hide(1, hidden=False)
    person.desk.act("lock", with_lock(person.desk.document, 1, locked=True))
    assert person.viewer.layers["scan scribbles"].colormap.color_dict[1][3] == 1
    assert person.viewer.layers["scan mask of strokes"].colormap.color_dict[1][3] == 0


def test_a_value_without_a_structure_is_refused_and_taken_off(person):
    with pytest.raises(PromptError, match="no structure has the value 9"):
        person.desk.own.grid.to_volume(person.desk.own.find("scribbles").data)[3, 3, 3] = 9
        person.desk.strokes_changed()
    assert not person.codes.any()


def test_doubtful_slices_are_walked_through(person):
    person.draw_all()
    person.first()
    assert person.desk.slices().by == "mask"
    person.refine()
    doubt = person.desk.slices()
    assert (doubt.by, doubt.axis, len(doubt.values)) == ("discriminator", 2, 8)
    assert [person.desk.next_doubt() for _ in range(3)] == [7, 6, 5]
    assert person.desk.slice_shown() == 5
    person.desk.go_to(1)
    assert person.desk.slice_shown() == 1


@pytest.mark.parametrize(
    ("columns", "slice_axis", "file_axis"),
    [((0, 1, 2), 0, 0), ((0, 1, 2), 1, 1), ((0, 1, 2), 2, 2), ((2, 0, 1), 2, 0), ((1, 2, 0), 0, 2)],
)
def test_the_discriminator_s_doubt_lies_along_the_axis_that_was_cut(columns, slice_axis, file_axis):
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, columns]  # which way of RAS each axis of the file goes; all sides are alike
    volume = Volume(np.zeros((6, 6, 6), dtype=np.float32), affine, "cube")
    strokes = Scribbles(np.ones(volume.shape, dtype=np.uint8), (Structure("structure 1", 1),))
    job = ScribbleJob(Case("image", {"image": volume}, scribbles=strokes), "strokes", stroke_method.StrokeRecipe())
    doubt = np.linspace(0, 1, 6, dtype=np.float32)
    record = {"training": {"slice_axis": slice_axis, "grid_spacing": 1.0}}
    mask = volume.with_array(np.ones(volume.shape, dtype=np.uint8))
    shown = from_result(Result(mask, strokes.structures, record=record, tables={DOUBT_TABLE: doubt}), job, REFINED)
    assert (shown.slices.by, shown.slices.axis) == ("discriminator", file_axis)
    assert np.array_equal(shown.slices.values, doubt)


def test_attention_maps_are_layers_on_demand(person):
    person.draw_all()
    person.refine()
    before = len(person.viewer.layers)
    person.desk.shows_maps = True
    person.desk.draw_maps()
    names = [layer.name for layer in person.viewer.layers]
    assert len(names) == before + 4
    assert person.viewer.layers["scan attention 1/8"].visible
    assert names.index("scan attention 1/1") < names.index("scan scribbles")
    person.desk.shows_maps = False
    person.desk.draw_maps()
    assert not person.viewer.layers["scan attention 1/8"].visible


def test_mask_strokes_and_record_are_saved_and_survive_a_crash(person, tmp_path):
    person.desk.identify(person.volume.sha256)
    person.draw_all()
    person.first()
    person.desk.accept()
    journal = person.desk.journal.path
    text = journal.read_text()
    save = person.desk.save(tmp_path / "out.nii.gz")
    assert "strokes and its record" in save.write()
    person.desk.saved(save)
    strokes = read_mask(tmp_path / "out_scribbles.nii.gz", like=person.volume)
    assert np.array_equal(strokes.array, person.codes)
    record = read_record(tmp_path / "out.weakseg.json")
    assert record["method"] == "strokes"
    assert record["saved"]["edited_voxels"] == 0
    assert [s["value"] for s in record["saved"]["strokes"]["structures"]] == [1, 2]
    words = person.desk.save_strokes(tmp_path / "strokes").write()
    assert "255 background" in words
    journal.write_text(text)  # as if nothing had been saved
    assert recoverable(person.volume.sha256, SHAPE) is None
    fresh = Person(person.volume)
    fresh.desk.identify(person.volume.sha256)
    assert fresh.desk.recovered is not None
    fresh.desk.restore()
    assert np.array_equal(fresh.codes, person.codes)
    assert np.array_equal(fresh.mask, person.mask)


def test_a_panel_that_is_opened_again_finds_its_strokes(person):
    person.draw_all()
    again = ScribbleDesk(person.viewer)
    again.choose_image(person.image)
    assert again.document.structures == person.desk.document.structures
    assert np.array_equal(again.own.read_strokes(), person.codes)


def test_both_panels_keep_their_own_strokes(person):
    from napari_weakseg.plugin.workbench import Workbench
    from napari_weakseg.recipe import Recipe

    person.draw_all()
    codes = person.codes.copy()
    bench = Workbench(person.viewer, "strokes", Recipe())
    bench.choose_image(person.image)
    bench.layers.strokes(bench.document)
    bench.draw()
    assert np.array_equal(person.codes, codes)
    assert bench.layers.find("scribbles") != person.desk.own.find("scribbles")


def test_labels_from_elsewhere_are_asked_about_and_never_guessed(person, tmp_path):
    codes = np.full(SHAPE, 4, dtype=np.uint8)
    codes[6:9, 8:11, 4], codes[16:19, 8:11, 4], codes[2:20, 2, 4] = 1, 2, 0
    layer = person.viewer.add_labels(
        person.desk.own.grid.to_layer(codes), scale=person.image.scale, translate=person.image.translate, name="acdc"
    )
    assert labels_elsewhere(person.viewer) == [layer]
    question = strokes_of_layer(layer, person.desk.own)
    assert isinstance(question, CodesQuestion)
    assert question.counts == {0: 18, 1: 9, 2: 9, 4: codes.size - 36}
    with pytest.raises(PromptError, match="say what the value 0"):
        question.answered({})
    ours = question.answered(question.meanings("ACDC, MSCMR (0 background, 4 not marked)"))
    assert set(np.unique(ours.labels)) == {0, 1, 2, 255}
    person.desk.take_strokes(ours)
    assert [structure.value for structure in person.desk.document.structures] == [1, 2]
    assert (person.codes == 255).sum() == 18
    person.first()
    assert person.desk.in_view().labels.any()
    assert person.desk.undo()[0] == "take strokes over"
    assert not person.codes.any()
    person.viewer.layers.remove(layer)
    other = person.viewer.add_labels(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(GeometryError, match="grid of the image"):
        strokes_of_layer(other, person.desk.own)
    from napari_weakseg.io.nifti import write_mask

    write_mask(person.volume.with_array(codes), tmp_path / "strokes.nii.gz")
    assert strokes_of_file(tmp_path / "strokes.nii.gz", person.volume).counts == question.counts


def test_an_image_that_cannot_be_used_is_said(person):
    colour = person.viewer.add_image(np.zeros((8, 8, 8, 3)), rgb=True)
    person.desk.choose_image(colour)
    assert "colour image" in person.desk.job("strokes", stroke_method.StrokeRecipe()).sentence
    person.desk.choose_image(person.image)
    assert isinstance(person.job(), Problem | ScribbleJob)
