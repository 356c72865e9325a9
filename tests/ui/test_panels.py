"""What all panels do in the same way."""

from __future__ import annotations

from qtpy.QtCore import Qt

from napari_weakseg.plugin.panels.panel import Panel
from napari_weakseg.plugin.panels.parts import Column


class Listed(Panel):
    """A panel that writes down what was asked of it."""

    def __init__(self, viewer, word, pressed):
        super().__init__(viewer, Column())
        self.keys = {"Shift-N": lambda: pressed.append(word)}
        self.word, self.pressed = word, pressed

    def refresh(self):
        self.show_message(self._message)

    def stop(self):
        self.pressed.append(f"{self.word} stopped")


def test_a_key_of_two_panels_goes_back_to_the_one_that_is_still_seen(hands):
    pressed = []
    docks = [
        hands.viewer.window.add_dock_widget(Listed(hands.viewer, word, pressed), name=word) for word in ("first", "second")
    ]
    hands.qtbot.wait(100)

    def press():
        hands.qtbot.keyClick(hands.canvas, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
        hands.qtbot.wait(20)

    press()
    assert pressed == ["second"]
    hands.viewer.window.remove_dock_widget(docks[1])
    hands.qtbot.wait(100)
    assert pressed == ["second", "second stopped"]
    press()
    assert pressed[2:] == ["first"]
    hands.viewer.window.remove_dock_widget(docks[0])
    hands.qtbot.wait(100)
    press()
    assert pressed[3:] == ["first stopped"]


def test_the_sentence_of_the_moment_is_in_view_in_a_low_window(hands):
    panel = Listed(hands.viewer, "only", [])
    for _ in range(40):
        panel.view.add(Column())
    panel.view.end()
    hands.viewer.window.add_dock_widget(panel, name="only")
    panel.resize(320, 300)
    panel.say("the strokes were saved.")
    hands.qtbot.wait(100)
    message = panel.view.message
    assert message.text() == "The strokes were saved."
    assert not message.visibleRegion().isEmpty()
    assert message.mapTo(panel, message.rect().bottomLeft()).y() <= panel.height()
