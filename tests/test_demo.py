"""The demo and the copy of the samples."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_weakseg.cli import main
from napari_weakseg.io.nifti import read_mask
from napari_weakseg.samples import COHORT, cohort_files, list_samples, read_sample, sample_path


@pytest.mark.slow
def test_a_demo_without_time_shows_first_masks_alone(tmp_path, capsys):
    assert main(["demo", "--no-window", "--max-seconds", "0", "--folder", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) > len(list_samples())
    assert "no classifier without time to learn" in said.err
    assert not (tmp_path / "out" / "brain_cohort_results").exists()


@pytest.mark.slow
def test_the_demo_writes_masks_pictures_and_a_table(tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["demo", "--no-window", "--max-seconds", "2", "--folder", str(folder)]) == 0
    header, *lines, last = capsys.readouterr().out.splitlines()
    rows, classified = lines[: len(lines) - 5], lines[-5:]
    assert classified[0].split("\t") == ["volume", "lesion", "slices right", "Dice heatmap", "Dice refined"]
    assert [line.split("\t")[0] for line in classified[1:]] == ["case_12", "case_13", "case_14", "case_15"]
    for name in ("case_12.png", "case_12_mask.nii.gz", "case_12_heatmap_lesion.nii.gz", "case_12_scores.json"):
        assert (folder / "brain_cohort_results" / name).is_file()
    assert header.split("\t") == ["volume", "structure", "Dice first", "Dice refined", "s first", "s refined"]
    assert str(folder) in last
    assert {row.split("\t")[0] for row in rows} == set(list_samples())
    assert all(float(row.split("\t")[2]) > 0.6 for row in rows)
    for name in list_samples():
        case = read_sample(name)
        mask = read_mask(folder / f"{name}_mask.nii.gz", like=case.volume)
        assert set(np.unique(mask.array)) == {0, *(structure.value for structure in case.structures)}
        assert (folder / f"{name}_first_mask.nii.gz").exists()
        assert (folder / f"{name}.png").stat().st_size > 50_000
        assert json.loads((folder / f"{name}_record.json").read_text())["image"]["sha256"] == case.volume.sha256


def test_no_window_is_opened_in_continuous_integration(monkeypatch, capsys):
    from napari_weakseg.console import Screen
    from napari_weakseg.demo import _open_window

    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr("subprocess.run", lambda *a, **k: pytest.fail("a window was opened"))
    _open_window(Screen(), [])
    assert "no display" in capsys.readouterr().out


def test_samples_are_copied_but_never_over_other_files(tmp_path, capsys):
    folder = tmp_path / "a" / "b"
    assert main(["sample-data", str(folder)]) == 0
    assert main(["sample-data", str(folder)]) == 0  # the same files again: nothing is lost
    for name in list_samples():
        for part in ("image", "mask", "points", "scribbles"):
            source = sample_path(name, part)
            assert (folder / source.name).read_bytes() == source.read_bytes()
    for source in cohort_files():
        assert (folder / COHORT / source.name).read_bytes() == source.read_bytes()
    (folder / "brain_mri_mask.nii.gz").write_bytes(b"mine")
    capsys.readouterr()
    assert main(["sample-data", str(folder)]) == 2
    assert "brain_mri_mask.nii.gz" in capsys.readouterr().err
    assert (folder / "brain_mri_mask.nii.gz").read_bytes() == b"mine"


def test_a_file_in_place_of_the_folder_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert main(["sample-data", str(tmp_path / "file")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
