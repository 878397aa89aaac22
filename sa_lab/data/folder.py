"""The reader's own images: ``<root>/{visible,infrared}/<identity>/`` and whatever folders are in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sa_lab.data.files import (
    NO_FILE,
    SUFFIXES,
    Found,
    chosen_by_name,
    images_below,
    images_in,
    leads_nowhere,
    listing_of,
    name_of,
    person_of,
    refuse,
)  # fmt: skip
from sa_lab.schema import DataError, Listing, Modality

CAMERA_PREFIX = re.compile(r"([1-9][0-9]?)_.")
"""A camera prefix: a number 1..99 without leading zero, an underscore, and more: ``3_a.jpg`` is from camera 3."""


def camera_of(name: str, modality: Modality) -> int:
    """Camera of a file from its name; without a prefix 1 for visible and 2 for infrared.

    Example:
        >>> camera_of("3_a.jpg", Modality.VISIBLE), camera_of("0003_a.jpg", Modality.INFRARED)
        (3, 2)
    """
    prefix = CAMERA_PREFIX.match(name)
    return int(prefix.group(1)) if prefix else modality + 1


def listing(root: Path | str, test_fraction: float = 1 / 3, seed: int = 0) -> Listing:
    """Find the images of every identity in both modalities.

    An identity is a folder name, any text, the same under ``visible`` and ``infrared``; its person id follows from the
    name alone (`sa_lab.data.files.person_of`), and the paths keep the names. A file name may start with its camera's
    number, see `CAMERA_PREFIX`. Hidden files are passed over, and so are files with other suffixes and links that lead
    nowhere, which the listing names; the suffix may be in capitals.

    Args:
        root: folder that holds ``visible`` and ``infrared``.
        test_fraction: share of the identities, 0..1, that are test identities.
        seed: decides which, by their names alone: nobody changes sides when others come, go or are renamed.

    Raises:
        DataError: a folder is missing, images lie outside identity folders, an identity lacks one modality or has no
            image in a folder; all faults are listed at once.
        ValueError: ``test_fraction`` out of range.
    """
    root = Path(root)
    passed_over: list[str] = []
    found, faults = _find(root, passed_over)
    names = sorted(set().union(*found.values()))
    for name in names:
        for modality in Modality:
            folder = root / modality.name.lower() / name
            if name not in found[modality]:
                faults.append(f"{folder}: no such folder; every identity needs visible and infrared images")
            elif not found[modality][name]:
                faults.append(f"{folder}: no image; expected at least one file *{', *'.join(SUFFIXES)}")
                faults += [line for line in passed_over if line.startswith(f"{folder}{os.sep}") and "link" in line]
    if not names:
        faults.append(f"no identity; expected folders {root}/visible/<identity> and {root}/infrared/<identity>")
    of_id: dict[int, str] = {}
    for name in names:
        if (other := of_id.setdefault(person_of(name), name)) != name:
            faults.append(f"{root}: the identities {other!r} and {name!r} have the same number; rename one of them")
    refuse(root, faults)
    if not 0 <= test_fraction <= 1:
        raise ValueError(f"test_fraction is {test_fraction}, expected a share between 0 and 1")
    is_test = chosen_by_name(names, test_fraction, seed, f"identities in {root}")
    files = [
        Found(path, person_of(name), camera_of(path.name, modality), modality, not is_test[place])
        for place, name in enumerate(names)
        for modality in Modality
        for path in found[modality][name]
    ]
    return listing_of("folder", root, files, passed_over=tuple(passed_over))


def _find(root: Path, passed_over: list[str]) -> tuple[dict[Modality, dict[str, list[Path]]], list[str]]:
    """Image files by modality and identity, and what is wrong with the layout."""
    found: dict[Modality, dict[str, list[Path]]] = {}
    faults: list[str] = []
    for modality in Modality:
        folder = root / modality.name.lower()
        if not folder.is_dir():
            if root.is_file():
                raise DataError(f"{root} is a file, expected a folder; for a table, the data set is manifest")
            missing = folder if root.is_dir() else root
            raise DataError(f"{missing}: no such folder; expected the folders visible and infrared in {root}")
        passed_over += [f"{path}: {NO_FILE}" for path in folder.iterdir() if leads_nowhere(path)]
        people = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        found[modality] = {}
        for person in people:  # a name may be there twice, composed and decomposed: one person
            found[modality].setdefault(name_of(person.name), []).extend(images_below(person, passed_over))
        loose = images_in(folder)
        if loose:
            more = f" and {len(loose) - 1} more" if len(loose) > 1 else ""
            faults.append(f"{loose[0]}{more}: expected in a folder {folder}/<identity>")
    return found, faults
