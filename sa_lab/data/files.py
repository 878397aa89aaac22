"""What the sources share around files: finding, opening, stamping, listing, refusing, writing a folder or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image, ImageOps

from sa_lab.schema import DataError, LeakageError, Listing, Modality

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")
MARKER = "generated.json"
"""A file of this name at the root of a data set says that it was drawn, and from what."""


class Found(NamedTuple):
    """An image file and whose it is; see `sa_lab.schema.Listing`."""

    path: Path
    person: int
    camera: int
    modality: Modality
    is_train: bool


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, sorted, whatever the case of their suffix; hidden files are none."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted(path for path in files if path.is_file())


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
        raise kind(f"{root} cannot be used:\n  " + "\n  ".join(dict.fromkeys([*faults, *leaks])))


def listing_of(
    name: str,
    root: Path,
    found: Sequence[Found],
    split: int | None = None,
    gallery_order: Int[np.ndarray, "N T"] | None = None,
) -> Listing:
    """The listing of image files under ``root``, in their order; ``-generated`` is added to the name of a drawn set."""
    paths, persons, cameras, modality, is_train = zip(*found, strict=True)
    person_ids, camera_ids, codes = (np.array(column, dtype=np.int64) for column in (persons, cameras, modality))
    return Listing(
        f"{name}-generated" if (root / MARKER).is_file() else name,
        tuple(path.relative_to(root).as_posix() for path in paths),
        person_ids, camera_ids, codes, np.array(is_train, dtype=bool),
        tuple(stamp(path) for path in paths), _Reader(paths), split=split, gallery_order=gallery_order,
    )  # fmt: skip


@dataclass(frozen=True)
class _Reader:
    files: tuple[Path, ...]

    def __call__(self, index: int) -> Image.Image:
        return read_image(self.files[index])


def stamp(path: Path) -> str:
    """``size:mtime_ns`` of a file: another text whenever the file was written anew."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"


def read_image(path: Path) -> Image.Image:
    """Decode an image file, upright, as mode ``RGB`` or ``L``.

    Raises:
        OSError: what PIL says of a file that is no image or is cut short.
        DataError: more than eight bits a channel, which has no agreed range of brightness.
    """
    with Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise DataError(f"{path}: mode {image.mode}; expected eight bits a channel, so scale it to 0..255 first")
        upright = ImageOps.exif_transpose(image)
        return upright.convert("L" if image.mode in ("L", "LA", "1") else "RGB")


def divide(count: int, fraction: float, seed: int, name: str, what: str) -> Bool[np.ndarray, " count"]:
    """Choose a seeded part of ``count`` things.

    Args:
        count: how many there are.
        fraction: share to choose, 0..1; strictly between 0 and 1, both parts get at least one.
        seed: decides which.
        name: the argument's name and ``what`` is divided, for the message.

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
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f"{root} exists already; expected a new or empty folder to write the data set to")
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}-"))
    try:
        inside = temporary / "data"  # made by mkdir, so that it has the usual permissions
        inside.mkdir()
        yield inside
        os.replace(inside, root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
