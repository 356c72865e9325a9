"""What stands in a ``cohort.json``, checked as far as that can be without opening an image."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from ..errors import DataError, WeaksegError
from ..prompts import ImageLabel, Structure
from .label_tables import class_index, labels_by_case
from .names import file_name, shown

MOST_BYTES = 50_000_000
"""Larger files are refused before they are parsed."""

PARTS = ("training", "validation", "testing")
STATES = ("unmarked", "marked", "segmented", "reviewed")
KEYS = (
    "name", "channels", "structures", "image_classes", "slice_axis", "scribble_codes", "folder", "prefer", "units", *PARTS,
    "unpaired_masks",
)  # fmt: skip
CASE_KEYS = ("id", "patient", "image", "image_label", "points", "scribble", "label", "state")


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
    scribble, label : Path or None
        Strokes, and the reference mask.
    state : str
        One of `STATES`; where the file does not say, ``"marked"`` if there are marks.
    """

    part: str
    id: str
    patient: str
    images: tuple[Path, ...]
    image_label: ImageLabel | None = None
    points: Path | Mapping[str, Any] | None = None
    scribble: Path | None = None
    label: Path | None = None
    state: str = "unmarked"


@dataclass(frozen=True)
class CohortFile:
    """The whole file. The fields are those of `Cohort` and of design; `codes` are the scribbles' (see `scribble_codes`)."""

    name: str
    channels: tuple[str, ...]
    structures: tuple[Structure, ...]
    image_classes: tuple[str, ...]
    slice_axis: int
    codes: tuple[int | None, int | None] | None
    prefer: str | None
    units: str | None
    entries: tuple[CaseEntry, ...]
    unpaired_masks: tuple[Path, ...]
    notes: tuple[str, ...]


def load_json(path: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """The object in a cohort file, and the SHA-256 of the file's bytes.

    Raises
    ------
    DataError
        Missing, too large, or not one JSON object.
    """
    name = shown(path)
    try:
        if os.path.isdir(path):
            raise DataError(f"{name} is a folder; make a cohort file of it with: weakseg cohort {name}")
        if os.path.getsize(path) > MOST_BYTES:
            raise DataError(f"{name} is larger than {MOST_BYTES // 1_000_000} MB and no cohort; choose another file.")
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        data = json.loads(content.decode("utf-8-sig"), parse_constant=_refuse, object_pairs_hook=_no_key_twice)
    except FileNotFoundError as error:
        raise DataError(f"{name} does not exist; check the name and the folder.") from error
    except OSError as error:
        raise DataError(f"{name} cannot be read; check its rights and the disk.") from error
    except _TwiceError as error:
        raise DataError(f"{name} has the key {str(error)[:40]!r} twice in one place; remove one.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{name} is no JSON (line {error.lineno}, column {error.colno}); correct it there.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is no JSON, or it is damaged; correct it or make it again.") from error
    if not isinstance(data, dict):
        raise DataError(f"{name} is JSON but no cohort; it holds one object with the keys channels and training.")
    return data, hashlib.sha256(content).hexdigest()


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


class _TwiceError(ValueError):
    """A key stands twice in one JSON object."""


def _refuse(text: str) -> Any:
    raise ValueError(text)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return found


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
        self.structures = self.read_structures(data.get("structures", []))
        self.slice_axis = data.get("slice_axis", 2)
        if self.slice_axis not in (0, 1, 2) or isinstance(self.slice_axis, bool):
            self.faults.append(f"slice_axis is {self.slice_axis!r}; give the array axis 0, 1 or 2.")
            self.slice_axis = 2
        codes = self.read_codes(data.get("scribble_codes"))
        entries: list[CaseEntry] = []
        for part in PARTS:
            for number, case in enumerate(self.items(data.get(part, []), part), start=1):
                entry = self.read_case(case, part, f"case {number} of {part}")
                if entry is not None:
                    entries.append(entry)
        if not entries and not self.faults:
            self.faults.append("there are no cases; list them under training, validation or testing.")
        self.across(entries, data.get("scribble_codes") is not None)
        masks = []
        for number, text in enumerate(self.items(data.get("unpaired_masks", []), "unpaired_masks"), start=1):
            with self.collecting(f"unpaired mask {number}"):
                masks.append(self.place(text))
        return CohortFile(
            self.text(data.get("name", "cohort"), "name"),
            self.channels,
            self.structures,
            self.classes,
            self.slice_axis,
            codes,
            self.choice(data.get("prefer"), "prefer", ("sform", "qform")),
            self.choice(data.get("units"), "units", ("mm", "m", "um")),
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

    def read_codes(self, value: Any) -> tuple[int | None, int | None] | None:
        """(background, unlabelled) as they stand in the strokes' files; None where the file does not say."""
        if value is None:
            return None
        keys = ("background", "unlabelled")
        if not isinstance(value, Mapping) or set(value) != set(keys):
            self.faults.append("scribble_codes needs exactly background and unlabelled; give null to one that is not used.")
            return None
        codes = [value[key] for key in keys]
        used = [code for code in codes if code is not None]
        if any(isinstance(code, bool) or not isinstance(code, int) for code in used) or len(set(used)) < len(used):
            self.faults.append("background and unlabelled of scribble_codes are two different whole numbers or null.")
            return None
        taken = [structure.name for structure in self.structures if structure.value in used]
        if taken:
            self.faults.append(f"scribble_codes uses the value of the structure {taken[0]!r}; a value means one thing.")
            return None
        return codes[0], codes[1]

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
        places: dict[str, Path | None] = {"points": None, "scribble": None, "label": None}
        for key in places:
            if data.get(key) is not None and not (key == "points" and isinstance(points, Mapping)):
                with self.collecting(name):
                    places[key] = self.place(data[key])
        label = None
        if data.get("image_label") is not None:
            with self.collecting(name):
                label = self.read_image_label(data["image_label"], name)
        state = self.choice(data.get("state"), f"state of {name}", STATES)
        if len(self.faults) > before and not images:
            return None
        marked = label is not None or any(data.get(key) is not None for key in ("points", "scribble"))
        patient = name if data.get("patient") is None else self.text(data["patient"], f"patient of {name}")
        return CaseEntry(
            part,
            name,
            patient,
            images,
            label,
            points if isinstance(points, Mapping) else places["points"],
            places["scribble"],
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

    def across(self, entries: Sequence[CaseEntry], codes_stated: bool) -> None:
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
        drawn = [entry.id for entry in entries if entry.scribble is not None]
        if drawn and not codes_stated:
            self.faults.append(
                f"there are scribbles ({drawn[0]} ...): state in scribble_codes which values are background and unlabelled "
                "(255 and 0 in files of this package)."
            )
        needs = next((entry.id for entry in entries if entry.points is not None or entry.scribble or entry.label), None)
        if needs is not None and not self.structures:
            self.faults.append(
                f"{needs} has points, scribbles or a mask, but structures is empty; name them with their values."
            )


def _is_absolute(text: str) -> bool:
    return os.path.isabs(text) or text.startswith(("/", "\\", "~")) or bool(PureWindowsPath(text).drive)
