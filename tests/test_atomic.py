"""Old or new, never neither: kills, full disks, folders that cannot be written, leftovers."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from napari_weakseg.errors import DataError
from napari_weakseg.io import atomic
from napari_weakseg.io.atomic import check_writable, sweep, write_atomically
from napari_weakseg.io.nifti import read_mask, write_mask
from napari_weakseg.io.points import write_points
from napari_weakseg.io.records import write_record
from napari_weakseg.prompts import ExtremePoints
from napari_weakseg.volume import Volume

posix = pytest.mark.skipif(os.name == "nt", reason="limits, kills and rights of POSIX")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces(tmp_path):
    target = tmp_path / "a.json"
    assert write_atomically(target, b"one") == target
    write_atomically(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(tmp_path) == ["a.json"]


@posix
def test_rights_are_those_of_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        assert write_atomically(tmp_path / "a", b"").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(old)


@posix
def test_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "a")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").read_bytes() == b"new"


def test_failed_check_keeps_the_old_file(tmp_path):
    target = tmp_path / "a"
    target.write_bytes(b"old")
    seen = []

    def check(temporary: Path) -> None:
        seen.append(temporary.read_bytes())
        raise DataError("differs")

    with pytest.raises(DataError, match="differs"):
        write_atomically(target, b"new", check=check)
    assert seen == [b"new"]
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@posix
def test_leftovers_of_dead_processes_are_swept(tmp_path):
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    dead = tmp_path / f"{atomic.PREFIX}{atomic._host()}-{finished.pid}-00ff.tmp"
    alive = tmp_path / f"{atomic.PREFIX}{atomic._host()}-{os.getppid()}-00ff.tmp"
    elsewhere = tmp_path / f"{atomic.PREFIX}{'0' * 8}-{finished.pid}-00ff.tmp"
    abandoned = tmp_path / f"{atomic.PREFIX}{'0' * 8}-{finished.pid}-00aa.tmp"
    foreign = tmp_path / ".weakseg-notes.tmp"
    for path in (dead, alive, elsewhere, abandoned, foreign):
        path.write_bytes(b"x")
    os.utime(abandoned, (0, 0))
    write_atomically(tmp_path / "a", b"new")
    assert names(tmp_path) == sorted(["a", alive.name, elsewhere.name, foreign.name])
    assert sweep(tmp_path) == 0


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for attempt in (lambda p: write_atomically(p, b"x"), check_writable):
        with pytest.raises(DataError, match=r"the folder of a\.nii does not exist"):
            attempt(tmp_path / "file" / "a.nii")
        with pytest.raises(DataError, match="does not exist"):
            attempt(tmp_path / "missing" / "a.nii")
        with pytest.raises(DataError, match="is a folder"):
            attempt(tmp_path)


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="rights do not bind this user")
def test_read_only_folder_and_file(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0o444)
    with pytest.raises(DataError, match="write-protected"):
        write_atomically(tmp_path / "a", b"new")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(DataError, match="cannot be written"):
            check_writable(tmp_path / "b")
    finally:
        tmp_path.chmod(0o755)


def test_writable_folder_stays_as_it_was(tmp_path):
    check_writable(tmp_path / "a.nii.gz")
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", ["ENOSPC", "EROFS", "EACCES", "EIO", "ENAMETOOLONG"])
def test_every_failure_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, code):
    import errno

    (tmp_path / "a").write_bytes(b"old")

    def fail(handle: int) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DataError) as caught:
        write_atomically(tmp_path / "a", b"new")
    assert len(str(caught.value).split()) <= 30
    assert str(tmp_path) not in str(caught.value)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_target_that_another_program_holds(tmp_path, monkeypatch):
    (tmp_path / "mask.nii.gz").write_bytes(b"old")
    real = os.replace

    def held(source, target):
        if Path(target).name == "mask.nii.gz":
            raise PermissionError(13, "held")
        real(source, target)

    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(DataError, match="kept as"):
        write_atomically(tmp_path / "mask.nii.gz", b"new")
    assert (tmp_path / "mask.nii.gz").read_bytes() == b"old"
    assert (tmp_path / "mask (new 1).nii.gz").read_bytes() == b"new"


@posix
@pytest.mark.parametrize("kind", ["mask", "points", "record"])
def test_full_disk_R13(tmp_path, kind):
    """The limit on file sizes stands for a full disk: writing fails after so many bytes."""
    import resource

    noise = np.random.default_rng(0).integers(0, 5, (24, 24, 24)).astype(np.uint8)
    volume = Volume(noise)
    points = ExtremePoints.from_points(np.random.default_rng(0).uniform(1, 20, (50, 6, 3)), volume)
    write = {
        "mask": lambda path, n: write_mask(volume.with_array((noise + n) % 5), path),
        "points": lambda path, n: write_points(
            ExtremePoints(points.points + n, points.values, points.structures, points.affine), path
        ),
        "record": lambda path, n: write_record({"numbers": list(range(n, 3000))}, path),
    }[kind]
    path = write(tmp_path / ("a.nii.gz" if kind == "mask" else "a.json"), 0)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in np.linspace(0, len(before) // 2, 20).astype(int):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), hard))
        try:
            with pytest.raises(DataError, match="disk is full"):
                write(path, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before
        assert names(tmp_path) == [path.name]


@posix
def test_killed_in_export_R15(tmp_path):
    """Twenty kills at random instants of writing a 64-cube: the mask on disk is always one of the two."""
    driver = textwrap.dedent(
        """
        import os, random, signal, sys, time
        import numpy as np, nibabel, scipy
        from napari_weakseg.io.nifti import read_mask, write_mask
        from napari_weakseg.volume import Volume
        path = sys.argv[1]
        noise = np.random.default_rng(0).integers(0, 5, (64, 64, 64)).astype(np.uint8)
        both = [Volume(noise), Volume((noise + 1) % 5)]
        started = time.perf_counter(); write_mask(both[0], path); once = time.perf_counter() - started
        rng = random.Random(0)
        for kill in range(20):
            child = os.fork()
            if child == 0:
                while True:
                    for volume in both:
                        write_mask(volume, path)
            time.sleep(rng.uniform(0.2, 1.6) * once)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found = read_mask(path).array
            assert any(np.array_equal(found, volume.array) for volume in both), kill
        print("intact")
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", driver, str(tmp_path / "mask.nii.gz")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "intact", done.stderr
    write_mask(Volume(np.ones((2, 2, 2), np.uint8)), tmp_path / "mask.nii.gz")
    assert names(tmp_path) == ["mask.nii.gz"]  # what the kills left behind was swept
    assert read_mask(tmp_path / "mask.nii.gz").shape == (2, 2, 2)
