"""The documentation's links lead somewhere, its points files are read, and its command lines are ones that we have."""

import ast
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

import napari_weakseg
from napari_weakseg.cli import _parser
from napari_weakseg.prompts import ExtremePoints
from napari_weakseg.samples import read_sample

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "sample_data").glob("*.md")])


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


def test_points_in_the_documentation_are_read():
    page = ROOT / "docs" / "file_formats.md"
    brain, abdomen = read_sample("brain_mri").volume, read_sample("abdomen_ct").volume
    simple, full = (json.loads(block) for block in _blocks(page, "json"))
    assert len(ExtremePoints.from_json(simple, brain).checked(brain)) == 1
    assert {s.name for s in ExtremePoints.from_json(full, abdomen).checked(abdomen).structures} == {"liver", "right kidney"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_in_python_examples_exist(page):
    for block in _blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("napari_weakseg"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ws":
                assert node.attr in napari_weakseg.__all__, ast.unparse(node)


def test_the_first_example_of_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    block = _blocks(ROOT / "docs" / "tutorial.md", "python")[0]
    assert "ws.segment(case.volume, case.points)" in block
    monkeypatch.chdir(tmp_path)
    quick = block.replace("case.points)", "case.points, recipe=ws.new_recipe(max_seconds=0))", 1)
    exec(compile(quick, "tutorial.md", "exec"), {})
    assert float(capsys.readouterr().out) > 0.5
    assert (tmp_path / "lesion.nii.gz").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_command_lines_are_ours(page):
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE) for line in block.splitlines()]
    lines += re.findall(r"`(weakseg [a-z-]+ [^`]*)`", text)
    for line in lines:
        words = shlex.split(line.strip(), comments=True)
        if words[:1] == ["weakseg"] and "..." not in words:
            _parser().parse_args(words[1:])
