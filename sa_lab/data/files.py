"""What the sources share around files: finding, opening, stamping, listing, refusing, writing a folder or nothing."""

from __future__ import annotations

import errno
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from jaxtyping import Bool, Int
from PIL import Image, ImageOps

from sa_lab.disk import hexdigest, reason_of, replace, temporary_folder
from sa_lab.schema import NAMED, DataError, LeakageError, Listing, Modality

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
"""Formats in which a file is opened, whatever its suffix; others may start programs."""
MAX_PIXELS = 64_000_000
"""Most pixels of an image; if its header says more, it is not decoded."""
MARKER = "generated.json"
"""A file of this name at the root of a data set says that it was drawn, and from what."""


NO_FILE = "a pipe, a device or a link that leads nowhere"
"""What may have a name and hold nothing."""


class Found(NamedTuple):
    """An image file and whose it is; see `sa_lab.schema.Listing`."""

    path: Path
    person: int
    camera: int
    modality: Modality
    is_train: bool


def images_below(folder: Path, passed_over: list[str]) -> list[Path]:
    """The image files of a folder and its subfolders, sorted by path; hidden files are skipped.

    Args:
        folder: where they are.
        passed_over: gets a line for each file with another suffix, and for what is named like an image but is no file.
    """
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(place) / name for name in names if not name.startswith(".")):
            if leads_nowhere(path):
                passed_over.append(f"{path}: {NO_FILE}")
            elif path.suffix.lower() not in SUFFIXES:
                passed_over.append(f"{path}: no suffix of an image")
            elif not path.is_file():
                passed_over.append(f"{path}: {NO_FILE}")
            else:
                found.append(path)
    return sorted(found, key=lambda path: [name_of(part) for part in path.relative_to(folder).parts])


def leads_nowhere(path: Path) -> bool:
    """Whether it is a link to what is not there."""
    return path.is_symlink() and not path.exists()


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by `name_of`, whatever the case of their suffix; hidden files are skipped.

    Raises:
        DataError: something is named like an image but is not a file.
    """
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if odd := [str(path) for path in files if not path.is_file() and not path.is_dir()]:
        raise DataError(f"{', '.join(shortened(odd))}: {NO_FILE}; expected image files")
    return sorted((path for path in files if path.is_file()), key=lambda path: name_of(path.name))


def name_of(text: str) -> str:
    """A name from a disk as UTF-8, whatever the locale, in one spelling (NFC), however the disk composes its letters.

    Raises:
        DataError: the name is no UTF-8.
    """
    try:
        return unicodedata.normalize("NFC", os.fsencode(text).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{text!a}: the name is no UTF-8; expected one that is, so rename it") from error
    except UnicodeEncodeError:  # it comes from a list, and this locale could not name such a file
        return unicodedata.normalize("NFC", text)


def person_of(name: str) -> int:
    """The person id of a named identity: it stays the same when others come, go or are renamed.

    A name of at most nine digits is its number; any other one gives a number of ten to twelve digits, by a hash.

    Example:
        >>> person_of("0042"), person_of("Ada") == person_of("Eve")
        (42, False)
    """
    if name.isascii() and name.isdigit() and len(name) <= 9:
        return int(name)
    return NAMED + xxhash.xxh3_64_intdigest(name_of(name).encode()) % (10**12 - NAMED)


def existing(root: Path | str) -> Path:
    """``root`` as a path.

    Raises:
        DataError: there is no such folder.
    """
    if not Path(root).is_dir():
        raise DataError(f"{root} cannot be used: no such folder; expected the root of a data set")
    return Path(root)


def refuse(root: Path, faults: Sequence[str], leaks: Sequence[str] = ()) -> None:
    """Do nothing if there is neither fault nor leak.

    Raises:
        DataError: what is wrong with the data set in ``root``, all at once.
        LeakageError: the same, if some of it is that training and test share identities.
    """
    if faults or leaks:
        kind = LeakageError if leaks else DataError
        raise kind(listed(f"{root} cannot be used", [*faults, *leaks]))


def listed(what: str, faults: Sequence[str]) -> str:
    """What is wrong, in one line, however many faults there are; those of one kind are shortened."""
    return f"{what}: {'; '.join(shortened(faults))}"


def shortened(faults: Sequence[str]) -> list[str]:
    """The first three of each kind, and how many there are besides; what differs in names and numbers is one kind."""
    kinds: dict[str, list[str]] = {}
    for fault in dict.fromkeys(faults):
        kinds.setdefault(re.sub(r"'[^']*'|\[[^]]*]|[^\s:]*[/#.][^\s:]*|\d+", "", fault), []).append(fault)
    shown = []
    for same in kinds.values():
        more = [f"and {len(same) - 3} more of this kind"] if len(same) > 3 else []
        shown += [*same[:3], *more]
    return shown


def listing_of(
    name: str,
    root: Path,
    found: Sequence[Found],
    split: int | None = None,
    gallery_order: Int[np.ndarray, "N T"] | None = None,
    **more: Any,
) -> Listing:
    """The listing of image files under ``root``, in their order; ``-generated`` is added to the name of a drawn set.
    ``more``: further columns of the listing."""
    paths, persons, cameras, modality, is_train = zip(*found, strict=True)
    reader = Reader(paths)
    person_ids, camera_ids, codes = (np.array(column, dtype=np.int64) for column in (persons, cameras, modality))
    return Listing(
        f"{name}-generated" if (root / MARKER).is_file() else name,
        tuple(name_of(path.relative_to(root).as_posix()) for path in paths),
        person_ids, camera_ids, codes, np.array(is_train, dtype=bool),
        tuple(stamp(path) for path in paths), reader, split=split, gallery_order=gallery_order,
        content=reader.content, **more,
    )  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """Image i is a whole file."""

    files: tuple[Path, ...]

    def __call__(self, index: int) -> Image.Image:
        return read_image(self.files[index])

    def content(self, index: int) -> str:
        return content_of(self.files[index], stamp(self.files[index]))


def stamp(path: Path) -> str:
    """A text that changes when the file is rewritten and differs for every other file, even of equal size and time."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_dev}-{status.st_ino}"


