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
    assert rest[0].index == 5  # four steps were saved
    assert losses(rest) == losses(whole)[4:]
    assert losses(drain(Line().run(seed=4))[0]) != losses(whole)


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
