"""Loose pictures: files and folders of one spectrum, whose identities are unknown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sa_lab.data.files import SUFFIXES, Reader, images_below, name_of, stamp
from sa_lab.schema import NOBODY, DataError, Listing, Modality


def listing(places: Sequence[Path | str], modality: Modality) -> Listing:
    """The pictures of some files and folders, in the order of the places and by path within a folder.

    A picture is named by its path below its folder, or by its file name; if that is not unique, by its whole path.

    Args:
        places: files, or folders with whatever folders are in them.
        modality: of all of them.

    Raises:
        DataError: a place is not there, or there is no picture.
    """
    passed_over: list[str] = []
    found: list[tuple[str, Path]] = []
    for place in map(Path, places):
        if place.is_dir():
            inside = images_below(place, passed_over)
            found += [(path.relative_to(place).as_posix(), path) for path in inside]
        elif place.is_file():
            found.append((place.name, place))
        else:
            raise DataError(f"{place}: no such file or folder; expected pictures, or folders with pictures")
    if not found:
        told = ", ".join(str(place) for place in places)
        raise DataError(f"{told}: no picture; expected files *{', *'.join(SUFFIXES)}")
    found = list({path.absolute(): (name, path) for name, path in found}.values())  # a picture that is named twice
    names = [name for name, _ in found]
    shown = [name if names.count(name) == 1 else path.absolute().as_posix() for name, path in found]
    files = tuple(path for _, path in found)
    reader, count = Reader(files), len(files)
    return Listing(
        "pictures", tuple(map(name_of, shown)), np.full(count, NOBODY), np.full(count, int(modality) + 1),
        np.full(count, int(modality)), np.zeros(count, dtype=bool), tuple(stamp(path) for path in files), reader,
        content=reader.content, passed_over=tuple(passed_over),
    )  # fmt: skip
