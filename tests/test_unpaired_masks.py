"""Masks of other patients beside one volume: given by a folder, noted in the record, asked for by a replay."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint

import nibabel as nib
import numpy as np
import pytest

import stroke_method
from napari_weakseg import api
from napari_weakseg.cli import main
from napari_weakseg.errors import DataError, RecipeError
from napari_weakseg.prompts import LESION, Scribbles
from napari_weakseg.volume import Volume

RECIPE = stroke_method.StrokeRecipe(steps=2, work=0.0)


@pytest.fixture(autouse=True)
def stroke_room(monkeypatch):
    point = EntryPoint("strokes", "stroke_method", "napari_weakseg.methods")
    monkeypatch.setattr("napari_weakseg.methods.entry_points", lambda group: (point,))
    stroke_method.begun.clear()
    stroke_method.gates.clear()


@pytest.fixture
def marked():
    image = np.full((12, 12, 6), 10, dtype=np.int16)
    image[4:8, 4:8] = 100
    labels = np.zeros(image.shape, dtype=np.uint8)
    labels[5, 5, 2], labels[1, 1, 2] = 1, 255
    return Volume(image, np.eye(4), name="image"), Scribbles(labels, (LESION,))


@pytest.fixture
def masks():
    return [Volume(np.full((4, 4, 3), n, dtype=np.uint8), np.eye(4), name=f"other{n}") for n in (0, 1)]


def save(array, path):
    image = nib.Nifti1Image(array, np.eye(4))
    image.header.set_xyzt_units("mm")
    image.set_sform(np.eye(4), 1)
    image.set_qform(np.eye(4), 1)
    nib.save(image, path)


def test_they_reach_the_method_and_the_record_and_a_replay_needs_them(marked, masks):
    volume, strokes = marked
    result = api.segment(volume, strokes, method="strokes", recipe=RECIPE, unpaired_masks=masks)
    assert "2 unpaired masks" in result.notes
    assert result.record["unpaired_masks"] == [{"name": m.name, "sha256": m.sha256} for m in masks]
    again = api.replay(result.record, volume, unpaired_masks=masks[::-1])
    assert again.mask.sha256 == result.mask.sha256
    assert again.record["unpaired_masks"] == result.record["unpaired_masks"]
    with pytest.raises(DataError, match="1 of the 2 recorded unpaired masks is not among"):
        api.replay(result.record, volume, unpaired_masks=masks[:1])


def test_without_them_the_record_says_nothing_of_them(marked):
    volume, strokes = marked
    result = api.segment(volume, strokes, method="strokes", recipe=RECIPE)
    assert "without unpaired masks" in result.notes
    assert "unpaired_masks" not in result.record


def test_a_method_that_learns_nothing_from_them_refuses(marked, masks):
    volume, strokes = marked
    with pytest.raises(RecipeError, match="learns nothing from unpaired masks"):
        api.segment(volume, strokes, method="partial_cross_entropy", unpaired_masks=masks)


def test_a_folder_of_them_on_the_command_line(marked, masks, tmp_path, monkeypatch, capsys):
    volume, strokes = marked
    monkeypatch.chdir(tmp_path)
    save(volume.array, "image.nii.gz")
    save(strokes.labels, "strokes.nii.gz")
    others = tmp_path / "others"
    others.mkdir()
    segment = ["segment", "image.nii.gz", "--scribbles", "strokes.nii.gz", "--method", "strokes", "-o", "mask.nii.gz"]
    segment += ["--unpaired-masks", "others", "--record", "record.json"]
    assert main(segment) == 2
    assert "the folder others holds no NIfTI file" in capsys.readouterr().err
    for mask in masks:
        save(mask.array, others / f"{mask.name}.nii.gz")
        (others / f"._{mask.name}.nii.gz").write_bytes(b"what macOS leaves on other file systems")
    assert main(segment) == 0
    record = json.loads((tmp_path / "record.json").read_text())
    assert [one["name"] for one in record["unpaired_masks"]] == ["other0.nii.gz", "other1.nii.gz"]
    assert str(tmp_path) not in json.dumps(record)
    replay = ["replay", "record.json", "image.nii.gz", "-o", "again.nii.gz"]
    capsys.readouterr()
    assert main(replay) == 2
    assert "2 of the 2 recorded unpaired masks" in capsys.readouterr().err
    assert main([*replay, "--unpaired-masks", "others"]) == 0
    assert "the same mask as recorded" in capsys.readouterr().out


def test_a_folder_that_is_none_is_refused(marked, tmp_path, monkeypatch, capsys):
    volume, strokes = marked
    monkeypatch.chdir(tmp_path)
    save(volume.array, "image.nii.gz")
    save(strokes.labels, "strokes.nii.gz")
    command = ["segment", "image.nii.gz", "--scribbles", "strokes.nii.gz", "--method", "strokes", "-o", "mask.nii.gz"]
    assert main([*command, "--unpaired-masks", "nowhere"]) == 2
    assert "nowhere is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "words"),
    [((0, 0), "no unpaired mask holds a structure"), ((1, 3), "mask other3 holds the label 3, which no structure has")],
)
def test_masks_that_cannot_be_learnt_from_are_refused_before_the_first_mask(marked, values, words):
    volume, strokes = marked
    masks = [Volume(np.full((4, 4, 3), n, dtype=np.uint8), np.eye(4), name=f"other{n}") for n in values]
    seen = []
    with pytest.raises(DataError, match=words):
        api.segment(volume, strokes, method="strokes", recipe=RECIPE, unpaired_masks=masks, on_step=seen.append)
    assert seen == []


def test_the_reference_of_the_image_is_not_unpaired(marked, masks):
    volume, strokes = marked
    own = volume.with_array((volume.array > 50).astype(np.uint8), name="own")
    with pytest.raises(DataError, match="unpaired mask copy is the mask of image"):
        api.segment(
            volume,
            strokes,
            method="strokes",
            recipe=RECIPE,
            reference=own,
            unpaired_masks=[*masks, own.with_array(own.array, name="copy")],
        )
