"""Run records: round trip, limits, versions, and nothing in them that should not be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_weakseg.errors import DataError
from napari_weakseg.io.records import MOST_BYTES, read_record, write_record


def test_round_trip(tmp_path):
    record = {
        "run": "3f2a",
        "affine": np.eye(2),
        "seed": np.int64(3),
        "scores": {"hd95": float("nan"), "doubt": np.float32(0.5)},
        "points": ((1, 2),),
    }
    path = write_record(record, tmp_path / "mask.weakseg.json")
    again = read_record(path)
    assert again["schema_version"] == 1
    assert again["intended_use"] == "research only, not a medical device"
    assert again["affine"] == [[1.0, 0.0], [0.0, 1.0]]
    assert again["scores"] == {"hd95": None, "doubt": 0.5}
    assert again["points"] == [[1, 2]]
    assert write_record(again, tmp_path / "b.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "value",
    [
        "/home/doe_jane/scan.nii",
        "C:\\Users\\doe\\x.nii",
        "~/x.nii",
        "note on /data/doe/x.nii here",
        "file:///x",
        Path("x.nii"),
        "\\\\server\\doe",
    ],
    ids=str,
)
def test_paths_are_refused(tmp_path, value):
    with pytest.raises(DataError, match="holds a path"):
        write_record({"inputs": [{"image": value}]}, tmp_path / "r.json")
    with pytest.raises(DataError, match="holds a path"):
        write_record({"inputs": {str(value): 1}} if isinstance(value, str) else {"a": value}, tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


def test_texts_that_only_look_like_paths_pass(tmp_path):
    record = {
        "doi": "10.1016/j.media.2021.1",
        "device": "cuda:0",
        "notes": ["3/720 voxels are not finite."],
        "version": "1.0+cpu",
        "os": "Linux-6.1",
    }
    assert read_record(write_record(record, tmp_path / "r.json"))["doi"] == record["doi"]


def test_canary_of_a_volume_stays_out(tmp_path):
    """What a record is made of (hash, shape, affine, notes) names neither the file nor what its header says."""
    import nibabel as nib

    from napari_weakseg.io.nifti import read_volume

    folder = tmp_path / "CANARY_FOLDER"
    folder.mkdir()
    made = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.diag([1, 2, 300, 1.0]))
    made.header["descrip"] = b"CANARY^NAME"
    made.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"CANARY^BIRTH"))
    nib.save(made, folder / "CANARY_FILE.nii")
    volume = read_volume(folder / "CANARY_FILE.nii")
    assert len(volume.notes) >= 3
    record = {
        "image": volume.sha256,
        "shape": volume.shape,
        "affine": volume.affine,
        "notes": volume.notes,
        "source": volume.header.sha256,
    }
    assert "CANARY" not in write_record(record, tmp_path / "r.json").read_text()


def test_too_large(tmp_path):
    with pytest.raises(DataError, match="exceed"):
        write_record({"voxels": "x" * MOST_BYTES}, tmp_path / "r.json")
    (tmp_path / "r.json").write_text(json.dumps({"schema_version": 1, "x": "y" * MOST_BYTES}))
    with pytest.raises(DataError, match="larger than"):
        read_record(tmp_path / "r.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "null",
        '{"a": 1}',
        '{"schema_version": "1"}',
        '{"schema_version": true}',
        '{"schema_version": 1, "x": NaN}',
        "[" * 100_000,
        "\udcff",
    ],
    ids=["empty", "cut", "list", "null", "none", "text", "bool", "nan", "deep", "bytes"],
)
def test_damaged_record(tmp_path, text):
    (tmp_path / "r.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"r\.json"):
        read_record(tmp_path / "r.json")


def test_newer_version_and_missing_file(tmp_path):
    (tmp_path / "r.json").write_text('{"schema_version": 99}')
    with pytest.raises(DataError, match="newer version"):
        read_record(tmp_path / "r.json")
    with pytest.raises(DataError, match="does not exist"):
        read_record(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_record(tmp_path)


def test_what_json_cannot_hold(tmp_path):
    with pytest.raises(DataError, match="cannot hold"):
        write_record({"a": object()}, tmp_path / "r.json")
