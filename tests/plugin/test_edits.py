"""Undo, redo, and the journal that a kill cannot take."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time

import numpy as np

from napari_weakseg.plugin.edits import History, Journal, journal_folder, purge, recoverable
from napari_weakseg.plugin.session import Document, ObjectKey

SHAPE = (6, 7, 8)
IMAGE = "a" * 64


def test_ten_clicks_back_and_forth_are_exact():
    history = History()
    states = [history.present]
    for n in range(10):
        history.do("place a point", history.present.place([n % 6, n % 7, n % 8], SHAPE))
        states.append(history.present)
    for n in range(9, -1, -1):
        assert history.undo().after == states[n]
        assert history.present == states[n]
    assert history.undo() is None
    for n in range(1, 11):
        history.redo()
        assert history.present == states[n]
    assert history.redo() is None


def test_a_new_action_forgets_what_was_undone():
    history = History()
    history.do("one", history.present.place([1, 1, 1], SHAPE))
    history.undo()
    history.do("two", history.present.place([2, 2, 2], SHAPE))
    assert history.redo() is None


def test_the_inverse_of_the_inverse_is_the_action():
    history = History()
    edit = history.do("one", history.present.place([1, 1, 1], SHAPE))
    assert edit.inverse.inverse.after == edit.after
    assert edit.inverse.after == Document()


def _written(folder, pid=None):
    journal = Journal(IMAGE, SHAPE, folder)
    document = Document().place([1, 2, 3], SHAPE).add_structure()
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:4, 3, 5:7] = 2
    journal.write_document(document)
    journal.write_mask(mask)
    return journal, document, mask


def test_unsaved_work_comes_back_with_points_and_labels(tmp_path):
    _, document, mask = _written(tmp_path)
    found = recoverable(IMAGE, SHAPE, tmp_path)
    assert found.document == document
    assert np.array_equal(found.mask, mask)
    assert recoverable("b" * 64, SHAPE, tmp_path) is None
    assert recoverable(IMAGE, (1, 1, 1), tmp_path) is None


def test_saved_work_is_not_offered(tmp_path):
    journal, document, _ = _written(tmp_path)
    journal.write_saved()
    assert recoverable(IMAGE, SHAPE, tmp_path) is None
    journal.write_document(document.add_object())
    assert recoverable(IMAGE, SHAPE, tmp_path) is not None


def test_a_torn_last_line_costs_that_line_alone(tmp_path):
    journal, document, mask = _written(tmp_path)
    whole = journal.path.read_bytes()
    for cut in range(1, 60, 7):
        journal.path.write_bytes(whole + b'{"document": {"structures": [{"name": "lesion"'[:cut])
        found = recoverable(IMAGE, SHAPE, tmp_path)
        assert found.document == document
        assert np.array_equal(found.mask, mask)


def test_a_killed_process_leaves_its_clicks(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from napari_weakseg.plugin.edits import Journal
from napari_weakseg.plugin.session import Document
journal = Journal({IMAGE!r}, {SHAPE!r}, Path({str(tmp_path)!r}))
document = Document()
for n in range(5):
    document = document.place([n, n, n], {SHAPE!r})
    journal.write_document(document)
os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert run.returncode == -9
    assert len(recoverable(IMAGE, SHAPE, tmp_path).document.marks) == 5


def test_work_of_a_window_that_is_still_open_is_left_alone(tmp_path):
    journal, _, _ = _written(tmp_path)
    text = journal.path.read_text()
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        journal.path.write_text(text.replace(f'"pid": {os.getpid()}', f'"pid": {sleeper.pid}'))
        assert recoverable(IMAGE, SHAPE, tmp_path) is None
    finally:
        sleeper.kill()
        sleeper.wait()
    assert recoverable(IMAGE, SHAPE, tmp_path) is not None


def test_the_folder_is_the_users_own_and_old_journals_go(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_state_path", lambda *a, **k: tmp_path / "state")
    folder = journal_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    old, _, _ = _written(folder)
    assert stat.S_IMODE(old.path.stat().st_mode) == 0o600
    new, _, _ = _written(folder)
    os.utime(old.path, (time.time() - 20 * 86400,) * 2)
    purge(folder)
    assert not old.path.exists()
    assert new.path.exists()


def test_the_journal_holds_neither_image_nor_names(tmp_path):
    journal, _, _ = _written(tmp_path)
    text = journal.path.read_text()
    assert set(__import__("json").loads(text.splitlines()[0])) == {"image", "shape", "panel", "pid"}
    assert journal.path.name.startswith(IMAGE[:16])
    assert ObjectKey(1, 1) in recoverable(IMAGE, SHAPE, tmp_path).document.objects
    assert recoverable(IMAGE, SHAPE, tmp_path, panel="scribbles") is None
