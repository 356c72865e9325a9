"""What stands in a ``cohort.json``, checked as far as that can be without opening an image."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from ..errors import DataError, WeaksegError
from ..prompts import ImageLabel, Structure
from .label_tables import NO_FINDING, class_index, labels_by_case
from .names import file_name, shown
from .scribble_codes import FULL_MASK, ScribbleCodes

PARTS = ("training", "validation", "testing")
STATES = ("unmarked", "marked", "segmented", "reviewed")
KEYS = (
    "name", "channels", "structures", "image_classes", "slice_axis", "scribble_codes", "folder", "prefer", "units", *PARTS,
    "unpaired_masks",
)  # fmt: skip
CASE_KEYS = ("id", "patient", "image", "image_label", "points", "scribble", "scribble_codes", "marks", "label", "state")


@dataclass(frozen=True)
class CaseEntry:
    """One case, its paths made absolute.

    Parameters
    ----------
    part : str
        One of `PARTS`.
    id, patient : str
        As in `Case`.
    images : tuple of Path
        One per channel.
    image_label : ImageLabel or None
        Read from the file or from the table it names.
    points : Path, dict or None
        A points file, or the content of one.
    scribble : tuple of Path or None
        Stroke files: one, or one of each person who drew; the reference mask where that is to be learnt from in full.
    codes : tuple of ScribbleCodes or None
        Of each stroke file; None where the cohort file does not state them.
    label : Path or None
        The reference mask.
    state : str
        One of `STATES`; where the file does not say, ``"marked"`` if there are marks.
    """

    part: str
    id: str
    patient: str
    images: tuple[Path, ...]
    image_label: ImageLabel | None = None
    points: Path | Mapping[str, Any] | None = None
    scribble: tuple[Path, ...] | None = None
    codes: tuple[ScribbleCodes | None, ...] = ()
    label: Path | None = None
    state: str = "unmarked"


@dataclass(frozen=True)
class MaskEntry:
    """An unpaired mask, and whose it is; empty where the file does not say."""

    path: Path
    patient: str = ""


@dataclass(frozen=True)
class CohortFile:
    """The whole file. The fields are those of `Cohort`; the codes of strokes are their cases'."""

    name: str
    channels: tuple[str, ...]
    structures: tuple[Structure, ...]
    image_classes: tuple[str, ...]
    slice_axis: int
    prefer: str | None
    units: str | None
    entries: tuple[CaseEntry, ...]
    unpaired_masks: tuple[MaskEntry, ...]
    notes: tuple[str, ...]


def parse_cohort(data: Mapping[str, Any], path: str | os.PathLike[str]) -> tuple[CohortFile, tuple[str, ...]]:
    """What a cohort file says, and all that is wrong with it; what is wrong is left out of the first.

    Parameters
    ----------
    data : dict
        The object in the file.
    path : path
        Where the file lies: paths in it are relative to its folder.
    """
    parser = _Parser(Path(os.path.abspath(path)).parent)
    return parser.parse(data), tuple(parser.faults)


