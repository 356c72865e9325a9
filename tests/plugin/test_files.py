"""Reader, writer and sample data, as napari calls them."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels, Layer
from napari.utils.notifications import notification_manager

from napari_weakseg.io.nifti import write_mask
from napari_weakseg.plugin.readers import get_reader, read
from napari_weakseg.plugin.samples import abdomen_ct, brain_mri
from napari_weakseg.plugin.writers import write_labels
from napari_weakseg.volume import Volume


@pytest.fixture
def said(monkeypatch):
    """What the user was told."""
    words = []
    for name in ("show_error", "show_warning", "show_info"):
        monkeypatch.setattr(f"napari.utils.notifications.{name}", words.append)
    return words


def _save(path, array, affine=None):
    image = nib.Nifti1Image(array, np.diag([-1.0, 1, 3, 1]) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return str(path)


def test_other_files_are_left_to_other_readers():
    assert get_reader("a.tif") is None
    assert get_reader(["a.nii", "b.tif"]) is None
    assert get_reader(["a.nii", "b.nii.gz"]) is read
    assert get_reader("A.NII.GZ") is read


def test_an_image_opens_in_place_and_a_list_opens_whole(tmp_path, said):
    rng = np.random.default_rng(0)
    paths = [_save(tmp_path / f"scan{n}.nii.gz", rng.integers(0, 99, (4, 5, 6)).astype(np.int16)) for n in range(2)]
    layers = [Layer.create(*data) for data in read(paths)]
    assert [layer.name for layer in layers] == ["scan0", "scan1"]
    assert np.allclose(layers[0].scale, (3, 1, 1))
    assert said == []


def test_several_channels_open_as_layers_of_one_grid(tmp_path, said):
    path = _save(tmp_path / "multi.nii.gz", np.random.default_rng(0).integers(0, 99, (4, 5, 6, 3)).astype(np.int16))
    layers = [Layer.create(*data) for data in read(path)]
    assert [layer.name for layer in layers] == [f"multi channel {n}" for n in range(3)]


def test_a_long_series_is_refused_in_a_sentence_F8(tmp_path, said):
    path = _save(tmp_path / "series.nii.gz", np.random.default_rng(0).integers(0, 99, (4, 5, 6, 40)).astype(np.int16))
    assert read(path) == [(None,)]
    assert "series" in said[0]
    assert len(said[0].split()) <= 30


@pytest.mark.parametrize(("name", "kind"), [("scan", "image"), ("scan_mask", "labels")])
def test_two_places_open_as_two_layers_F17_F18(tmp_path, said, name, kind):
    array = np.random.default_rng(0).integers(0, 9, (4, 5, 6)).astype(np.uint8)
    image = nib.Nifti1Image(array, None)
    image.set_sform(np.diag([1.0, 1, 3, 1]), 1)
    image.set_qform(np.diag([-1.0, 1, 3, 1]), 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / f"{name}.nii.gz")
    found = read(str(tmp_path / f"{name}.nii.gz"))
    assert [(options["name"], what) for _, options, what in found] == [(f"{name} (sform)", kind), (f"{name} (qform)", kind)]
    assert not np.array_equal(found[0][0], found[1][0])
    assert any("both are open" in words for words in said)


def test_a_mask_opens_as_labels_in_the_palette(tmp_path, said):
    array = np.zeros((4, 5, 6), np.uint8)
    array[1:3, 2, 3] = 2
    (data,) = read(_save(tmp_path / "a_mask.nii.gz", array))
    layer = Layer.create(*data)
    assert isinstance(layer, Labels)
    assert np.array_equal(np.unique(layer.data), [0, 2])


def test_a_damaged_file_gives_one_sentence_and_no_layer(tmp_path, said):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"\x1f\x8b nothing")
    good = _save(tmp_path / "good.nii.gz", np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(np.int16))
    assert read(str(bad)) == [(None,)]
    assert len(read([str(bad), good])) == 1
    assert all("bad.nii.gz" in words and str(tmp_path) not in words for words in said)
    assert all(len(words.split()) <= 30 for words in said)


def test_notes_of_a_file_are_shown_and_stay_with_the_layer(tmp_path, said):
    image = nib.Nifti1Image(np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(np.int16), None)
    nib.save(image, tmp_path / "nowhere.nii.gz")
    ((_, options, _),) = read(str(tmp_path / "nowhere.nii.gz"))
    notes = options["metadata"]["weakseg"]["notes"]
    assert notes
    assert len(said) == len(notes)
    assert not options["metadata"]["weakseg"]["orientation_known"]


def test_labels_are_written_on_the_image_they_were_made_on(tmp_path, said):
    tilt = np.radians(20)
    c, s = np.cos(tilt), np.sin(tilt)
    affine = np.array([[-c, 0, s * 3, 4], [0, 1, 0, 5], [s, 0, c * 3, 6], [0, 0, 0, 1]])
    path = _save(tmp_path / "scan.nii.gz", np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(np.int16), affine)
    ((data, options, _),) = read(path)
    viewer = ViewerModel()
    image = viewer.add_image(data, **options)
    labels = np.zeros(data.shape, np.uint16)
    labels[0, 1, 2] = 300
    place = {"scale": image.scale, "translate": image.translate, "units": image.units}
    layer = viewer.add_labels(labels, metadata=dict(image.metadata), **place)
    state, meta, _ = layer.as_layer_data_tuple()
    assert write_labels(str(tmp_path / "out.nii.gz"), state, meta) == [str(tmp_path / "out.nii.gz")]
    written = nib.load(tmp_path / "out.nii.gz")
    assert np.allclose(written.affine, affine, atol=1e-6)
    assert written.shape == (4, 5, 6)
    assert np.asarray(written.dataobj).max() == 300


def test_writing_onto_the_source_is_refused_in_a_sentence(tmp_path, said):
    path = _save(tmp_path / "scan_mask.nii.gz", np.eye(5, dtype=np.uint8)[..., None].repeat(4, 2))
    before = (tmp_path / "scan_mask.nii.gz").read_bytes()
    ((data, options, _),) = read(path)
    layer = Labels(data, **options)
    state, meta, _ = layer.as_layer_data_tuple()
    assert write_labels(path, state, meta) == []
    assert said
    assert (tmp_path / "scan_mask.nii.gz").read_bytes() == before


def test_a_source_that_changed_is_noted_on_writing_F39(tmp_path, said):
    path = _save(tmp_path / "scan.nii.gz", np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(np.int16))
    ((data, options, _),) = read(path)
    (tmp_path / "scan.nii.gz").write_bytes(b"other")
    place = {key: options[key] for key in ("scale", "translate", "units", "metadata")}
    state, meta, _ = Labels(np.ones(data.shape, np.uint8), **place).as_layer_data_tuple()
    assert write_labels(str(tmp_path / "out.nii.gz"), state, meta)
    assert any("changed" in words for words in said)


def test_masks_survive_writer_and_reader(tmp_path, said):
    volume = Volume(np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8), np.diag([2.0, -2, 4, 1]), "any")
    write_mask(volume, tmp_path / "any_seg.nii.gz")
    ((data, options, _),) = read(str(tmp_path / "any_seg.nii.gz"))
    state, meta, _ = Labels(data, **options).as_layer_data_tuple()
    write_labels(str(tmp_path / "again.nii.gz"), state, meta)
    assert np.array_equal(np.asarray(nib.load(tmp_path / "again.nii.gz").dataobj), volume.array)


def test_sample_data_open_without_network(said):
    for sample in (brain_mri, abdomen_ct):
        for data in sample():
            layer = Layer.create(*data)
            assert layer.ndim == 3
            assert layer.metadata["weakseg"]["role"] == "image"
    assert notification_manager is not None
