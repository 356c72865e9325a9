"""What a classifier says, read from its result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fake_classifier import classify
from napari_weakseg.errors import DataError
from napari_weakseg.plugin.explanation import Explanation


@pytest.fixture(params=[0, 2])
def explained(request, blob):
    volume, _ = blob
    return Explanation(volume, classify(volume, request.param), request.param)


def test_bias_and_contributions_add_up_to_the_score_of_every_slice(explained):
    for name in explained.classes:
        probabilities = explained.slices_of(name)
        for index, probability in enumerate(probabilities):
            decision = explained.decision(name, index)
            assert len(decision.contributions) == 3
            assert np.round(decision.voxels[:, explained.slice_axis]).tolist() == [index] * 3
            assert 1 / (1 + np.exp(-decision.score)) == pytest.approx(probability, abs=1e-4)


def test_the_mask_is_empty_where_the_class_is_not_predicted(explained):
    allowed, predicted = explained.allowed("lesion"), explained.predicted("lesion")
    assert 0 < predicted.sum() < len(predicted)
    per_slice = np.moveaxis(allowed, explained.slice_axis, 0)
    assert not per_slice[~predicted].any()
    assert np.array_equal(per_slice[predicted], np.moveaxis(explained.body, explained.slice_axis, 0)[predicted])


def test_the_runs_own_threshold_is_taken_where_it_says_one(explained):
    result = replace(explained.result, scores={**explained.result.scores, "threshold lesion": 0.125})
    assert Explanation(explained.volume, result, explained.slice_axis).threshold("lesion") == 0.125
    assert np.isfinite(explained.threshold("lesion"))


def test_further_maps_are_no_classes(explained):
    more = {**explained.result.maps, "heatmap mask": np.zeros(explained.volume.shape, np.float32)}
    assert Explanation(explained.volume, replace(explained.result, maps=more)).mapped == ("normal", "lesion")


def test_the_first_class_shown_is_one_that_a_mask_is_drawn_of(explained):
    assert explained.classes == ("normal", "lesion")
    assert explained.foreground == ("lesion",)
    assert explained.first_choice == "lesion"
    assert explained.structure("lesion").value == 1


def test_the_slice_to_look_at_first_shows_the_class(explained):
    index = explained.best_slice("lesion")
    assert explained.slices_of("lesion")[index] == pytest.approx(explained.slices_of("lesion").max(), abs=1e-3)


def test_a_volume_that_was_judged_as_a_whole(blob):
    volume, _ = blob
    result = classify(volume)
    tables = {key: value for key, value in result.tables.items() if key != "slice probabilities"}
    explained = Explanation(
        volume, replace(result, tables=tables, scores={"probability normal": 0.1, "probability lesion": 0.9})
    )
    assert explained.slices is None
    assert explained.predicted("lesion").all()
    assert not explained.predicted("normal").any()
    assert explained.decision("lesion", 3).contributions.shape == (3 * volume.shape[2],)
    assert 0 <= explained.best_slice("lesion") < volume.shape[2]
    whole = Explanation(volume, result, by_slice=False)  # every slice has a probability, and the volume was judged
    assert len(set(whole.predicted("lesion"))) == 1
    assert len(whole.decision("lesion", 3).contributions) == 3 * volume.shape[2]


def test_only_the_heaviest_places_are_kept_where_there_are_many(explained):
    decision = explained.decision("lesion")
    few = decision.heaviest(5)
    assert len(few.contributions) == 5
    assert np.abs(few.contributions).min() >= np.sort(np.abs(decision.contributions))[-5]


def test_a_result_without_a_heatmap_is_refused(blob):
    volume, _ = blob
    with pytest.raises(DataError, match="no heatmap"):
        Explanation(volume, replace(classify(volume), maps={}, scores={}))