@lru_cache(maxsize=64)
def content_of(path: Path, file_stamp: str) -> str:
    """A hash (XXH3, 128 bits) of a file's bytes; ``file_stamp``: `stamp` of it, so that a rewritten file counts."""
    del file_stamp  # part of the key only; a file of many crops is read once
    with path.open("rb") as file:
        return hexdigest(file, sys.maxsize)


def read_image(path: Path) -> Image.Image:
    """Decode an image file, upright, as mode ``RGB`` or ``L``; what is transparent loses its transparency.

    Grey of more than eight bits is returned as mode ``F`` with its original values: which of them are black and white
    is decided for a whole data set, see `sa_lab.data.store`.

    Raises:
        DataError: no such file, no image in one of `FORMATS`, cut short, more than `MAX_PIXELS`, colour or transparency
            of more than eight bits, or numbers that are not finite.
    """
    with _opened(path) as image:
        deep = "16" in str(image.tile[0][3]) if image.tile else False  # type: ignore[attr-defined]
        if deep and not image.mode.startswith(("I", "F")):  # Pillow drops the lower byte
            raise DataError("more than eight bits a channel in colour, or with transparency; expected grey alone")
        upright = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):
            numbers = np.asarray(upright, dtype=np.float32)
            if not np.isfinite(numbers).all():
                raise DataError("holds NaN or infinity; expected finite numbers")
            return Image.fromarray(numbers)
        return upright.convert("L" if image.mode in ("L", "LA", "1") else "RGB")


def size_of(path: Path) -> tuple[int, int]:
    """Width and height, as stored, from the header of an image file; errors as in `read_image`."""
    with _opened(path) as image:
        return image.size


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A file as an image of at most `MAX_PIXELS`; whatever goes wrong in the block becomes a `DataError`."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if not 0 < width * height <= MAX_PIXELS:
                raise DataError(f"{width} x {height} pixels; expected 1..{MAX_PIXELS:,}")
            yield image
    except Exception as error:  # damaged files fail in many ways
        if isinstance(error, OSError) and error.errno in NOT_OF_THE_FILE:
            raise
        reason = reason_of(error, most=1000)
        for words, meaning in _REASONS:
            reason = meaning if words in reason else reason
        raise DataError(f"{path}: {reason.replace(str(path), 'the file')}") from error


NOT_OF_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)
"""Errors that come over any file: the machine has no more of something."""
_REASONS = (
    ("cannot identify image file", f"no image in one of the formats {', '.join(FORMATS)}"),
    ("decompression bomb", f"too many pixels; expected 1..{MAX_PIXELS:,}"),
)


def chosen_by_name(names: Sequence[str], fraction: float, seed: int, what: str) -> Bool[np.ndarray, " count"]:
    """Choose a seeded share of things by their names alone: whether one is chosen does not depend on the others.

    Args:
        names: one each.
        fraction: share to choose, 0..1, on average; strictly between 0 and 1, of two or more both parts get at least
            one.
        seed: decides which.
        what: what is divided, for the message.

    Raises:
        DataError: one thing cannot be divided in two.
    """
    drawn = np.array([xxhash.xxh3_64_intdigest(name_of(name).encode(), seed % 2**64) / 2**64 for name in names])
    chosen = np.asarray(drawn < fraction)
    if 0 < fraction < 1:
        if len(names) < 2:
            raise DataError(f"only {len(names)} {what} to divide with test_fraction={fraction}; expected at least two")
        if not chosen.any():
            chosen[drawn.argmin()] = True
        elif chosen.all():
            chosen[drawn.argmax()] = False
    return chosen


def divide(count: int, fraction: float, seed: int, name: str, what: str) -> Bool[np.ndarray, " count"]:
    """Choose a seeded part of ``count`` things.

    Args:
        count: how many there are.
        fraction: share to choose, 0..1; strictly between 0 and 1, both parts get at least one.
        seed: decides which.
        name, what: the argument's name and what is divided, for the message.

    Returns:
        True where chosen; ``round(fraction * count)`` of them.

    Raises:
        ValueError: ``fraction`` is not in 0..1, or one thing cannot be divided in two.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"{name} is {fraction}, expected a share between 0 and 1")
    number = round(fraction * count)
    if 0 < fraction < 1:
        if count < 2:
            raise DataError(f"only {count} {what} to divide with {name}={fraction}; expected at least two")
        number = min(max(number, 1), count - 1)
    chosen = np.zeros(count, dtype=bool)
    chosen[np.random.default_rng(np.random.SeedSequence([seed, count])).permutation(count)[:number]] = True
    return chosen


@contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """A temporary folder beside ``root`` that takes its name once the block has succeeded.

    Raises:
        FileExistsError: ``root`` exists and is not an empty folder.
    """
    told = f"{root} exists already; expected a new or empty folder to write the data set to"
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(told)
    with temporary_folder(root) as temporary:
        inside = temporary / "data"
        inside.mkdir()
        yield inside
        try:
            replace(inside, root)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise FileExistsError(f"{told}: another process was faster") from error
