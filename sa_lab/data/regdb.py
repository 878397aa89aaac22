"""RegDB: ``<root>/{Visible,Thermal}/{id}/*.bmp`` and ``<root>/idx/{train,test}_{visible,thermal}_{1..10}.txt``.

A line of a list is ``Visible/285/male_back_v_05528_285.bmp 0``: path and label, which counts from 0 in each list. The
ten splits divide the same images; a network that was trained on one must not be tested on another.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sa_lab.config import REGDB_SPLITS
from sa_lab.data.files import Found, existing, listing_of, refuse
from sa_lab.data.lists import leaks_of, read_pair
from sa_lab.schema import Listing, Modality

FOLDERS = {Modality.VISIBLE: "Visible", Modality.INFRARED: "Thermal"}
PUBLISHED: Mapping[str, int] = {
    "train identities": 206, "train visible images": 2060, "train infrared images": 2060,
    "test identities": 206, "test visible images": 2060, "test infrared images": 2060,
}  # fmt: skip
"""Of each split."""


def listing(root: Path | str, split: int = 1) -> Listing:
    """Find the images in the lists of one split, in the order of their paths, which is that of every split.

    Args:
        root: folder that holds ``Visible``, ``Thermal`` and ``idx``.
        split: which, 1..10.

    Returns:
        Person ids are the numbers of the folders, camera 1 visible, 2 infrared.

    Raises:
        DataError: a list is missing, a line is not of its form, its file is absent or listed twice, labels have gaps,
            differ within an identity or between the modalities, an identity lacks one; all faults are listed at once.
        LeakageError: the same, if an identity is in training and in test.
        ValueError: ``split`` out of range.
    """
    if not 1 <= split <= REGDB_SPLITS:
        raise ValueError(f"split is {split}, expected 1..{REGDB_SPLITS}")
    root = existing(root)
    found, faults, leaks = _find(root, split)
    refuse(root, faults, leaks)
    return listing_of("regdb", root, found, split=split)


def check(root: Path | str) -> None:
    """Check all ten splits.

    Raises:
        DataError, LeakageError: as `listing`, with the faults of all splits at once.
    """
    root = existing(root)
    faults: list[str] = []
    leaks: list[str] = []
    for split in range(1, REGDB_SPLITS + 1):
        _, more_faults, more_leaks = _find(root, split)
        faults += more_faults
        leaks += more_leaks
    refuse(root, faults, leaks)


def _find(root: Path, split: int) -> tuple[list[Found], list[str], list[str]]:
    """The images of a split by path, what is wrong with it, and the identities that leak."""
    faults: list[str] = []
    found = [
        Found(entry.path, entry.person, modality + 1, modality, part == "train")
        for part in ("train", "test")
        for modality, entries in read_pair(
            root, {m: (f"idx/{part}_{name.lower()}_{split}.txt", name) for m, name in FOLDERS.items()}, faults
        ).items()
        for entry in entries
    ]
    train, test = ([image.person for image in found if image.is_train == part] for part in (True, False))
    leaks = leaks_of(train, test, f"{root / 'idx'}, split {split}")
    return sorted(found, key=lambda image: image.path.as_posix()), faults, leaks
