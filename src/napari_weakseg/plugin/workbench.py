"""The work on one viewer's image without any widget: what each button of the panel does, with undo and journal.

It needs no display (napari's `ViewerModel` is enough), so that it is tested as plain code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..arrays.doubt import Place, doubtful_places
from ..arrays.extreme_points import direction_names
from ..errors import PromptError, WeaksegError
from .companions import Claim, Companions, other_channels
from .image_desk import ImageDesk
from .proposals import ACCEPTED, FIRST, REFINED, Proposal, owned, smallest_box, standing, superseded, without
from .session import (
    Document,
    Job,
    ObjectKey,
    Problem,
    Session,
    directions_of,
    marked,
    missing_of,
    open_objects,
    resolve,
)
from .strokes import new_strokes, painted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.components import ViewerModel
    from napari.layers import Image

    from ..recipe import Recipe
    from ..volume import FloatArray
    from .edits import Edit


class Workbench(ImageDesk):
    """One viewer, the chosen image, the extreme points and strokes on it, and what is proposed.

    Parameters
    ----------
    viewer : napari viewer
        Where the layers are.
    method : str
        Name in the register.
    recipe : Recipe
        Its settings at the start.
    """

    def __init__(self, viewer: ViewerModel, method: str, recipe: Recipe) -> None:
        super().__init__(viewer)
        self.session = Session(method=method, recipe=recipe)
        self.shows_doubt = False
        self._looked: tuple[Proposal, list[Place], int] | None = None

    # -- the image -------------------------------------------------------------------------

    def choose_image(self, image: Image | None) -> None:
        """Work on another image; what was done on the one before is kept for when it is chosen again."""
        self.put_away()
        self.session = replace(self.session, document=Document(), volume=None, channels=(), problem="", bases={})
        if image is None:
            return
        try:
            self.layers = Companions(self.viewer, image)
        except WeaksegError as error:
            self.session = replace(self.session, problem=str(error))
            return
        self.take_out(image)
        if not self.document.marks and not self.document.strokes:
            self.history.look(self.layers.kept_document())
        self._renew()
        self.write(self.layers.prepare)
        self.draw()
        points = self.layers.points(self.document)
        self.viewer.layers.selection.active = points
        points.mode = "add"

    def use_channels(self, use: bool) -> None:
        """Give the method the other images of this grid too, or the chosen one alone."""
        channels = other_channels(self.viewer, self.layers.image, self.layers.volume) if use and self.layers else ()
        self.session = replace(self.session, channels=channels)

    def set_recipe(self, recipe: Recipe) -> None:
        """Other settings for the next run."""
        self.session = replace(self.session, recipe=recipe)

    # -- the marks -------------------------------------------------------------------------

    def points_changed(self) -> bool:
        """Take over what the user did in the points layer: clicks, drags, deletions.

        Returns
        -------
        bool
            Whether an object now has all its points and another place than before.

        Raises
        ------
        PromptError
            A click outside the image; the points are as before.
        """
        if self.layers is None or self.writing or self.layers.find("points") is None:
            return False
        seen = self.layers.read_points()
        known = np.array([mark.voxel for mark in self.document.marks], dtype=np.float64).reshape(-1, 3)
        try:
            if len(seen) > len(known):
                title, after = "place a point", self.document
                for voxel in self._inside(seen[len(known) :]):
                    after = after.place(voxel, self.layers.volume.shape)
            elif len(seen) < len(known):
                title, after = "delete points", self.document.remove(_lost(known, seen))
            else:
                moved = np.flatnonzero(np.abs(seen - known).max(axis=1, initial=0) > 1e-6).tolist()
                title, after = "move a point", self.document
                for row, voxel in zip(moved, self._inside(seen[moved]), strict=True):
                    after = after.move(row, voxel)
        except PromptError:
            self.write(self.layers.show_points)
            raise
        if after == self.document:
            return False
        return self.commit(self.history.do(title, after))

    def strokes_changed(self) -> bool:
        """Take over what the user drew into the strokes' layer; returns whether there is something new to make a mask of."""
        if self.layers is None or self.writing:
            return False
        drawn, key = self.layers.read_strokes(), self.document.current
        if drawn is None:
            return False
        fresh = new_strokes(painted(self.document.strokes, self.layers.volume.shape), drawn, key)
        if not fresh:
            return False
        self._hold(key)
        self.commit(self.history.do("draw a stroke", self.document.draw(fresh), shown=self.proposals))
        return marked(self.session, key)

    def _hold(self, key: ObjectKey) -> None:
        """Keep the mask in view of an object as what its next strokes correct."""
        if key in self.session.bases or self.layers is None:
            return
        base = self._in_view(key)
        if base is not None and base.labels.any():
            self.session = replace(self.session, bases={**self.session.bases, key: base})

    def _in_view(self, key: ObjectKey) -> Proposal | None:
        """What is seen of an object: a proposal, or its part of the mask."""
        assert self.layers is not None
        shape = self.layers.volume.shape
        for proposal in self.standing():
            if key in proposal.objects:
                mine = owned(proposal, self.document, key, shape)
                labels = np.where(mine, np.uint8(key.structure), np.uint8(0))
                return Proposal((key,), proposal.start, labels, proposal.stage)
        mask = self.layers.mask_voxels()
        if mask is None or mask.shape != shape:
            return None
        inside = mask == key.structure
        claims = list(self._claims(key))
        if claims or sum(other.structure == key.structure for other in self.document.objects) > 1:
            mine = np.zeros(shape, dtype=bool)
            for claim in claims:
                mine[claim.proposal.window] |= owned(claim.proposal, claim.document, key, shape)
            inside &= mine
        start, labels = smallest_box(inside.astype(np.uint8) * np.uint8(key.structure))
        return Proposal((key,), start, labels, ACCEPTED)

    def _let_go(self, keys: Iterable[ObjectKey]) -> None:
        """The masks that strokes corrected are no longer what the next stroke corrects."""
        gone = set(keys)
        self.session = replace(self.session, bases={k: base for k, base in self.session.bases.items() if k not in gone})

    def _inside(self, voxels: FloatArray) -> FloatArray:
        assert self.layers is not None
        last = np.array(self.layers.volume.shape) - 1.0
        if len(voxels) and max((-voxels).max(), (voxels - last).max()) > 0.5 + 1e-6:
            raise PromptError("that click is outside the image; click on the outermost places of the object.")
        inside: FloatArray = np.clip(voxels, 0, last)
        return inside

    def act(self, title: str, after: Document) -> bool:
        """Carry out an action on the document; returns as `points_changed`."""
        return self.commit(self.history.do(title, after))

    def look(self, key: ObjectKey) -> None:
        """Make another object the current one."""
        self.history.look(self.document.choose(key))
        self._renew()
        self.draw()

    def undo(self) -> str:
        """Take the last action back; returns what it was, empty where there was none."""
        edit = self.history.undo()
        title = self._replay(edit)
        if edit is not None and edit.shown is not None:  # a stroke was taken back: what was seen before it is known
            self.proposals = edit.shown
            if not self.document.strokes_of(edit.before.current):
                self._let_go([edit.before.current])
            self.draw()
        return title

    def redo(self) -> str:
        """Do again what was undone."""
        edit = self.history.redo()
        if edit is not None and edit.shown is not None:
            self._hold(edit.after.current)
            self.drop(edit.after.current, edit.after)
        return self._replay(edit)

    def _replay(self, edit: Edit | None) -> str:
        if edit is None:
            return ""
        if edit.patch is not None and self.layers is not None:
            self.write(lambda document: self.layers.apply(edit.patch, document, only_unchanged=True))
            back = edit.after.finished < edit.before.finished
            self.proposals = edit.accepted if back else ()
        self.commit(edit)
        return edit.title

    def commit(self, edit: Edit) -> bool:
        """Draw and write down the document after an edit; returns whether an object can now have a mask."""
        touched = {
            key
            for key in edit.after.objects
            if len(edit.before.rows_of(key)) != len(edit.after.rows_of(key))
            or not np.array_equal(edit.before.points_of(key), edit.after.points_of(key))
        }
        if edit.patch is None:
            gone = touched | (set(edit.before.objects) - set(edit.after.objects))
            for key in gone:
                self.drop(key, edit.before)
            self._let_go(gone)
        self._renew()
        self.draw()
        if self.journal is not None:
            self.journal.write_document(self.document)
            if edit.patch is not None:
                self.write_mask_down()
        return edit.patch is None and any(marked(self.session, key) for key in touched)

    def drop(self, key: ObjectKey, document: Document) -> None:
        """Take an object's proposals away: its points are no longer those that they came from."""
        assert self.layers is not None
        shape = self.layers.volume.shape
        kept = (without(p, document, key, shape) if key in p.objects else p for p in self.proposals)
        self.proposals = tuple(p for p in kept if p is not None)

    def _renew(self) -> None:
        volume = None if self.layers is None else self.layers.volume
        self.session = replace(self.session, document=self.document, volume=volume)

    def draw(self) -> None:
        """Draw points, box and proposals from the state."""
        if self.layers is None:
            return
        self.write(self.layers.show_points)
        self.write(self.layers.show_box)
        self.write(self.layers.show_strokes)
        self.write(lambda document: self.layers.show_proposals(self.proposals, document))
        self.draw_doubt()

    def draw_doubt(self) -> None:
        """Draw the doubt where it is wanted."""
        if self.layers is not None and (self.shows_doubt or self.layers.doubt_layer() is not None):
            of = self.doubted()
            self.write(lambda document: self.layers.show_doubt(of, document, visible=self.shows_doubt))

    def doubted(self) -> Proposal | None:
        """The proposal whose doubt is meant: that of the current object, else the newest."""
        known = [proposal for proposal in self.standing() if proposal.probability is not None]
        return next((p for p in known if self.document.current in p.objects), known[-1] if known else None)

    def next_doubt(self) -> Place | None:
        """Go to the next of the planes in which a look helps most, and give it; None where there is no doubt."""
        proposal = self.doubted()
        if proposal is None or proposal.probability is None or self.layers is None:
            return None
        if self._looked is None or self._looked[0] is not proposal:
            spacing = self.layers.volume.spacing
            self._looked = (proposal, doubtful_places(proposal.probability, proposal.labels > 0, spacing=spacing), -1)
        _, places, at = self._looked
        if not places:
            return None
        at = (at + 1) % len(places)
        self._looked = (proposal, places, at)
        place = places[at]
        self.layers.jump(np.add(proposal.start, place.voxel).astype(np.float64), normal=place.axis)
        return place

    # -- runs and masks --------------------------------------------------------------------

    def job(self, *, first: bool) -> Job | tuple[Problem, ...]:
        """What would run now: the current object's first mask, or a fit on all objects that are not finished."""
        if not first:
            return resolve(self.session)
        key = self.document.current
        alone = replace(self.document, finished=frozenset(k for k in self.document.objects if k != key))
        return resolve(replace(self.session, document=alone), max_seconds=0.0)

    def propose(self, proposal: Proposal) -> None:
        """Show a mask that a run made; it replaces older ones of its objects and stage."""
        if self.layers is None:
            return
        if proposal.stage == REFINED:
            self._let_go(proposal.objects)  # from here on the refined mask is what a stroke corrects
        else:
            for key in proposal.objects:
                if key in self.session.bases:  # a corrected mask takes the place of the refined one
                    self._drop_refined(key)
        self.proposals = superseded(self.proposals, proposal, self.document, self.layers.volume.shape)
        self.draw_doubt()
        self.write(lambda document: self.layers.show_proposals(self.proposals, document))

    def _drop_refined(self, key: ObjectKey) -> None:
        assert self.layers is not None
        kept: list[Proposal | None] = []
        for old in self.proposals:
            refined = old.stage == REFINED and key in old.objects
            kept.append(without(old, self.document, key, self.layers.volume.shape) if refined else old)
        self.proposals = tuple(old for old in kept if old is not None)

    def standing(self) -> tuple[Proposal, ...]:
        """What accepting would write."""
        return () if self.layers is None else standing(self.proposals, self.document, self.layers.volume.shape)

    def discard(self) -> None:
        """Take the refined masks away, and where there are none the first masks; the points stay."""
        refined = any(proposal.stage == REFINED for proposal in self.proposals)
        self.proposals = tuple(p for p in self.proposals if refined and p.stage == FIRST)
        self.draw()

    def accept(self, *, overwrite: bool) -> str:
        """Write what is shown into the mask as one undoable step; returns a sentence."""
        proposals = self.standing()
        if self.layers is None or not proposals:
            return "there is no mask to accept yet; click six points first."
        keys = tuple(key for proposal in proposals for key in proposal.objects)
        claims = [claim for key in keys for claim in self._claims(key)]
        bases = ((key, self.session.bases[key]) for key in keys if key in self.session.bases)
        claims += [Claim(key, base, self.document) for key, base in bases if base.stage == ACCEPTED]
        before = self.proposals
        self.writing = True
        try:
            patch, blocked = self.layers.accept(proposals, claims, self.document, overwrite=overwrite)
        finally:
            self.writing = False
        self.proposals = ()
        self._let_go(keys)
        self.commit(self.history.do("accept a mask", self.document.finish(keys), patch, before))
        spared = f"; {blocked} voxels of other finished labels were left as they are" if blocked else ""
        return f"accepted{spared}." if (patch.after != 0).any() or not blocked else f"nothing was written{spared}."

    def _claims(self, key: ObjectKey) -> Iterable[Claim]:
        """What the object wrote when it was last accepted."""
        assert self.layers is not None
        for edit in reversed(self.history.past):
            if edit.patch is not None and key in edit.after.finished - edit.before.finished:
                for proposal in standing(edit.accepted, edit.before, self.layers.volume.shape):
                    if key in proposal.objects:
                        yield Claim(key, proposal, edit.before)
                return

    # -- what is said of it ----------------------------------------------------------------

    def missing(self) -> tuple[int, ...]:
        """Directions that the current object lacks."""
        return () if self.layers is None else missing_of(self.document, self.layers.volume)

    def jump(self, direction: int) -> None:
        """Go to a direction's point, or to a slice and plane in which it can be clicked."""
        if self.layers is None:
            return
        volume, held = self.layers.volume, directions_of(self.document, self.layers.volume)
        if direction in held:
            self.layers.jump(np.array(self.document.marks[held[direction]].voxel))
            return
        points = self.document.points_of(self.document.current)
        middle = (np.array(volume.shape) - 1) / 2 if len(points) == 0 else (points.min(axis=0) + points.max(axis=0)) / 2
        self.layers.jump(middle.round(), across=direction // 2)

    def names(self) -> tuple[str, ...]:
        """Words of the six directions."""
        return direction_names(self.layers.volume) if self.layers is not None else ()

    def open_objects(self) -> tuple[ObjectKey, ...]:
        """Complete objects that are not finished."""
        return open_objects(self.session)


def _lost(known: FloatArray, seen: FloatArray) -> set[int]:
    """Rows of `known` that are no longer in `seen`; the order of the others did not change."""
    lost, left = set(), 0
    for row, voxel in enumerate(known):
        if left < len(seen) and np.abs(seen[left] - voxel).max() <= 1e-6:
            left += 1
        else:
            lost.add(row)
    return lost
