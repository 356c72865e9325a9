"""Runs on disk: kills, locks, full disks, weights that are damaged, foreign or newer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from napari_weakseg.errors import DataError, RecipeError
from napari_weakseg.io import runs
from napari_weakseg.io.runs import Run, read_weights, write_weights
from napari_weakseg.io.weights import caveats, check_trained
from napari_weakseg.method import Step, TrainingState, Weights
from napari_weakseg.methods import new_recipe
from napari_weakseg.prompts import Structure

posix = pytest.mark.skipif(os.name == "nt", reason="limits, kills and rights of POSIX")
PARTS = {"parts": {"training": [{"id": "a"}], "testing": []}}


def weights_of(value=1.0, **meta):
    structures = (Structure("lesion", 1, concept=("SCT", "4147007", "Mass")), Structure("cyst", 2))
    tensors = {"a.weight": np.full((2, 3), value, dtype=np.float32), "a.count": np.array(3)}
    return Weights("simple_propagation", new_recipe("simple_propagation"), structures, tensors, {"channels": 1, **meta})


def state_of(index, value=1.0):
    meta = {"stage": "train", "index": index, "seconds": 0.5, "finished": {}, "rates": {"adam": [0.1]}}
    return TrainingState(weights_of(value), {"module.net.w": np.full(4, value, dtype=np.float32)}, meta)


def begun(folder, **changes):
    run = Run(folder, every_seconds=0)
    run.begin(new_recipe("simple_propagation", **changes), "simple_propagation", PARTS)
    return run


# -- weights ------------------------------------------------------------------------------------------------------------


def test_weights_come_back_as_they_were(tmp_path):
    weights = weights_of()
    path = write_weights(weights, tmp_path / "w.safetensors")
    again = read_weights(path)
    assert again.method == weights.method
    assert again.recipe == weights.recipe
    assert again.structures == weights.structures
    assert again.meta == weights.meta
    for name, value in weights.tensors.items():
        assert np.array_equal(again.tensors[name], value)
        assert again.tensors[name].dtype == value.dtype
        assert again.tensors[name].shape == value.shape
    assert read_weights(tmp_path / "w.json").method == weights.method


def damage_byte(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def edit(path, **changes):
    card = json.loads(path.read_text())
    for name, value in changes.items():
        if value is None:
            del card[name]
        else:
            card[name] = value
    path.write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda w, j: damage_byte(w), "damaged"),
        (lambda w, j: w.write_bytes(w.read_bytes()[:-1]), "damaged"),
        (lambda w, j: w.write_bytes(w.read_bytes() + b"tail"), "damaged"),
        (lambda w, j: w.write_bytes(b""), "damaged"),
        (lambda w, j: w.write_bytes(b"<html>"), "damaged"),
        (lambda w, j: w.unlink(), "does not exist"),
        (lambda w, j: j.unlink(), "missing"),
        (lambda w, j: j.write_text("no JSON"), "damaged or no description"),
        (lambda w, j: j.write_text("[]"), "does not describe"),
        (lambda w, j: j.write_text("{" * 2000), "damaged or no description"),
        (lambda w, j: j.write_bytes(b" " * 1_000_001), "larger than"),
        (lambda w, j: edit(j, schema_version=99), "newer version"),
        (lambda w, j: edit(j, surprise="x"), "surprise"),
        (lambda w, j: edit(j, kind="state"), "does not describe"),
        (lambda w, j: edit(j, method="os.system"), "no method"),
        (lambda w, j: edit(j, recipe={"widths": [10**9]}), "widths"),
        (lambda w, j: edit(j, recipe={"no_such": 1}), "no_such"),
        (lambda w, j: edit(j, recipe=[]), "lacks"),
        (lambda w, j: edit(j, meta={"slice_axis": "x"}), "'slice_axis'"),
        (lambda w, j: edit(j, meta={"notes": "one"}), "'notes'"),
        (lambda w, j: edit(j, meta={"steps": [True]}), "'steps'"),
        (lambda w, j: edit(j, meta=5), "lacks"),
        (lambda w, j: edit(j, structures=[{"name": "a", "value": 999, "colour": "", "concept": None}]), "999"),
        (lambda w, j: edit(j, tensors={"a.weight": [[9, 9], "float32"]}), "damaged"),
        (lambda w, j: edit(j, file={"sha256": 5}), "damaged"),
    ],
)
def test_weights_that_cannot_be_trusted_are_refused_in_a_sentence(tmp_path, harm, words):
    path = write_weights(weights_of(), tmp_path / "w.safetensors")
    harm(path, path.with_suffix(".json"))
    with pytest.raises(DataError, match=words) as caught:
        read_weights(path)
    assert len(str(caught.value).split()) <= 34
    assert str(tmp_path) not in str(caught.value)


def test_a_pickle_is_never_opened(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(DataError, match="no file of weights"):
        read_weights(tmp_path / "w.pt")
    with pytest.raises(DataError, match="nope does not exist"):
        read_weights(tmp_path / "nope")
    path = write_weights(weights_of(), tmp_path / "w.safetensors")
    shutil.copy(tmp_path / "w.pt", path)
    with pytest.raises(DataError, match="damaged"):
        read_weights(path)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    path = write_weights(weights_of(np.nan), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="not finite"):
        read_weights(path)


def test_a_description_never_holds_a_path(tmp_path):
    with pytest.raises(DataError, match="path"):
        write_weights(weights_of(source="/home/someone/brain.nii.gz"), tmp_path / "w.safetensors")


# -- beginning ----------------------------------------------------------------------------------------------------------


def test_a_run_is_begun_saved_and_read(tmp_path):
    with begun(tmp_path / "new" / "run") as run:
        assert run.latest() is None
        run.log(Step("train", 1, 9, {"loss": 0.5}))
        run.save(state_of(1))
        state = run.latest()
        assert state.meta["index"] == 1
        assert np.array_equal(state.tensors["module.net.w"], np.ones(4, dtype=np.float32))
        run.finish(weights_of(2.0, notes=["a note"]))
    folder = tmp_path / "new" / "run"
    assert read_weights(folder).tensors["a.weight"][0, 0] == 2.0
    assert (folder / "curves.png").stat().st_size > 1000
    assert (folder / "metrics.csv").read_text() == "stage,step,loss\ntrain,1,0.5\n"
    assert "a note" in (folder / "log.txt").read_text()
    assert Run(folder).cohort()["parts"] == PARTS["parts"]
    assert not [path for path in folder.iterdir() if path.name.startswith(".weakseg")]


def test_a_run_is_not_overwritten_and_another_one_not_resumed(tmp_path):
    begun(tmp_path / "run").close()
    with pytest.raises(DataError, match="--resume"):
        begun(tmp_path / "run")
    run = Run(tmp_path / "run")
    with pytest.raises(RecipeError, match="seed"):
        run.begin(new_recipe("simple_propagation", seed=5), "simple_propagation", PARTS, resume=True)
    with pytest.raises(RecipeError, match="simple_propagation"):
        run.begin(new_recipe("simple_propagation"), "another", PARTS, resume=True)
    with pytest.raises(DataError, match="other cases"):
        run.begin(new_recipe("simple_propagation"), "simple_propagation", {"parts": {}}, resume=True)
    run.begin(new_recipe("simple_propagation", max_seconds=999), "simple_propagation", PARTS, resume=True)
    run.close()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "photos.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        begun(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        begun(tmp_path / "file")
    with pytest.raises(DataError, match="cannot be made"):
        begun(tmp_path / "file" / "run")


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_found_at_the_start(tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    with pytest.raises(DataError, match="cannot be written"):
        begun(tmp_path / "run")


def test_a_full_disk_is_found_at_the_start(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(runs.shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    with pytest.raises(DataError, match="10 MB free"):
        begun(tmp_path / "run")


def test_a_disk_too_small_for_the_checkpoints_is_found_with_the_first(tmp_path, monkeypatch):
    run = begun(tmp_path / "run")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(runs.shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(DataError, match="free some space and resume"):
        run.save(state_of(0))
    run.close()


@posix
def test_a_disk_that_fills_up_leaves_the_last_checkpoint(tmp_path):
    """A limit on file sizes stands for the full disk."""
    code = """
        import resource, signal, sys
        import numpy as np
        from test_runs import begun, state_of
        from napari_weakseg.errors import DataError
        from napari_weakseg.method import TrainingState
        run = begun(sys.argv[1])
        run.save(state_of(1))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        big = TrainingState(state_of(2).weights, {"module.net.w": np.zeros(100_000)}, state_of(2).meta)
        try:
            run.save(big)
        except DataError as error:
            print(error)
    """
    done = python(code, tmp_path / "run")
    assert "disk is full" in done.stdout, done.stderr
    assert Run(tmp_path / "run").latest().meta["index"] == 1


def test_two_processes_do_not_train_into_one_run(tmp_path):
    first = begun(tmp_path / "run")
    code = "import sys; from napari_weakseg.io.runs import Run; Run(sys.argv[1])._take_lock()"
    done = python(code, tmp_path / "run")
    assert "another process trains into run" in done.stderr
    with pytest.raises(DataError, match="another process"):
        Run(tmp_path / "run").begin(new_recipe("simple_propagation"), "simple_propagation", PARTS, resume=True)
    first.close()
    assert python(code, tmp_path / "run").returncode == 0


def test_weights_say_that_their_training_was_not_finished(tmp_path):
    with begun(tmp_path / "run") as run:
        state = state_of(0)
        run.save(TrainingState(state.weights, state.tensors, {**state.meta, "total": 9}))
        with pytest.raises(DataError, match="learnt nothing yet"):
            check_trained(read_weights(tmp_path / "run"))
        run.save(TrainingState(state.weights, state.tensors, {**state.meta, "index": 4, "total": 9}))
        half = read_weights(tmp_path / "run" / "weights.safetensors")
        check_trained(half)
        assert caveats(half) == ("the training was stopped at step 4 of 9 of 'train'; resume it for better weights.",)
        run.finish(weights_of(steps=(9,)))
    done = read_weights(tmp_path / "run")
    check_trained(done)
    assert caveats(done) == ()
    with pytest.raises(DataError, match="learnt nothing yet"):
        check_trained(weights_of(steps=(0, 0)))
    check_trained(weights_of(steps=(0, 0), start_sha256="0"))  # it began with a network that is shipped


def test_a_run_that_would_be_refused_is_found_before_a_hash_is_known(tmp_path):
    begun(tmp_path / "run").close()
    run = Run(tmp_path / "run")
    method, recipe = run.begun()
    assert (method, recipe) == ("simple_propagation", new_recipe("simple_propagation"))
    with pytest.raises(DataError, match="--resume"):
        run.check(recipe, method, PARTS)
    with pytest.raises(DataError, match="other cases"):
        run.check(recipe, method, {"parts": {}}, resume=True)
    run.check(recipe, method, {"parts": {"training": [{"id": "a", "image": "?"}], "testing": []}}, resume=True)
    assert Run(tmp_path / "none").begun() is None


# -- two generations ----------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    run = begun(tmp_path / "run")
    for index in range(1, 4):
        run.save(state_of(index, float(index)))
    damage_byte(tmp_path / "run" / "state.safetensors")
    damage_byte(tmp_path / "run" / "weights.safetensors")
    assert run.latest().meta["index"] == 2
    assert run.weights().tensors["a.weight"][0, 0] == 2.0
    assert any("generation before" in note for note in run.notes)
    assert "generation before" in caveats(read_weights(tmp_path / "run"))[1]
    damage_byte(tmp_path / "run" / "state.previous.safetensors")
    with pytest.raises(DataError, match="damaged"):
        run.latest()
    run.close()


@pytest.mark.parametrize("writes", range(1, 24))
def test_whatever_write_is_the_last_one_a_whole_checkpoint_is_there(tmp_path, monkeypatch, writes):
    """Each change on disk in turn is made the last before the process is gone, twice in a row."""

    class Killed(BaseException):
        pass

    run = begun(tmp_path / "run")
    run.save(state_of(1, 1.0))
    real, left = os.replace, [writes]

    def replace(source, target):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        real(source, target)

    newest = 1
    for last in (writes, writes):
        left[0] = last
        monkeypatch.setattr(os, "replace", replace)
        try:
            for index in range(newest + 1, newest + 4):
                run.save(state_of(index, float(index)))
        except Killed:
            pass
        monkeypatch.setattr(os, "replace", real)
        state = Run(tmp_path / "run").latest()
        assert state.meta["index"] >= newest
        newest = state.meta["index"]
        assert state.tensors["module.net.w"][0] == newest
        assert 1 <= read_weights(tmp_path / "run").tensors["a.weight"][0, 0] <= newest  # written after the state
    run.close()


def test_figures_beyond_the_checkpoint_are_dropped_when_resumed(tmp_path):
    run = begun(tmp_path / "run")
    run.log(Step("train", 1, 9, {"loss": 0.5}))
    run.save(state_of(1))
    run.log(Step("train", 2, 9, {"loss": float("inf"), "dice": 0.25}))
    run._write_log()
    run.close()
    again = Run(tmp_path / "run")
    again.begin(new_recipe("simple_propagation"), "simple_propagation", PARTS, resume=True)
    assert again.metrics() == [{"stage": "train", "step": 1, "loss": 0.5}]
    again.close()


def python(code, *arguments):
    here = os.path.dirname(__file__)
    path = os.pathsep.join([here, *sys.path])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


LEARN = """
    import sys, time
    import torch
    from test_runs import PARTS
    from napari_weakseg.io.runs import Run
    from napari_weakseg.method import Weights
    from napari_weakseg.methods import new_recipe
    from napari_weakseg.training.loop import train_steps

    torch.manual_seed(1)
    net = torch.nn.Linear(4, 1)
    adam = torch.optim.Adam(net.parameters(), lr=0.02)

    def step(index):
        points = torch.randn(16, 4)
        loss = ((net(points)[:, 0] - points.sum(1)) ** 2).mean()
        adam.zero_grad(); loss.backward(); adam.step()
        return {"loss": float(loss.detach())}

    def weights():
        return Weights("simple_propagation", recipe, (), {k: v.numpy() for k, v in net.state_dict().items()}, {})

    recipe = new_recipe("simple_propagation")
    with Run(sys.argv[1], every_seconds=0) as run:
        run.begin(recipe, "simple_propagation", PARTS, resume=True)
        for each in train_steps(stage="train", total=24, step=step, modules={"net": net}, optimisers={"adam": adam},
                                weights_now=weights, checkpoints=run, seed=2):
            run.log(each)
            print(each.index, flush=True)
            time.sleep(float(sys.argv[2]))
        run.finish(weights())
"""


@posix
@pytest.mark.slow
def test_a_killed_run_resumes_to_the_losses_of_an_unbroken_one(tmp_path):
    """Kill -9 at many instants, until the run is through; metrics and weights are those of the run that nothing broke."""
    whole = python(LEARN, tmp_path / "whole", 0)
    assert whole.returncode == 0, whole.stderr
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    rng = np.random.default_rng(0)
    kills = 0
    for _ in range(40):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(LEARN), str(tmp_path / "broken"), "0"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        for _ in range(int(rng.integers(3, 9))):
            process.stdout.readline()
        time.sleep(float(rng.uniform(0, 0.02)))
        process.send_signal(signal.SIGKILL)
        process.stdout.read()
        process.stdout.close()
        if process.wait() == 0:
            break
        kills += 1
    else:
        pytest.fail("the run never came to its end")
    assert kills >= 2
    assert (tmp_path / "broken" / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()
    first, second = read_weights(tmp_path / "whole"), read_weights(tmp_path / "broken")
    assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
