"""The work of the scribbles panel without any widget: structures, strokes, masks, undo, what is accepted and saved.

It needs no display (napari's `ViewerModel` is enough), so that it is tested as plain code.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from ..arrays.doubt import doubtful_slices
from ..errors import PromptError, WeaksegError
from ..prompts import BACKGROUND_STROKE, Scribbles
from .companions import other_channels
from .edits import History
from .export import WriteStrokes
from .image_desk import ImageDesk
from .layers import KEY
from .others_masks import OthersMasks
from .proposals import FIRST, REFINED, Proposal, SliceDoubt
from .scribble_layers import ScribbleLayers
from .scribble_session import (
    Count,
    ScribbleJob,
    counts,
    drawing,
    new_document,
    replaced_strokes,
    resolve,
    slice_axis,
    structure_key,
)
from .session import Problem
from .slices import go_to_slice, slice_shown
from .strokes import new_strokes, painted

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from ..recipe import Recipe
    from ..volume import Volume
    from .edits import Edit
    from .session import Document

KEPT_MASKS = 20
"""Steps of undo that remember their masks; for older ones the first mask is made again."""


class ScribbleDesk(ImageDesk):
    """One viewer, the chosen image, the strokes on it, and the masks that come of them.

    Parameters
    ----------
    viewer : napari viewer
        Where the layers are.
    """

    panel: ClassVar[str] = "scribbles"

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(viewer)
        self.history = History(new_document())
        self.problem = ""
        self.others = OthersMasks()
        self.shows_maps = False
        self.channels: tuple[Volume, ...] = ()
        self._before: tuple[Proposal, ...] = ()  # what was in view before the refinement
        self._counted: tuple[Any, dict[int, Count]] | None = None
        self._looked: tuple[SliceDoubt | None, int] = (None, -1)  # whose doubt was walked through, and how far

    @property
    def own(self) -> ScribbleLayers | None:
        """The image's layers."""
        return cast("ScribbleLayers | None", self.layers)

    # -- the image -------------------------------------------------------------------------

    def choose_image(self, image: Image | None) -> None:
        """Work on another image; what was done on the one before is kept for when it is chosen again."""
        self.put_away()
        self.history, self.problem, self.channels = History(new_document()), "", ()
        self._looked, self._counted = (None, -1), None
        if image is None:
            return
        try:
            self.layers = ScribbleLayers(self.viewer, image)
        except WeaksegError as error:
            self.problem = str(error)
            return
        self.take_out(image)
        if not self.history.past and not self.document.strokes:
            self.history.look(self.layers.kept_document())
        self.write(self.layers.prepare)
        self.draw()
        self.brush(self.document.current.structure)

    def use_channels(self, use: bool) -> None:
        """Give the method the other images of this grid too, or the chosen one alone."""
        self.channels = other_channels(self.viewer, self.layers.image, self.layers.volume) if use and self.layers else ()

    # -- structures and the brush ----------------------------------------------------------

    def act(self, title: str, after: Document) -> bool:
        """Carry out an action on structures; returns whether masks went because their values are no longer there."""
        values = {structure.value for structure in self.document.structures}
        before = self.proposals
        if not values <= {structure.value for structure in after.structures}:
            self.proposals = ()
        self.commit(self.history.do(title, after, shown=before))
        return bool(before) and not self.proposals

    def look(self, after: Document) -> None:
        """Another structure is drawn: no action of its own."""
        self.history.look(after)

    def hide(self, value: int, hidden: bool) -> None:
        """Draw a structure, or do not: strokes and masks alike."""
        if self.own is not None:
            self.own.hidden = self.own.hidden | {value} if hidden else self.own.hidden - {value}
            self.draw()

    def hidden(self, value: int) -> bool:
        """Whether a structure is not drawn."""
        return self.own is not None and value in self.own.hidden

    def brush(self, code: int) -> None:
        """The mouse draws this structure, or the background, in whatever plane is in view."""
        self.look(drawing(self.document, code))
        if self.own is None:
            return
        layer = self._layer()
        layer.visible = True
        self.viewer.layers.selection.active = layer
        layer.selected_label = self.document.current.structure
        layer.mode = "paint"

    def _layer(self) -> Labels:
        assert self.own is not None
        made: list[Labels] = []
        own = self.own
        self.write(lambda document: made.append(own.strokes(document)))
        return made[0]

    def brush_code(self) -> int | None:
        """What the mouse draws now; None where it does something else."""
        layer = None if self.layers is None else self.layers.find("scribbles")
        drawn = (
            layer is not None and self.viewer.layers.selection.active == layer and layer.mode in ("paint", "fill", "polygon")
        )
        return int(layer.selected_label) if drawn and layer is not None else None

    # -- strokes ---------------------------------------------------------------------------

    def strokes_changed(self) -> bool:
        """Take over what the user drew; returns whether there was something new.

        Raises
        ------
        PromptError
            A value that is no structure's was drawn; the strokes are as before.
        """
        if self.own is None or self.writing or self.own.read_strokes() is None:
            return False
        drawn = self.own.read_strokes()
        assert drawn is not None
        fresh = new_strokes(painted(self.document.strokes, self.own.volume.shape), drawn, self.document.current)
        if not fresh:
            return False
        known = {structure.value for structure in self.document.structures} | {0, BACKGROUND_STROKE}
        unknown = [stroke.code for stroke in fresh if stroke.code not in known]
        if unknown:
            self.draw()
            raise PromptError(f"no structure has the value {unknown[0]}: choose one in the table, then draw.")
        fresh = tuple(stroke._replace(object=structure_key(stroke.code)) if stroke.code else stroke for stroke in fresh)
        rubbed = all(stroke.code == 0 for stroke in fresh)
        after = replace(self.document, strokes=(*self.document.strokes, *fresh))
        self.commit(self.history.do("rub out strokes" if rubbed else "draw a stroke", after, shown=self.proposals))
        return True

    def drawing(self) -> bool:
        """Whether something is drawn that was not taken over yet: the mouse is down."""
        drawn = None if self.own is None else self.own.read_strokes()
        if drawn is None or self.own is None:
            return False
        return not np.array_equal(drawn, painted(self.document.strokes, self.own.volume.shape))

    def counts(self) -> dict[int, Count]:
        """Marked voxels and slices per structure and for the background."""
        if self.own is None:
            return {}
        of, volume = (self.document.strokes, self.document.structures), self.own.volume
        if self._counted is None or self._counted[0] != of:
            codes = painted(self.document.strokes, volume.shape)
            self._counted = (of, counts(codes, self.document, slice_axis(volume)))
        return self._counted[1]

    def take_strokes(self, scribbles: Scribbles) -> None:
        """Strokes from elsewhere take the place of those that are there, as one action."""
        self.proposals, before = (), self.proposals
        self.commit(self.history.do("take strokes over", replaced_strokes(self.document, scribbles), shown=before))
        self.brush(self.document.current.structure)

    # -- runs and masks --------------------------------------------------------------------

    @property
    def masks(self) -> tuple[Volume, ...]:
        """The masks of other patients that fit the structures as they are."""
        return self.others.usable(self.document.structures)

    def job(self, method: str, recipe: Recipe, **changes: Any) -> ScribbleJob | Problem:
        """What would run now on what is drawn, or why nothing can; a stroke that is being drawn counts."""
        if self.own is None:
            return Problem(self.problem or "open an image and choose it above.")
        volumes = (self.own.volume, *self.channels)
        return resolve(self.document, volumes, method, recipe, codes=self.own.drawn(), masks=self.masks, **changes)

    def propose(self, proposal: Proposal) -> None:
        """Show a mask that a run made in place of the one of its stage; while it is made it keeps that one's notes."""
        before = next((old for old in self.proposals if old.stage == proposal.stage), None)
        if before is not None and not proposal.record:
            proposal = replace(proposal, notes=before.notes)
        self.proposals = (*(old for old in self.proposals if old.stage != proposal.stage), proposal)
        if proposal.stage == FIRST:
            self._before = self.proposals
        self.draw_proposals()

    def drop_refined(self) -> None:
        """Take the refined mask away: strokes came that it does not know."""
        self.proposals = tuple(old for old in self.proposals if old.stage == FIRST)
        self.draw_proposals()

    def show_nothing(self) -> None:
        """There are no strokes to make a mask of."""
        self.proposals = ()
        self.draw_proposals()

    def begin_refining(self) -> None:
        """What is in view now is what undoing the refinement shows."""
        self._before = self.proposals

    def finish_refining(self) -> None:
        """A refinement came to its end, or was stopped: its mask is a step that can be undone."""
        if self.in_view(REFINED) is not None and self.proposals != self._before:
            self.commit(self.history.do("refine", self.document, shown=self._before))
            self._before = self.proposals

    def in_view(self, stage: str | None = None) -> Proposal | None:
        """The mask that is shown: the refined one, else the first."""
        found = {proposal.stage: proposal for proposal in self.proposals}
        return found.get(stage) if stage is not None else found.get(REFINED, found.get(FIRST))

    def standing(self) -> tuple[Proposal, ...]:
        """What accepting would write."""
        shown = self.in_view()
        return () if shown is None else (shown,)

    def discard(self) -> None:
        """Take the refined mask away, and where there is none the first; strokes stay."""
        kept = tuple(p for p in self.proposals if p.stage == FIRST) if self.in_view(REFINED) is not None else ()
        before, self.proposals = self.proposals, kept
        self.commit(self.history.do("discard a mask", self.document, shown=before))

    def accept(self) -> str:
        """Write the unlocked structures of what is shown into the mask, as one step that can be undone; returns a sentence."""
        proposal = self.in_view()
        if self.own is None or proposal is None:
            return "there is no mask to accept yet; draw strokes first."
        if all(structure.value in self.document.locked for structure in self.document.structures):
            return "every structure is locked: unlock those whose mask is to be written."
        self.writing = True
        try:
            patch, left = self.own.accept_unlocked(self._with_strokes(proposal), self.document)
        finally:
            self.writing = False
        before, self.proposals = self.proposals, ()
        self.commit(self.history.do("accept a mask", self.document, patch, (_slim(proposal),), before))
        locked = sum(structure.value in self.document.locked for structure in self.document.structures)
        spared = f"; {left} voxels were left to other labels" if left else ""
        return f"accepted{f', {locked} locked' if locked else ''}{spared}."

    def _with_strokes(self, proposal: Proposal) -> Proposal:
        """The proposal with the strokes as they are now: what the user marked keeps its mark."""
        assert self.own is not None
        whole = np.zeros(self.own.volume.shape, dtype=np.uint8)
        whole[proposal.window] = proposal.labels
        codes = painted(self.document.strokes, whole.shape)
        marked = codes != 0
        whole[marked] = np.where(codes[marked] == BACKGROUND_STROKE, 0, codes[marked])
        return replace(proposal, start=(0, 0, 0), labels=whole, probability=None)

    # -- undo ------------------------------------------------------------------------------

    def undo(self) -> tuple[str, bool]:
        """Take the last action back.

        Returns
        -------
        str
            What it was, empty where there was none.
        bool
            Whether its strokes have no mask in memory, so that one is to be made.
        """
        before = self.document
        edit = self.history.undo()
        if edit is None:
            return "", False
        self.history.future[-1] = replace(self.history.future[-1], later=tuple(map(_slim, self.proposals)))
        return edit.title, self._replayed(edit, edit.shown, before)

    def redo(self) -> tuple[str, bool]:
        """Do again what was undone; returns as `undo`."""
        before = self.document
        edit = self.history.redo()
        return ("", False) if edit is None else (edit.title, self._replayed(edit, edit.later, before))

    def _replayed(self, edit: Edit, shown: tuple[Proposal, ...] | None, before: Document) -> bool:
        if edit.patch is not None and self.own is not None:
            own, patch = self.own, edit.patch
            self.write(lambda document: own.apply(patch, document, only_unchanged=True))
        self.history.look(drawing(self.document, before.current.structure))
        self.proposals = () if shown is None else shown
        self.commit(edit)
        return not self.proposals and bool(self.document.strokes) and edit.patch is None

    def commit(self, edit: Edit) -> bool:
        """Draw and write down the document after an edit."""
        self._forget_old_masks()
        self.draw()
        if self.journal is not None:
            self.journal.write_document(self.document)
            if edit.patch is not None:
                self.write_mask_down()
        return True

    def _forget_old_masks(self) -> None:
        """Masks of the whole volume, step by step, would fill the memory."""
        past = self.history.past
        if len(past) > KEPT_MASKS and past[-KEPT_MASKS - 1].shown:
            past[-KEPT_MASKS - 1] = replace(past[-KEPT_MASKS - 1], shown=None)
        if past and past[-1].shown:
            past[-1] = replace(past[-1], shown=tuple(_slim(proposal) for proposal in past[-1].shown))

    # -- what is seen ----------------------------------------------------------------------

    def draw(self) -> None:
        """Draw strokes and proposals from the state."""
        if self.own is None:
            return
        self.write(self.own.show_strokes)
        mask = self.own.find("mask")
        values = {structure.value for structure in self.document.structures}
        if mask is not None and {s.value for s in mask.metadata[KEY].get("structures", ())} <= values:
            self.write(self.own.mask)  # its colours
        self.draw_proposals()

    def draw_proposals(self) -> None:
        """Draw the masks that are proposed, and what the gates let through."""
        own = self.own
        if own is not None:
            self.write(lambda document: own.show_proposals(self.proposals, document))
            self.draw_maps()

    def draw_maps(self) -> None:
        """Draw the attention maps where they are wanted."""
        own, proposal = self.own, self.in_view()
        if own is not None:
            maps = {} if proposal is None else proposal.maps
            self.write(lambda document: own.show_maps(maps, document, visible=self.shows_maps))

    def slices(self) -> SliceDoubt | None:
        """How doubtful each slice of the mask in view is."""
        proposal = self.in_view()
        return None if proposal is None else proposal.slices

    def next_doubt(self) -> int | None:
        """Go to the next of the slices in which a look helps most, and give it; None where there is no doubt."""
        doubt = self.slices()
        if doubt is None or self.own is None:
            return None
        order = doubtful_slices(doubt.values)
        if not order:
            return None
        of, at = self._looked
        at = 0 if of is not doubt else (at + 1) % len(order)
        self._looked = (doubt, at)
        go_to_slice(self.own, doubt.axis, order[at])
        return order[at]

    def go_to(self, index: int) -> None:
        """Show a slice along the axis of the doubt."""
        doubt = self.slices()
        if doubt is not None and self.own is not None:
            go_to_slice(self.own, doubt.axis, index)

    def slice_shown(self) -> int | None:
        """The slice in view along the axis of the doubt; None where the view runs along it."""
        doubt = self.slices()
        return None if doubt is None or self.own is None else slice_shown(self.own, doubt.axis)

    # -- saving ----------------------------------------------------------------------------

    def save_strokes(self, path: str | Path) -> WriteStrokes:
        """The strokes alone, as they are now.

        Raises
        ------
        PromptError
            There are none.
        """
        if self.own is None or not self.document.strokes:
            raise PromptError("there are no strokes to save; draw some first.")
        codes = painted(self.document.strokes, self.own.volume.shape)
        return WriteStrokes(Scribbles(codes, self.document.structures), self.own.volume, Path(path))


def _slim(proposal: Proposal) -> Proposal:
    """The mask without what takes much memory."""
    return replace(proposal, probability=None, maps={})
