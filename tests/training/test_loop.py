"""The training loop: the same losses after a break, the last good weights after a NaN."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from napari_weakseg.method import Weights  # noqa: E402
from napari_weakseg.recipe import Recipe  # noqa: E402
from napari_weakseg.training.loop import restore_module, train_steps  # noqa: E402


class Memory:
    """Checkpoints in memory, due every second step."""

    def __init__(self):
        self.state, self.saves, self.asked = None, 0, 0

    def latest(self):
        return self.state

    def due(self):
        self.asked += 1
        return self.asked % 2 == 0

    def save(self, state):
        self.state = state
        self.saves += 1


class Line:
    """A network of a few numbers that learns a line from random points."""

    def __init__(self, rate=0.05, spoil=None):
        torch.manual_seed(7)
        self.net = torch.nn.Linear(3, 1)
        self.adam = torch.optim.Adam(self.net.parameters(), lr=rate)
        self.spoil = spoil

    def step(self, index):
        points = torch.randn(8, 3)
        loss = ((self.net(points)[:, 0] - points.sum(1)) ** 2).mean()
        if index == self.spoil:
            loss = loss * float("nan")
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return {"loss": float(loss.detach())}

    def weights(self):
        tensors = {name: value.numpy().copy() for name, value in self.net.state_dict().items()}
        return Weights("line", Recipe(), (), tensors)

    def run(self, stage="train", **changes):
        settings = {"stage": stage, "total": 9, "step": self.step, "weights_now": self.weights}
        return train_steps(**settings, modules={"net": self.net}, optimisers={"adam": self.adam}, **changes)


def drain(generator):
    steps = []
    while True:
        try:
            steps.append(next(generator))
        except StopIteration as end:
            return steps, end.value


def losses(steps):
    return [step.scores["loss"] for step in steps]


def test_a_broken_run_goes_on_with_the_losses_of_an_unbroken_one():
    whole, count = drain(Line().run(seed=3))
    assert count == 9
    memory = Memory()
    first = Line().run(seed=3, checkpoints=memory)
    for _ in range(5):
        next(first)
    first.close()
    second = Line()
    rest, count = drain(second.run(seed=3, checkpoints=memory))
    assert count == 9
    assert rest[0].index == 6  # closing it saved the fifth step, which was not due
    assert losses(rest) == losses(whole)[5:]
    assert losses(drain(Line().run(seed=4))[0]) != losses(whole)


def test_what_fails_inside_a_step_saves_nothing_half_done():
    memory, line = Memory(), Line()
    running = line.run(checkpoints=memory)
    next(running)
    line.adam.step = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        next(running)
    assert memory.state.meta["index"] == 0


class Timed:
    """Two stages, each of which has half of the time; a clock that steps move on."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("napari_weakseg.training.loop.time.monotonic", lambda: self.now)

    def run(self, memory, seconds, close_after=None):
        line, seen = Line(), []
        learn = line.step

        def step(index):
            self.now += 1
            return learn(index)

        line.step = step

        def both():
            for stage in ("train", "retrain"):
                yield from line.run(stage, checkpoints=memory, max_seconds=seconds / 2 - 0.5)

        running = both()
        for each in running:
            seen.append((each.stage, each.index, each.scores["loss"]))
            if len(seen) == close_after:
                running.close()
        return seen, line.net.weight.detach().clone()


def test_a_stage_that_ran_out_of_time_goes_on_where_there_is_more(monkeypatch):
    timed, memory = Timed(monkeypatch), Memory()
    short, _ = timed.run(memory, 8)
    assert [step[:2] for step in short] == [("train", n) for n in range(1, 5)] + [("retrain", n) for n in range(1, 5)]
    assert timed.run(memory, 8)[0] == []  # no more time than before: nothing to do
    whole, weight = timed.run(None, 100)
    more, again = timed.run(memory, 100)
    assert more == whole[4:]  # the first stage goes on, the second one begins anew
    assert torch.equal(again, weight)
    assert "cut" not in memory.state.meta
    assert not [name for name in memory.state.tensors if name.startswith("cut.")]


@pytest.mark.parametrize("stop", [2, 6])
def test_a_stop_after_a_stage_ran_out_of_time_loses_neither(monkeypatch, stop):
    timed, memory = Timed(monkeypatch), Memory()
    short, weight = timed.run(None, 8)
    first, _ = timed.run(memory, 8, close_after=stop)
    rest, again = timed.run(memory, 8)
    assert first + rest == short
    assert torch.equal(again, weight)
    assert timed.run(memory, 100)[0] == timed.run(None, 100)[0][4:]


def test_a_finished_stage_is_not_run_again_and_its_weights_are_back():
    memory, line = Memory(), Line()
    drain(line.run(checkpoints=memory))
    again = Line()
    assert drain(again.run(checkpoints=memory)) == ([], 9)
    assert torch.equal(again.net.weight, line.net.weight)
    steps, _ = drain(again.run("retrain", checkpoints=memory))
    assert len(steps) == 9
    assert drain(Line().run(checkpoints=memory)) == ([], 9)
    assert memory.state.meta["finished"] == {"train": 9, "retrain": 9}
    third = Line()
    restore_module(memory.state, "net", third.net)
    assert torch.equal(third.net.weight, again.net.weight)


def test_a_loss_that_is_not_finite_stops_with_the_last_good_weights():
    memory, line, notes = Memory(), Line(spoil=6), []
    before = line.net.weight.clone()
    steps, count = drain(line.run(checkpoints=memory, notes=notes))
    assert count == 0  # the only copy in memory is that of the start
    assert torch.equal(line.net.weight, before)
    assert "step 7" in notes[0]
    assert steps[-1].note == notes[0]
    assert all(np.isfinite(value).all() for value in memory.state.tensors.values())


def test_the_copy_to_go_back_to_is_renewed(monkeypatch):
    monkeypatch.setattr("napari_weakseg.training.loop.KEEP_EVERY", 2)
    whole = Line()
    drain(whole.run(stop_after=4))
    line = Line(spoil=5)
    _, count = drain(line.run())
    assert count == 4
    assert torch.equal(line.net.weight, whole.net.weight)


def test_time_and_recorded_counts_end_a_stage():
    assert drain(Line().run(max_seconds=-1))[1] == 0
    assert drain(Line().run(max_seconds=-1, stop_after=3))[1] == 3


def test_previews_notes_and_progress_go_with_the_steps():
    steps, _ = drain(Line().run(preview=lambda done: "mask" if done == 4 else None, note="CPU", share=(0.5, 1.0)))
    assert [step.preview for step in steps].index("mask") == 3
    assert [step.note for step in steps] == ["CPU"] + [""] * 8
    assert steps[-1].progress == 1.0
    assert 0.5 < steps[0].progress < 0.6
