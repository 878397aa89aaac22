"""LLCM: low-light streets, RGB and near-infrared, nine places.

Training: ``<root>/idx/train_{vis,nir}.txt``, lines ``nir/0001/0001_c01_s185535_f7010_nir.jpg 0``: path and label.
Test: ``<root>/test_{vis,nir}/cam{k}/{id:04d}/*.jpg`` of the identities in ``<root>/idx/test_id.txt``. One number is one
place, seen by a visible camera 1..9 and by an infrared camera 1, 2, 4..9.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sa_lab.data.files import Found, existing, listing_of, refuse
from sa_lab.data.lists import in_camera_folders, leaks_of, read_ids, read_pair
from sa_lab.schema import Listing, Modality

FOLDERS = {Modality.VISIBLE: "vis", Modality.INFRARED: "nir"}
CAMERAS = {Modality.VISIBLE: (1, 2, 3, 4, 5, 6, 7, 8, 9), Modality.INFRARED: (1, 2, 4, 5, 6, 7, 8, 9)}
PUBLISHED: Mapping[str, int] = {
    "train identities": 713, "train visible images": 16946, "train infrared images": 13975,
    "test identities": 351, "test visible images": 8680, "test infrared images": 7166,
}  # fmt: skip
_CAMERA = re.compile(r"_c([0-9]+)_")


def listing(root: Path | str) -> Listing:
    """Find the training images in the lists and the test images in the camera folders.

    Args:
        root: folder that holds ``vis``, ``nir``, ``test_vis``, ``test_nir`` and ``idx``.

    Returns:
        Images by identity, modality, camera and path.

    Raises:
        DataError: a list or a camera folder is missing, a line or an entry is not of its form, a file is absent, listed
            twice or names no camera, labels have gaps, differ within an identity or between the modalities, an identity
            has no image or lacks one modality; all faults are listed at once.
        LeakageError: the same, if an identity is in training and in test.
    """
    root = existing(root)
    faults: list[str] = []
    pair = read_pair(root, {m: (f"idx/train_{name}.txt", name) for m, name in FOLDERS.items()}, faults)
    found: list[Found] = []
    for modality, entries in pair.items():
        for entry in entries:
            if camera := _CAMERA.search(entry.path.name):
                found.append(Found(entry.path, entry.person, int(camera[1]), modality, True))
            else:
                faults.append(f"{entry.path}: no camera in the file name; expected <identity>_c<camera>_...")
    train = {entry.person for entries in pair.values() for entry in entries}
    test = read_ids(root / "idx" / "test_id.txt", faults)
    folders = {f"test_{FOLDERS[m]}/cam{number}": (number, m) for m in Modality for number in CAMERAS[m]}
    found += in_camera_folders(root, folders, dict.fromkeys(test, False), faults)
    refuse(root, faults, leaks_of(train, test, str(root / "idx")))
    found.sort(key=lambda image: (image.person, image.modality, image.camera, image.path.as_posix()))
    return listing_of("llcm", root, found)
