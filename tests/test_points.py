"""Extreme points from our JSON, from 3D Slicer and from napari, and back."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from nibabel import orientations

from napari_weakseg.errors import DataError, PromptError
from napari_weakseg.io.points import MOST_BYTES, read_points, write_points
from napari_weakseg.prompts import LESION, ExtremePoints, Structure
from napari_weakseg.volume import Volume

SHAPE = (12, 14, 16)
SIX = np.array([[1, 6, 7], [10, 7, 8], [5, 2, 7], [6, 12, 8], [5, 6, 3], [6, 7, 14]], dtype=float)
OBLIQUE = np.array([[0.1, -2.0, 0, 30], [0.9, 0.1, 0, -20], [0, 0, 3.0, 10], [0, 0, 0, 1]])


def volume(affine=OBLIQUE, **known) -> Volume:
    return Volume(np.zeros(SHAPE, np.int16), affine, name="brain", **known)


def write(folder, content, name="points.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


class TestOurJson:
    def test_short_form(self, tmp_path):
        points = read_points(write(tmp_path, {"space": "voxel", "points": SIX.tolist()}), volume())
        np.testing.assert_array_equal(points.points[0], SIX)
        assert points.structures == (LESION,)
        assert points.notes == ()

    def test_full_form_in_mm(self, tmp_path):
        world = volume().to_world(SIX).tolist()
        data = {
            "space": "ras_mm",
            "structures": [
                {"name": "liver", "value": 3, "objects": [world, world]},
                {"name": "cyst", "value": 9, "objects": []},
            ],
        }
        points = read_points(write(tmp_path, data), volume())
        np.testing.assert_allclose(points.points, [SIX, SIX], atol=1e-9)
        assert points.values.tolist() == [3, 3]
        assert [structure.name for structure in points.structures] == ["liver", "cyst"]

    def test_round_trip(self, tmp_path):
        structures = (Structure("lesion", 1), Structure("organ", 7))
        points = ExtremePoints([SIX, SIX - 0.25, SIX + 0.25], [1, 7, 1], structures, OBLIQUE)
        again = read_points(write_points(points, tmp_path / "p.json"), volume())
        assert again.values.tolist() == [1, 1, 7]
        np.testing.assert_array_equal(again.points[2], SIX - 0.25)
        assert again.structures == structures

    def test_more_than_six_is_noted(self, tmp_path):
        many = [*SIX.tolist(), [6, 6, 6], [5, 5, 5]]
        points = read_points(write(tmp_path, {"space": "voxel", "points": many}), volume())
        assert "8 points" in points.notes[0]
        np.testing.assert_array_equal(np.sort(points.points[0], axis=0), np.sort(SIX, axis=0))

    @pytest.mark.parametrize(
        ("content", "part"),
        [
            ("", "empty"),
            ("{", "JSON"),
            ("[" * 100_000, "JSON"),
            ([1, 2], "one JSON object"),
            ({"points": SIX.tolist()}, "space"),
            ({"space": "lps"}, "space"),
            ({"space": "voxel"}, "neither"),
            ({"space": "voxel", "points": []}, "no points"),
            ({"space": "voxel", "points": "six"}, "numbers"),
            ({"space": "voxel", "points": [[1, 2]] * 6}, "three coordinates"),
            ({"space": "voxel", "points": [[1, 2, 3], [1, 2]]}, "numbers"),
            ({"space": "voxel", "points": [[1, 2, None]] * 6}, "point 1"),
            ({"space": "voxel", "points": [[1, 2, 10**400]] * 6}, "numbers"),
            ({"space": "voxel", "points": {"a": 1}}, "numbers"),
            ({"space": "voxel", "points": SIX[:5].tolist()}, "5 of six"),
            ({"space": "voxel", "points": [*SIX[:5].tolist(), [6, 7, float("nan")]]}, "point 6"),
            ({"space": "voxel", "points": [*SIX[:5].tolist(), [6, 7, 40]]}, "outside"),
            ({"space": "voxel", "structures": []}, "no extreme points"),
            ({"space": "voxel", "structures": {"a": 1}}, "'structures'"),
            ({"space": "voxel", "structures": [3]}, "'structures'"),
            ({"space": "voxel", "structures": [{"value": "one", "objects": [SIX.tolist()]}]}, "'one'"),
            ({"space": "voxel", "structures": [{"value": 0, "objects": [SIX.tolist()]}]}, "0"),
            ({"space": "voxel", "structures": [{"value": 1, "objects": 5}]}, "'objects'"),
            ({"space": "voxel", "structures": [{"value": 1}, {"value": 1}]}, "no extreme points"),
            ({"space": "voxel", "structures": [{"value": 1, "objects": [SIX.tolist()]}] * 2}, "same value"),
        ],
        ids=lambda value: str(value)[:30] if isinstance(value, str) else None,
    )
    def test_damaged(self, tmp_path, content, part):
        path = write(tmp_path, content)
        with pytest.raises(PromptError) as caught:
            read_points(path, volume())
        text = str(caught.value)
        assert part in text
        assert text.startswith("points.json")
        assert len(text.split()) <= 30
        assert str(tmp_path) not in text

    def test_other_files(self, tmp_path):
        (tmp_path / "large.json").write_bytes(b" " * (MOST_BYTES + 1))
        (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00\x81")
        for name, part in (
            ("large.json", "larger"),
            ("binary.json", "not a text"),
            ("none.json", "does not exist"),
            ("", "is a folder"),
        ):
            with pytest.raises(PromptError, match=part):
                read_points(tmp_path / name, volume())

    def test_mm_need_a_known_orientation(self, tmp_path):
        path = write(tmp_path, {"space": "ras_mm", "points": SIX.tolist()})
        with pytest.raises(PromptError, match="orientation of brain is unknown"):
            read_points(path, volume(orientation_known=False))

    def test_folder_that_cannot_be_written(self, tmp_path):
        with pytest.raises(DataError):
            write_points(ExtremePoints.from_points(SIX, volume()), tmp_path / "none" / "p.json")


def markups(positions, *, space="LPS", label="F-{}", **node) -> dict:
    """As 3D Slicer 5 writes a list of points."""
    points = [
        {
            "id": str(n),
            "label": label.format(n),
            "description": "",
            "position": list(p),
            "orientation": [-1, 0, 0, 0, -1, 0, 0, 0, 1],
            "positionStatus": "defined",
        }
        for n, p in enumerate(positions, start=1)
    ]
    return {
        "type": "Fiducial",
        "coordinateSystem": space,
        "coordinateUnits": "mm",
        "labelFormat": "%N-%d",
        "controlPoints": points,
        **node,
    }


class TestSlicer:
    @pytest.mark.parametrize(("space", "sign"), [("LPS", (-1, -1, 1)), ("RAS", (1, 1, 1))])
    def test_both_coordinate_systems(self, tmp_path, space, sign):
        world = volume().to_world(SIX) * sign
        points = read_points(write(tmp_path, {"markups": [markups(world, space=space)]}, "tumour.mrk.json"), volume())
        np.testing.assert_allclose(points.points[0], SIX, atol=1e-9)
        assert points.structures[0].name == "tumour"

    def test_each_list_is_an_object_and_names_group_them(self, tmp_path):
        world = volume().to_world(SIX) * (-1, -1, 1)
        lists = [
            markups(world, label="node-{}"),
            markups(world, label="node-{}"),
            markups(world, description="cyst"),
            markups(world, name="liver"),
        ]
        points = read_points(write(tmp_path, {"markups": lists}, "p.mrk.json"), volume())
        assert points.values.tolist() == [1, 1, 2, 3]
        assert [structure.name for structure in points.structures] == ["node", "cyst", "liver"]

    def test_undefined_points_and_other_markups_are_left_out(self, tmp_path):
        node = markups(volume().to_world(SIX) * (-1, -1, 1))
        node["controlPoints"].append({"label": "F-7", "position": [0, 0, 0], "positionStatus": "undefined"})
        points = read_points(write(tmp_path, {"markups": [node, {"type": "ROI"}]}, "p.mrk.json"), volume())
        np.testing.assert_allclose(points.points[0], SIX, atol=1e-9)
        assert "left out" in points.notes[0]

    @pytest.mark.parametrize(
        ("data", "part"),
        [
            ({"markups": 3}, "list of markups"),
            ({"markups": []}, "no list of fiducial"),
            ({"markups": [{"type": "ROI"}]}, "no list of fiducial"),
            ({"markups": [markups(SIX, space="IJK")]}, "LPS or RAS"),
            ({"markups": [{"type": "Fiducial", "controlPoints": []}]}, "LPS or RAS"),
            ({"markups": [{**markups(SIX), "coordinateUnits": "um"}]}, "mm"),
            ({"markups": [{**markups(SIX), "controlPoints": 4}]}, "controlPoints"),
            ({"markups": [{**markups(SIX), "controlPoints": []}]}, "no points"),
            ({"markups": [{**markups(SIX), "controlPoints": [{"position": [1, 2]}]}]}, "three coordinates"),
            ({"markups": [markups(SIX * 100)]}, "outside"),
            ({"markups": [markups(SIX[:3] * 0)]}, "3 of six"),
        ],
    )
    def test_damaged(self, tmp_path, data, part):
        path = write(tmp_path, data, "p.mrk.json")
        with pytest.raises(PromptError, match=part) as caught:
            read_points(path, volume())
        assert len(str(caught.value).split()) <= 30


def napari_rows(points, affine=OBLIQUE) -> list[list[float]]:
    """Where napari shows voxel (i, j, k): (z, y, x) of the array turned to LPI, found by looking for it."""
    turn = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt("LPI"))
    rows = []
    for point in np.asarray(points, dtype=int):
        marked = np.zeros(SHAPE)
        marked[tuple(point)] = 1
        rows.append([float(n) for n in np.argwhere(orientations.apply_orientation(marked, turn).T)[0]])
    return rows


def napari_csv(folder, rows, header=("index", "axis-0", "axis-1", "axis-2"), extra=None):
    path = folder / "points.csv"
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        for number, row in enumerate(rows):
            table.writerow([float(number), *row, *(extra[number] if extra else ())])
    return path


class TestNapari:
    @pytest.mark.parametrize("code", ["LPI", "RAS", "LPS", "PSR", "SAR", "ILA"])
    def test_data_coordinates_come_back_as_voxels(self, tmp_path, code):
        affine = orientations.inv_ornt_aff(orientations.axcodes2ornt(code), SHAPE)
        affine = np.linalg.inv(affine) @ np.diag([1, 2, 3, 1.0])
        points = read_points(napari_csv(tmp_path, napari_rows(SIX, affine)), volume(affine))
        np.testing.assert_allclose(points.points[0], SIX, atol=1e-9)
        assert points.notes == ()

    def test_groups(self, tmp_path):
        rows = napari_rows(np.concatenate([SIX, SIX - 1, SIX]))
        extra = [("lesion", n // 6) if n < 12 else ("organ", 0) for n in range(18)]
        path = napari_csv(tmp_path, rows, ("index", "axis-0", "axis-1", "axis-2", "structure", "object"), extra)
        points = read_points(path, volume())
        assert points.values.tolist() == [1, 1, 2]
        np.testing.assert_allclose(points.points[1], SIX - 1, atol=1e-9)
        assert [structure.name for structure in points.structures] == ["lesion", "organ"]

    def test_structures_of_our_own_layer_are_values(self, tmp_path):
        rows = napari_rows(np.concatenate([SIX, SIX]))
        extra = [("3", 1, "k-") if n < 6 else ("1.0", 2, "k+") for n in range(12)]
        path = napari_csv(tmp_path, rows, ("index", "axis-0", "axis-1", "axis-2", "structure", "object", "direction"), extra)
        points = read_points(path, volume())
        assert points.values.tolist() == [3, 1]
        assert [structure.name for structure in points.structures] == ["structure 3", "lesion"]

    def test_values_are_kept(self, tmp_path):
        path = napari_csv(tmp_path, napari_rows(SIX), ("index", "axis-0", "axis-1", "axis-2", "value"), [("5",)] * 6)
        assert read_points(path, volume()).values.tolist() == [5]

    def test_two_objects_without_groups_are_one_and_noted(self, tmp_path):
        points = read_points(napari_csv(tmp_path, napari_rows(np.concatenate([SIX, SIX - 1]))), volume())
        assert len(points) == 1
        assert any("one" in note for note in points.notes)
        assert any("12 points" in note for note in points.notes)

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("index,axis-0,axis-1,axis-2\n", "axis-0"),
            ("a,b\n1,2\n", "axis-0"),
            ("index,axis-0,axis-1\n0,1,2\n", "axis-0"),
            ("index,axis-0,axis-1,axis-2,axis-3\n0,1,2,3,4\n", "axis-0"),
            ("index,shape-type,vertex-index,axis-0,axis-1,axis-2\n0,line,0,1,2,3\n", "shapes"),
            ("index,axis-0,axis-1,axis-2\n0,1,2\n", "row 1"),
            ("index,axis-0,axis-1,axis-2\n0,1,2,x\n", "row 1"),
            ("index,axis-0,axis-1,axis-2\n0,1,2,nan\n", "finite"),
            ("index,axis-0,axis-1,axis-2,value\n0,1,2,3,red\n", "value"),
            ("index,axis-0,axis-1,axis-2,value\n0,1,2,3,1\n0,1,2,3,2\n", "two values"),
            ('index,axis-0,axis-1,axis-2\n0,1,2,"3\n', "CSV"),
        ],
    )
    def test_damaged(self, tmp_path, text, part):
        with pytest.raises(PromptError, match=part) as caught:
            read_points(write(tmp_path, text, "p.csv"), volume())
        assert len(str(caught.value).split()) <= 30
