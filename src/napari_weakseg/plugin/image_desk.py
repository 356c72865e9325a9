"""What a panel that makes masks keeps of one image: the user's work with undo, its journal, what is saved of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import PromptError
from .edits import History, Journal, Recovered, keeps_unsaved_work, recoverable
from .export import Save
from .proposals import REFINED, Proposal
from .strokes import scribbles_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image
    from numpy.typing import NDArray

    from .companions import Companions
    from .edits import Edit
    from .session import Document


class ImageDesk(ABC):
    """One viewer, the chosen image, the user's work on it, and what is proposed.

    Parameters
    ----------
    viewer : napari viewer
        Where the layers are.
    """

    panel: ClassVar[str] = "extreme points"

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.history = History()
        self.layers: Companions | None = None
        self.proposals: tuple[Proposal, ...] = ()
        self.journal: Journal | None = None
        self.recovered: Recovered | None = None
        self.last_saved: NDArray[Any] | None = None
        self.writing = False
        self._others: dict[str, tuple[History, tuple[Proposal, ...]]] = {}

    @property
    def document(self) -> Document:
        """The marks as they are."""
        return self.history.present

    @abstractmethod
    def commit(self, edit: Edit) -> bool:
        """Draw and write down the document after an edit; returns whether there is something new to make a mask of."""

    @abstractmethod
    def standing(self) -> tuple[Proposal, ...]:
        """What accepting would write."""

    # -- the image -------------------------------------------------------------------------

    def put_away(self) -> None:
        """Keep what was done on the image for when it is chosen again."""
        if self.layers is not None:
            self._others[str(self.layers.image.unique_id)] = (self.history, self.proposals)
        self.layers, self.journal, self.recovered, self.last_saved = None, None, None, None
        self.history, self.proposals = History(), ()

    def take_out(self, image: Image) -> None:
        """Bring back what was done on an image before."""
        self.history, self.proposals = self._others.pop(str(image.unique_id), (History(), ()))

    def write(self, draw: Any) -> None:
        """Draw into layers without taking our own drawing for the user's."""
        before, self.writing = self.writing, True
        try:
            draw(self.document)
        finally:
            self.writing = before

    # -- saving ----------------------------------------------------------------------------

    def save(self, path: str | Path) -> Save:
        """What is to be written, as it is now; `Save.write` writes it in any thread, `saved` takes note of it.

        Raises
        ------
        WeaksegError
            There is no mask, or none that fits the image.
        """
        if self.layers is None:
            raise PromptError("there is no image to save a mask of; open one first.")
        history = History(self.history.present, list(self.history.past))
        at = None if self.journal is None else self.journal.size
        document, volume = self.document, self.layers.volume
        strokes = scribbles_of(document.strokes, document.objects, document.structures, volume.shape)
        return Save(self.layers.to_volume(), volume, history, Path(path), self.journal, at, strokes)

    def saved(self, save: Save) -> None:
        """A save has ended well: nothing has to be offered again, but for what was done meanwhile."""
        if self.layers is not None and self.layers.volume is save.image:
            self.last_saved = save.mask.array
        if save.journal is not None and save.journal.size == save.journal_size:
            save.journal.write_saved()

    # -- what survives a crash -------------------------------------------------------------

    def identify(self, sha256: str) -> None:
        """The image's hash is known: look for unsaved work on it, and keep a journal from here on where the user wants one."""
        if self.layers is None:
            return
        shape = self.layers.volume.shape
        untouched = not self.document.marks and not self.document.strokes
        self.recovered = recoverable(sha256, shape, panel=self.panel) if untouched else None
        self.journal = Journal(sha256, shape, panel=self.panel) if keeps_unsaved_work() else None
        if self.journal is not None and not untouched:
            self.journal.write_document(self.document)

    def restore(self) -> None:
        """Bring back unsaved work."""
        found, self.recovered = self.recovered, None
        if found is None or self.layers is None:
            return
        layers = self.layers
        self.commit(self.history.do("restore unsaved work", found.document))
        if found.mask is not None:
            mask = Proposal((), (0, 0, 0), found.mask.astype(np.uint8), REFINED)
            self.write(lambda document: layers.accept((mask,), (), document, overwrite=True))
            self.write_mask_down()
        found.path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Delete unsaved work of an earlier session."""
        if self.recovered is not None:
            self.recovered.path.unlink(missing_ok=True)
        self.recovered = None

    def write_mask_down(self) -> None:
        """Keep the mask as it is now in the journal."""
        voxels = None if self.layers is None else self.layers.mask_voxels()
        if self.journal is not None and voxels is not None:
            self.journal.write_mask(voxels)
