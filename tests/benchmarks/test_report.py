"""The report, from a cache of two made-up targets: every section is there and counts what it should."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FIRST = "first mask (ours)"


@pytest.fixture(scope="module", autouse=True)
def on_path():
    """The benchmarks are scripts beside each other, not a package."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@dataclass
class Named:
    name: str

    @property
    def set(self):
        return self.name.split("/")[0]


TARGETS = [Named("la/a"), Named("la/b"), Named("lgg/c")]


def figures(dice):
    return {"dice": dice, "cpu": 0.2, "wall": 0.3, "box": 5000, "doubt": 0.1}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project of four pages and a cache."""
    import pictures

    def measured(part, of_target):
        folder = tmp_path / "benchmarks" / "cache" / part
        folder.mkdir(parents=True)
        for number, target in enumerate(TARGETS):
            entry = {"target": target.name, "set": target.set, "value": of_target(number)}
            (folder / f"{number}.json").write_text(json.dumps(entry))

    curve = {"voxels": [5, 5, 0, 10], "said": [0.1, 0.4, 0.0, 0.9], "was": [0.1, 0.4, 0.0, 0.9], "error": 0.0}
    measured("first", lambda n: figures(0.85 + 0.01 * n))
    measured("classical", lambda n: figures(0.8))
    measured("peers", lambda n: {"watershed": figures(0.7), "random walker": figures(0.84)})
    measured("refine", lambda n: {**figures(0.9), "first": 0.86})
    for part in ("strokes", "sparse"):
        measured(part, lambda n: figures(0.9))
        measured(f"{part}-peers", lambda n: {"watershed": figures(0.8), "geodesic distance": figures(0.83)})
    times = {"cpu": [0.1, 0.2], "wall": [0.1, 0.2]}
    measured("corrections", lambda n: {FIRST: {"dice": [0.85, 0.91, 0.96], **times}})
    measured("corrections-peers", lambda n: {"watershed": {"dice": [0.7, 0.8, 0.9], **times}})
    measured("jitter", lambda n: {hand: {"ours": 0.8} for hand in ("0", "1", "2", "3", "one off by 10")})
    measured("degenerate", lambda n: {"dice": 0.9, "doubt": 0.4})
    measured("calibration", lambda n: {"dice": 0.8 + 0.01 * n, "doubt": 0.2 - 0.01 * n, "shown": curve, "network": curve})
    measured("made-up", lambda n: {"median": 0.8, "worst": 0.5, "cases": 3})
    measured("steps", lambda n: {"step": 100 * n, "median": 0.7, "mean": 0.7, "worst tenth": 0.5, "targets": 3})
    docs = tmp_path / "docs"
    for folder in ("methods", "models", "images"):
        (docs / folder).mkdir(parents=True)
    block = "before\n<!-- {0}: begin -->\nold\n<!-- {0}: end -->\nafter\n"
    (tmp_path / "README.md").write_text(block.format("benchmark table"))
    (docs / "methods" / "simple_propagation.md").write_text(block.format("measured figures"))
    (docs / "models" / "first_mask.md").write_text(block.format("measured figures"))
    monkeypatch.setattr(pictures, "IMAGES", docs / "images")
    return tmp_path


def test_every_section_is_written_from_what_was_measured(home):
    from report import write_report

    write_report(home / "benchmarks" / "cache", home / "benchmarks", TARGETS, {"python": "3"})
    page = (home / "docs" / "benchmarks.md").read_text()
    assert "| Six points: median Dice 0.82 | 0.860 (3 targets) | yes |" in page
    assert "+0.160" in page  # above watershed, paired
    assert "| Above it on three quarters of the sets | 2 of 2 | yes |" in page
    assert "Full strokes: 0.05 above the best stock peer | 0.900 against 0.830 (geodesic distance)" in page
    assert "To 0.90: 3 strokes in all against 6 of watershed (ratio 0.50); fewer on 3 targets, more on 0." in page
    assert "To be as good as watershed after all its strokes (median 2), ours needs a median of 1." in page
    assert "| watershed | 2 | 2.0 | 100 % | more than 10 | 10.0 | 0 % |" in page
    assert "Rank correlation of a target's doubt with its Dice: -1.00" in page
    for heading in ("Shaky clicks", "Nothing to see", "Where it fails", "Real Dice over training steps"):
        assert f"## {heading}" in page
    assert "lgg (1)" in (home / "README.md").read_text() and "\nold\n" not in (home / "README.md").read_text()
    assert "### What was asked" in (home / "docs" / "models" / "first_mask.md").read_text()
    assert {path.name for path in (home / "docs" / "images").iterdir()} == {
        "first_mask_reliability.png",
        "first_mask_real_curve.png",
    }


def test_a_report_without_a_cache_says_the_same(home):
    import shutil

    from report import write_report

    write_report(home / "benchmarks" / "cache", home / "benchmarks", TARGETS, {"python": "3"})
    page = (home / "docs" / "benchmarks.md").read_text()
    shutil.rmtree(home / "benchmarks" / "cache")
    write_report(home / "benchmarks" / "cache", home / "benchmarks", TARGETS, {"python": "3"})
    assert (home / "docs" / "benchmarks.md").read_text() == page
