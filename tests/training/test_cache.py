"""Prepared cases: bounded in memory and on disk, made again where damaged or stale."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_weakseg.case import Case
from napari_weakseg.training.cache import PreparedCases, clear_prepared
from napari_weakseg.volume import Volume

BYTES = 4 * 5 * 6 * 4


class Lazy:
    """Four cases that are made when asked for, and counted."""

    def __init__(self, shift=0.0):
        self.shift, self.read = shift, []

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.read.append(index)
        return Case(f"c{index}", {"flair": Volume(np.full((4, 5, 6), index + self.shift, np.float32), name=f"c{index}")})

    def fingerprint(self, index):
        return f"{index} {self.shift}"


def doubled(case):
    return {"image": case.volume.array * 2, "size": np.array(case.volume.shape)}


@pytest.fixture
def prepared(tmp_path):
    def make(cases, *, memory=0, disk=10**9, scale=1):
        return PreparedCases(
            cases, doubled, settings={"scale": scale}, folder=tmp_path / "prepared", memory_bytes=memory, disk_bytes=disk
        )

    return make


def test_what_fits_stays_in_memory_and_writes_nothing(prepared, tmp_path):
    cases = Lazy()
    arrays = prepared(cases, memory=10**6)
    for _ in range(2):
        assert [float(entry["image"][0, 0, 0]) for entry in arrays] == [0, 2, 4, 6]
    assert cases.read == [0, 1, 2, 3]
    assert not (tmp_path / "prepared").exists()
    with pytest.raises(IndexError):
        arrays[4]
    assert arrays[-1]["image"][0, 0, 0] == 6
    assert len(arrays[1:3]) == 2


def test_what_does_not_fit_is_mapped_from_files_that_a_later_run_finds(prepared):
    arrays = prepared(Lazy(), memory=BYTES + 24)
    for _ in range(2):
        assert [float(entry["image"].max()) for entry in arrays] == [0, 2, 4, 6]
    assert not isinstance(arrays[0]["image"], np.memmap)
    assert all(isinstance(arrays[place]["image"], np.memmap) for place in (1, 2, 3))
    assert arrays.in_memory == BYTES + 24
    later = Lazy()
    np.testing.assert_array_equal(prepared(later)[2]["size"], [4, 5, 6])
    assert later.read == []


def test_arrays_cannot_be_changed_by_whoever_gets_them(prepared):
    for memory in (0, 10**6):
        with pytest.raises(ValueError, match="read-only"):
            prepared(Lazy(), memory=memory)[0]["image"][0, 0, 0] = 1


def test_other_images_and_other_settings_are_prepared_anew(prepared):
    assert prepared(Lazy())[1]["image"].max() == 2
    assert prepared(Lazy(shift=1))[1]["image"].max() == 4
    again = Lazy()
    prepared(again, scale=2)[1]
    assert again.read == [1]


@pytest.mark.parametrize("damage", ["flip", "cut", "table", "gone"])
def test_damaged_entries_are_made_again(prepared, tmp_path, damage):
    prepared(Lazy())[3]
    (entry,) = (tmp_path / "prepared").iterdir()
    if damage == "flip":
        data = bytearray((entry / "0.npy").read_bytes())
        data[-3] ^= 16
        (entry / "0.npy").write_bytes(data)
    elif damage == "cut":
        (entry / "0.npy").write_bytes((entry / "0.npy").read_bytes()[:-9])
    elif damage == "table":
        (entry / "arrays.json").write_text(json.dumps([{"name": "image"}]))
    else:
        (entry / "1.npy").unlink()
    cases = Lazy()
    assert prepared(cases)[3]["image"].min() == 6
    assert cases.read == [3]
    again = Lazy()
    assert prepared(again)[3]["image"].min() == 6
    assert again.read == []


def test_the_folder_stays_within_its_bound(prepared, tmp_path):
    entry = 1050  # two arrays, their headers and the table
    first = prepared(Lazy(), disk=2 * entry)
    values = [float(first[place]["image"].max()) for place in (0, 1, 2, 3, 2)]
    assert values == [0, 2, 4, 6, 4]
    assert len(list((tmp_path / "prepared").iterdir())) <= 2
    assert "not enough" in first.notes[0]
    other = prepared(Lazy(shift=5), disk=2 * entry)  # what another run left gives way
    other[0], other[1]
    assert isinstance(other[1]["image"], np.memmap)
    assert len(list((tmp_path / "prepared").iterdir())) <= 2


def test_clearing_removes_what_is_ours_alone(prepared, tmp_path):
    arrays = prepared(Lazy())
    arrays[0]
    (tmp_path / "prepared" / "letters").mkdir()
    assert clear_prepared(tmp_path / "prepared") > BYTES
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == ["letters"]
    assert clear_prepared(tmp_path / "nowhere") == 0


def test_a_folder_that_cannot_be_made_costs_time_not_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    arrays = PreparedCases(Lazy(), doubled, settings={}, folder=tmp_path / "file" / "prepared", memory_bytes=0)
    assert arrays[1]["image"].max() == 2
    assert arrays.notes


def test_bounds_are_said_and_cases_in_memory_work(prepared, blob):
    cases = tuple(Case(f"c{n}", {"image": blob[0].with_array(blob[0].array + n)}) for n in range(2))
    arrays = prepared(cases, memory=3 * 10**9)
    assert "3.0 GB of memory" in arrays.bounds and "1.0 GB" in arrays.bounds
    small = prepared(cases)
    assert small[1]["image"].max() - small[0]["image"].max() == pytest.approx(2)
    assert isinstance(small[0]["image"], np.memmap)


def test_what_a_training_takes_is_bounded(monkeypatch):
    from napari_weakseg.training import cache

    monkeypatch.setattr(cache, "default_memory", lambda: 2_000_000_000)
    assert cache.expected_note(10**8, 1, 10**9).startswith("this training takes about 1.8 GB of memory, 0.8 GB")
    assert "3.0 GB of memory, 2.0 GB" in cache.expected_note(10**10, 2, 10**9)