class _Parser:
    """Takes a cohort file apart and goes on after a fault."""

    def __init__(self, folder: Path) -> None:
        self.folder = self.outermost = folder
        self.faults: list[str] = []
        self.tables: dict[Path, dict[str, int | tuple[int, ...]] | None] = {}  # None: it cannot be read, which is said once

    @contextmanager
    def collecting(self, where: str = "") -> Iterator[None]:
        """Turn a refusal inside into a fault."""
        try:
            yield
        except WeaksegError as error:
            self.faults.append(f"{where}: {error}" if where else str(error))

    def parse(self, data: Mapping[str, Any]) -> CohortFile:
        self.unknown(data, KEYS, "the cohort")
        notes = self.set_outermost(data.get("folder"))
        self.channels = self.names(data.get("channels", ["image"]), "channels", least=1)
        self.classes = self.names(data.get("image_classes", []), "image_classes")
        self.indices = dict(enumerate(range(len(self.classes)))) | {name: place for place, name in enumerate(self.classes)}
        if len(self.classes) == 1:
            self.faults.append("image_classes names one class; name two at least, for example normal and lesion.")
        late = [name for name in self.classes[1:] if name.lower() in NO_FINDING]
        if late and self.classes[0].lower() not in NO_FINDING:
            self.faults.append(f"image_classes: the first class is the one without a finding; put {late[0]!r} first.")
        self.structures = self.read_structures(data.get("structures", []))
        self.slice_axis = data.get("slice_axis", 2)
        if self.slice_axis not in (0, 1, 2) or isinstance(self.slice_axis, bool):
            self.faults.append(f"slice_axis is {self.slice_axis!r}; give the array axis 0, 1 or 2.")
            self.slice_axis = 2
        self.codes = self.read_codes(data.get("scribble_codes"))
        entries: list[CaseEntry] = []
        for part in PARTS:
            for number, case in enumerate(self.items(data.get(part, []), part), start=1):
                entry = self.read_case(case, part, f"case {number} of {part}")
                if entry is not None:
                    entries.append(entry)
        if not entries and not self.faults:
            self.faults.append("there are no cases; list them under training, validation or testing.")
        masks = []
        for number, item in enumerate(self.items(data.get("unpaired_masks", []), "unpaired_masks"), start=1):
            with self.collecting(f"unpaired mask {number}"):
                masks.append(self.read_mask(item, entries))
        self.across(entries)
        self.check_unpaired(entries, masks)
        if any(None in entry.codes for entry in entries):
            notes += ("codes of strokes are not stated: our own are meant (0 not marked, 255 background), others are refused.",)
        return CohortFile(
            self.text(data.get("name", "cohort"), "name"),
            self.channels,
            self.structures,
            self.classes,
            self.slice_axis,
            self.choice(data.get("prefer"), "prefer", ("sform", "qform")),
            self.choice(data.get("units"), "units", ("mm", "m", "um", "unknown")),
            tuple(entries),
            tuple(masks),
            notes,
        )

    def unknown(self, data: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
        for key in sorted(set(data) - set(keys)):
            self.faults.append(f"{where} has the unknown key {key[:40]!r}; the keys are {', '.join(keys)}.")

    def items(self, value: Any, key: str) -> list[Any]:
        if isinstance(value, list):
            return value
        self.faults.append(f"{key} is no list; write it in brackets.")
        return []

    def text(self, value: Any, key: str) -> str:
        if isinstance(value, str) and value.strip():
            return value
        self.faults.append(f"{key} is no text; write it in quotes.")
        return key

    def choice(self, value: Any, key: str, choices: tuple[str, ...]) -> str | None:
        if value is None or value in choices:
            return None if value is None else str(value)
        self.faults.append(f"{key} is {value!r}; choose one of {', '.join(choices)}.")
        return None

    def names(self, value: Any, key: str, *, least: int = 0) -> tuple[str, ...]:
        names = [self.text(item, f"entry {number} of {key}") for number, item in enumerate(self.items(value, key), start=1)]
        if len(set(names)) < len(names):
            self.faults.append(f"{key} has a name twice; give each its own.")
        if len(names) < least:
            self.faults.append(f"{key} names nothing; give one name for each image of a case.")
        return tuple(dict.fromkeys(names))

    def read_structures(self, value: Any) -> tuple[Structure, ...]:
        found: list[Structure] = []
        for number, item in enumerate(self.items(value, "structures"), start=1):
            where = f"structure {number}"
            if not isinstance(item, Mapping) or not isinstance(item.get("name"), str) or not item["name"].strip():
                self.faults.append(f'{where} has no name; write {{"name": "lesion", "value": 1}}.')
                continue
            self.unknown(item, ("name", "value", "colour", "concept"), where)
            label, colour, concept = item.get("value", number), item.get("colour", ""), item.get("concept")
            if isinstance(label, bool) or not isinstance(label, int) or not isinstance(colour, str):
                self.faults.append(f'{where} needs a whole number as value and a colour such as "#E69F00", or none.')
                continue
            if concept is not None and not (isinstance(concept, list) and [type(text) for text in concept] == [str] * 3):
                self.faults.append(f"the concept of {where} is no list of scheme, code and meaning; give the three texts.")
                continue
            with self.collecting():
                found.append(Structure(item["name"], label, colour, None if concept is None else tuple(concept)))
        for what in ("name", "value"):
            if len({getattr(structure, what) for structure in found}) < len(found):
                self.faults.append(f"two structures have the same {what}; give each its own.")
                return ()
        return tuple(found)

    def read_codes(self, value: Any, where: str = "") -> ScribbleCodes | None:
        """What the values of strokes mean; None where the file does not say."""
        codes = None
        with self.collecting(where):
            codes = None if value is None else ScribbleCodes.from_json(value, self.structures)
        return codes

    # -- paths --------------------------------------------------------------------------------------------------------

    def set_outermost(self, value: Any) -> tuple[str, ...]:
        """How far out the paths may reach; a file says so in the open where that is beyond its own folder."""
        if value is None:
            return ()
        if not isinstance(value, str) or not value or _is_absolute(value):
            self.faults.append("folder is no relative path; write the way from this file to the folder of the images.")
            return ()
        self.outermost = Path(os.path.normpath(self.folder / value))
        if self.outermost.is_relative_to(self.folder):
            return ()
        return (f"the images lie outside the folder of the cohort file, in {shown(self.outermost)}.",)

    def place(self, text: Any) -> Path:
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            raise DataError(f"{text!r:.40} is no path; write a path relative to the cohort file, in quotes.")
        if _is_absolute(text):
            raise DataError(f"the path of {shown(text)} is absolute; write it relative to the cohort file.")
        path = os.path.normpath(os.path.join(self.folder, text))
        if not path.startswith(tuple(os.path.join(folder, "") for folder in (self.folder, self.outermost))):
            raise DataError(f"{shown(text)} lies outside the folder of the cohort file; state that folder as 'folder'.")
        return Path(path)

    # -- cases --------------------------------------------------------------------------------------------------------

    def read_case(self, data: Any, part: str, where: str) -> CaseEntry | None:
        if not isinstance(data, Mapping):
            self.faults.append(f'{where} is no object; write {{"id": ..., "image": ...}}.')
            return None
        name = data.get("id")
        if not isinstance(name, str) or file_name(name) != name:
            self.faults.append(f"{where} has no id that can name a file; use up to 80 letters, digits, - and _.")
            return None
        self.unknown(data, CASE_KEYS, name)
        before = len(self.faults)
        images, points = self.read_images(data.get("image"), name), data.get("points")
        places: dict[str, Path | None] = {"points": None, "label": None}
        for key in places:
            if data.get(key) is not None and not (key == "points" and isinstance(points, Mapping)):
                with self.collecting(name):
                    places[key] = self.place(data[key])
        strokes = self.read_strokes(data, places["label"], part, name)
        label = None
        if data.get("image_label") is not None:
            with self.collecting(name):
                label = self.read_image_label(data["image_label"], name)
        state = self.choice(data.get("state"), f"state of {name}", STATES)
        if len(self.faults) > before and not images:
            return None
        marked = label is not None or any(data.get(key) is not None for key in ("points", "scribble", "marks"))
        patient = name if data.get("patient") is None else self.text(data["patient"], f"patient of {name}")
        return CaseEntry(
            part,
            name,
            patient,
            images,
            label,
            points if isinstance(points, Mapping) else places["points"],
            tuple(path for path, _ in strokes) or None,
            tuple(codes for _, codes in strokes),
            places["label"],
            state or ("marked" if marked else "unmarked"),
        )

    def read_images(self, value: Any, name: str) -> tuple[Path, ...]:
        texts = value if isinstance(value, list) else [value]
        if value is None or len(texts) != len(self.channels):
            count = 0 if value is None else len(texts)
            self.faults.append(f"{name} has {count} images for {len(self.channels)} channels; list one for each.")
            return ()
        places = []
        for text in texts:
            with self.collecting(name):
                places.append(self.place(text))
        return tuple(places) if len(places) == len(texts) else ()

    def read_strokes(
        self, data: Mapping[str, Any], label: Path | None, part: str, name: str
    ) -> list[tuple[Path, ScribbleCodes | None]]:
        """Stroke files with their codes: the case's own, else the cohort's."""
        stated, scribble = data.get("scribble_codes"), data.get("scribble")
        if self.choice(data.get("marks"), f"marks of {name}", ("mask",)) is not None:
            if scribble is not None or data.get("label") is None:
                self.faults.append(f"marks of {name} is mask: it needs a label to learn from, and no scribble beside it.")
            elif part == "validation":  # weights that a mask has chosen are scored too well by masks
                self.faults.append(
                    f"{name} is for validation, where masks choose nothing; move it to training or give it strokes."
                )
            return [] if label is None else [(label, FULL_MASK)]
        texts = scribble if isinstance(scribble, list) else [] if scribble is None else [scribble]
        each = stated if isinstance(stated, list) else [stated] * len(texts)
        if scribble == [] or len(each) != len(texts) or (stated is not None and not texts):
            self.faults.append(
                f"{name} has {len(texts)} files of scribbles; give scribble_codes for all of them or one for each."
            )
            return []
        found: list[tuple[Path, ScribbleCodes | None]] = []
        for text, codes in zip(texts, each, strict=True):
            with self.collecting(name):
                found.append((self.place(text), self.read_codes(codes, name) or self.codes))
        return found

    def read_mask(self, item: Any, entries: Sequence[CaseEntry]) -> MaskEntry:
        """An unpaired mask: its path, or an object that says whose it is too; a case's own mask is of its patient."""
        data = item if isinstance(item, Mapping) else {"mask": item}
        self.unknown(data, ("mask", "patient"), "an unpaired mask")
        path = self.place(data.get("mask"))
        owner = next((entry.patient for entry in entries if entry.label == path), "")
        stated = data.get("patient")
        return MaskEntry(path, owner if stated is None else self.text(stated, "patient of an unpaired mask"))

    def read_image_label(self, value: Any, name: str) -> ImageLabel | None:
        if len(self.classes) < 2:
            raise DataError("an image-level label needs image_classes; name them, for example normal and lesion.")
        label: int | tuple[int, ...]
        if isinstance(value, str) and value not in self.classes and value.lower().endswith((".csv", ".tsv")):
            path = self.place(value)
            if path not in self.tables:
                self.tables[path] = None
                self.tables[path] = labels_by_case(path, self.classes)
            table = self.tables[path]
            if table is None:
                return None
            if name not in table and "" not in table:
                raise DataError(f"{shown(path)} has no row for this case; add it or leave image_label out.")
            label = table[name] if name in table else table[""]
        elif isinstance(value, list):
            label = tuple(
                self.indices[item]
                if type(item) in (str, int) and item in self.indices
                else class_index(item, self.classes, f"slice {place}")
                for place, item in enumerate(value)
            )
            if not label:
                raise DataError("image_label is an empty list; give one class per slice.")
        else:
            label = class_index(value, self.classes, "image_label")
        return ImageLabel(self.classes, label, self.slice_axis)

    def across(self, entries: Sequence[CaseEntry]) -> None:
        """What can only be seen over all cases."""
        seen: set[str] = set()
        homes: dict[str, str] = {}
        for entry in entries:
            if entry.id.casefold() in seen:  # two files of results could not be told apart on some systems
                self.faults.append(f"two cases have the id {entry.id}; give each its own.")
            seen.add(entry.id.casefold())
            home = homes.setdefault(entry.patient, entry.part)
            if home != entry.part:
                self.faults.append(f"patient {entry.patient} is in {home} and in {entry.part} ({entry.id}); choose one part.")
        needs = next((entry.id for entry in entries if entry.points is not None or entry.scribble or entry.label), None)
        if needs is not None and not self.structures:
            self.faults.append(
                f"{needs} has points, scribbles or a mask, but structures is empty; name them with their values."
            )

    def check_unpaired(self, entries: Sequence[CaseEntry], masks: Sequence[MaskEntry]) -> None:
        """A mask is unpaired if no strokes of its patient are learnt from, and nobody is tested who gave one."""
        for mask in masks:
            for entry in entries:
                if mask.patient == entry.patient and (entry.part != "training" or entry.scribble is not None):
                    what = "has strokes" if entry.part == "training" else f"is in {entry.part}"
                    self.faults.append(
                        f"unpaired mask {shown(mask.path)} is of patient {mask.patient}, who {what} ({entry.id}); leave it out."
                    )
                    break


def _is_absolute(text: str) -> bool:
    return os.path.isabs(text) or text.startswith(("/", "\\", "~")) or bool(PureWindowsPath(text).drive)
