"""The rules of the house that no single function can show."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import napari_weakseg

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "napari_weakseg"
HEAVY = (
    "torch",
    "monai",
    "napari",
    "qtpy",
    "PyQt6",
    "PySide6",
    "SimpleITK",
    "skimage",
    "scipy",
    "nibabel",
    "matplotlib",
    "numba",
)


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_import_contracts():
    pytest.importorskip("importlinter")
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["napari_weakseg", "napari_weakseg.methods", "napari_weakseg.cli", "napari_weakseg.volume"])
def test_start_up_loads_nothing_heavy(module):
    done = _python(f"import sys, {module}; print(*sorted(m for m in {HEAVY} if m in sys.modules))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_cards_of_all_methods_load_neither_torch_nor_napari():
    loaded = "print(*(name for name in ('torch', 'monai', 'napari') if name in sys.modules))"
    done = _python(f"import sys, napari_weakseg as ws; ws.list_methods(); {loaded}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_every_public_name_is_there_and_none_is_a_submodule():
    modules = {module.name for module in pkgutil.iter_modules(napari_weakseg.__path__)}
    assert not modules & set(napari_weakseg.__all__)
    for name in set(napari_weakseg.__all__) - {"from_layer", "show"}:  # these two load napari
        assert getattr(napari_weakseg, name) is not None
    with pytest.raises(AttributeError):
        napari_weakseg.nothing  # noqa: B018
    assert set(napari_weakseg.__all__) <= set(dir(napari_weakseg))


def test_type_checkers_see_every_public_name_where_it_is():
    stub = ast.parse((SOURCE / "__init__.pyi").read_text(encoding="utf-8"))
    seen = {alias.asname: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == napari_weakseg._HOME


def test_core_and_command_line_run_without_qt_and_display(tmp_path):
    code = (
        "import sys\n"
        "for name in ('napari', 'qtpy', 'PyQt6', 'PySide6', 'superqt', 'magicgui', 'vispy'): sys.modules[name] = None\n"
        "from napari_weakseg.cli import main\n"
        f"main(['sample-data', {str(tmp_path)!r}])\n"
        f"mask = {str(tmp_path / 'brain_mri_mask.nii.gz')!r}\n"
        "sys.exit(main(['evaluate', mask, mask]))"
    )
    done = _python(code, DISPLAY="")
    assert done.returncode == 0, done.stderr
    assert "1.000" in done.stdout


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "napari_weakseg", "--version"], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"weakseg {napari_weakseg.__version__}"


def test_one_version():
    assert _project()["project"]["version"] == napari_weakseg.__version__


def test_base_dependencies_hold_no_qt_binding():
    names = [re.split(r"[^A-Za-z0-9_-]", line)[0].lower() for line in _project()["project"]["dependencies"]]
    assert not {"pyqt5", "pyqt6", "pyside2", "pyside6"} & set(names)
    assert not any(line.replace(" ", "").startswith("napari[") for line in _project()["project"]["dependencies"])


def test_every_base_dependency_has_a_tested_version():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().splitlines()
    pinned = {line.partition("==")[0] for line in lines if line and not line.startswith("#")}
    for line in _project()["project"]["dependencies"]:
        assert re.split(r"[^A-Za-z0-9_-]", line)[0].lower() in pinned, line


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_private_name_of_napari_and_no_broad_except(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("napari", "napari_builtins", "vispy"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            assert not any(name.startswith("_") for name in names), f"line {node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("_qt_viewer", "_qt_window", "_private"), f"line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else ""
            assert caught not in ("", "Exception", "BaseException"), f"line {node.lineno}"


def test_the_manifest_at_the_root_is_the_package_s():
    inside, outside = SOURCE / "napari.yaml", ROOT / "napari.yaml"
    if not outside.is_symlink() and sys.platform == "win32":
        pytest.skip("this checkout has no symbolic links")
    assert outside.resolve() == inside.resolve()
    assert outside.read_text(encoding="utf-8") == inside.read_text(encoding="utf-8")


def test_what_is_committed_names_no_machine():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is no git checkout")
    machine = re.compile(rb"/wor[k]/\w+|/roo[t]/")
    for name in done.stdout.split("\0"):
        path = ROOT / name
        if (
            name
            and path.suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".json", ".sh", ".cff", ""}
            and path.is_file()
        ):
            assert not machine.findall(path.read_bytes()), name


def test_the_guard_against_the_network_works(no_network):
    with socket.socket() as probe, pytest.raises(PermissionError):
        probe.connect(("192.0.2.1", 80))
    with pytest.raises(PermissionError):
        socket.getaddrinfo("example.org", 80)
    assert len(no_network) == 2
    no_network.clear()


def test_no_module_of_the_core_fails_to_import():
    for module in pkgutil.walk_packages(napari_weakseg.__path__, "napari_weakseg."):
        if ".plugin" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
