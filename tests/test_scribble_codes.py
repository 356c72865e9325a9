"""Strokes from elsewhere: stated codes are translated, nothing is guessed; simulated strokes from the command line."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.cli import main
from napari_weakseg.errors import PromptError
from napari_weakseg.io.nifti import read_mask, write_mask
from napari_weakseg.io.scribbles import in_our_codes, parse_codes, read_scribbles
from napari_weakseg.volume import Volume


@pytest.fixture
def image():
    return Volume(np.random.default_rng(0).normal(size=(12, 10, 4)).astype(np.float32), np.diag([1.0, 1.0, 5.0, 1.0]), "image")


def stored(image, unlabelled, background):
    """Strokes of two structures in codes from elsewhere, and the same in ours."""
    theirs = np.full(image.shape, unlabelled, dtype=np.uint8)
    ours = np.zeros(image.shape, dtype=np.uint8)
    for value, row in ((1, 2), (3, 5)):
        theirs[row, 2:8, 1] = ours[row, 2:8, 1] = value
    if background is not None:
        theirs[9, :, 1], ours[9, :, 1] = background, 255
    return theirs, ours


@pytest.mark.parametrize(("text", "unlabelled", "background"), [
    ("background=0,unlabelled=4", 4, 0),  # ACDC, MSCMR
    ("unlabelled=255", 255, None),
    ("unlabelled=255,background=0", 255, 0),  # Prostatex
])  # fmt: skip
def test_stated_codes_become_ours(image, tmp_path, text, unlabelled, background):
    theirs, ours = stored(image, unlabelled, background)
    write_mask(image.with_array(theirs), tmp_path / "strokes.nii.gz")
    scribbles = read_scribbles(tmp_path / "strokes.nii.gz", image, codes=parse_codes(text))
    np.testing.assert_array_equal(scribbles.labels, ours)
    assert [structure.value for structure in scribbles.structures] == [1, 3]


def test_without_codes_or_with_wrong_ones_a_file_from_elsewhere_is_refused(image, tmp_path):
    theirs, _ = stored(image, 4, 0)
    path = write_mask(image.with_array(theirs), tmp_path / "strokes.nii.gz")
    with pytest.raises(PromptError, match=r"strokes.nii.gz marks \d+ % of the image with 4"):
        read_scribbles(path, image)
    with pytest.raises(PromptError, match=r"marks \d+ % of the image with 4"):
        read_scribbles(path, image, codes=parse_codes("background=4,unlabelled=0"))
    with pytest.raises(PromptError, match="holds the code 0"):
        read_scribbles(path, image, codes=parse_codes("unlabelled=4"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0,4",
        "background=0,background=4",
        "background=x",
        "background=--5",
        "background=²",
        f"background={'9' * 5000}",
        "unlabelled=4,background=4",
        "ignore=4",
    ],
)
def test_codes_that_say_nothing_are_refused(text):
    with pytest.raises(PromptError):
        parse_codes(text)


def test_our_own_codes_need_no_statement():
    ours = np.zeros((4, 4, 4), dtype=np.uint8)
    ours[0, 0], ours[1, 1], ours[2, 2] = 1, 255, 7
    np.testing.assert_array_equal(in_our_codes(ours, (255, 0), "strokes"), ours)


def test_the_command_line_draws_strokes_and_makes_a_mask_of_strokes_from_elsewhere(image, tmp_path, capsys):
    reference = np.zeros(image.shape, dtype=np.uint8)
    reference[3:9, 3:8, :] = 1
    bright = image.with_array((image.array * 0.1 + 3 * reference).astype(np.float32))
    from napari_weakseg.io.nifti_write import write_map

    write_map(bright, tmp_path / "image.nii.gz")
    write_mask(image.with_array(reference), tmp_path / "mask.nii.gz")
    strokes = tmp_path / "strokes.nii.gz"
    assert main(["simulate-scribbles", str(tmp_path / "mask.nii.gz"), "-o", str(strokes), "--seed", "3"]) == 0
    assert "seed 3" in capsys.readouterr().out
    labels = read_mask(strokes).array
    theirs = np.where(labels == 255, 0, np.where(labels == 0, 4, labels))
    write_mask(image.with_array(theirs.astype(np.uint8)), tmp_path / "theirs.nii.gz")
    output = tmp_path / "out.nii.gz"
    command = ["segment", str(tmp_path / "image.nii.gz"), "--scribbles", str(tmp_path / "theirs.nii.gz"), "-o", str(output)]
    command += ["--method", "partial_cross_entropy", "--max-seconds", "0"]
    assert main(command) == 2
    assert "of the image with 4" in capsys.readouterr().err.replace("\n", " ")
    assert main([*command, "--scribble-codes", "background=0,unlabelled=4"]) == 0
    made = read_mask(output).array
    assert 2 * ((made > 0) & (reference > 0)).sum() / ((made > 0).sum() + (reference > 0).sum()) > 0.8


def test_codes_without_strokes_are_refused(image, tmp_path, capsys):
    assert main(["segment", "x.nii.gz", "-o", str(tmp_path / "m.nii.gz"), "--scribble-codes", "background=0"]) == 2
    assert "--scribbles" in capsys.readouterr().err
