"""S9: names from outside as file names, table cells and parts of messages."""

from __future__ import annotations

import pytest

from napari_weakseg.io.names import csv_cell, file_name, shown, without_suffix


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("lesion", "lesion"),
        ("left/right", "left_right"),
        ("../../etc/passwd", "_._etc_passwd"),
        ("..", "unnamed"),
        ("a\0b\nc", "a_b_c"),
        ("CON", "unnamed"),
        ("", "unnamed"),
        ("///", "unnamed"),
        (".hidden", "hidden"),
        ("tumour é", "tumour é"),
        ("x" * 300, "x" * 80),
        ("é" * 60, "é" * 40),
    ],
)
def test_file_name(text, name):
    assert file_name(text) == name


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@x"])
def test_csv_cell(text):
    assert csv_cell(text) == f"'{text}"
    assert csv_cell("lesion\n2") == "lesion 2"


def test_shown_is_one_short_line():
    assert shown("/home/user/a\nb.nii") == "a b.nii"
    assert len(shown("v" * 300)) <= 60
    assert shown("v" * 300 + ".nii").endswith(".nii")


@pytest.mark.parametrize(("path", "name"), [("/x/a.nii.gz", "a"), ("b.v1.NII", "b.v1"), (".nii", ".nii"), ("c.mha", "c.mha")])
def test_without_suffix(path, name):
    assert without_suffix(path) == name
