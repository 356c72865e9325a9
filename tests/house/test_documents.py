"""What the documents promise: their code runs, and what they name is there."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

import napari_weakseg as ws

ROOT = Path(__file__).parents[2]


def _python_block(document: str) -> str:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)[0]


def test_the_method_of_one_file_runs(tmp_path, monkeypatch, blob, blob_points):
    (tmp_path / "ellipsoid.py").write_text(_python_block("CONTRIBUTING.md"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("ellipsoid", "ellipsoid", "napari_weakseg.methods")
    monkeypatch.setattr("napari_weakseg.methods.entry_points", lambda group: (point,))
    assert "ellipsoid" in {card.name for card in ws.list_methods()}
    result = ws.segment(blob[0], blob_points, method="ellipsoid")
    assert ws.evaluate(result, blob[1])["structures"]["lesion"]["dice"] > 0.85
    np.testing.assert_array_equal(ws.replay(result.record, blob[0]).labels, result.labels)
    sys.modules.pop("ellipsoid")


@pytest.mark.parametrize("target", ["demo", "test", "test-fast", "check", "bench", "docs"])
def test_the_makefile_has_every_chore(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_citation_names_three_papers_and_our_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert text.count("doi: 10.") == 3
    assert f"version: {ws.__version__}" in text


def test_the_continuous_integration_calls_make_test():
    script = ROOT / ".ci" / "run"
    assert "make test" in script.read_text(encoding="utf-8")
    if sys.platform != "win32":
        assert script.stat().st_mode & 0o111
