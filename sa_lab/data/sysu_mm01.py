"""SYSU-MM01: ``<root>/cam{1..6}/{id:04d}/*.jpg`` and ``<root>/exp/{train_id,val_id,test_id}.txt``.

Visible cameras 1, 2 (indoors), 4, 5 (outdoors); near-infrared cameras 3 (indoors, the place of camera 2), 6 (outdoors).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int
from scipy.io import loadmat

from sa_lab.config import NUM_TRIALS
from sa_lab.data.files import Found, existing, listing_of, refuse
from sa_lab.data.lists import in_camera_folders, leaks_of, read_ids
from sa_lab.schema import Listing, Modality

CAMERAS = {number: Modality.INFRARED if number in (3, 6) else Modality.VISIBLE for number in range(1, 7)}
PUBLISHED: Mapping[str, int] = {
    "train identities": 395, "train visible images": 22258, "train infrared images": 11909,
    "test identities": 96, "test visible images": 6775, "test infrared images": 3803,
}  # fmt: skip


def listing(root: Path | str) -> Listing:
    """Find the images of the identities in the three lists.

    The training set is ``train_id`` and ``val_id`` together, as in the published results; identities that no list
    names are passed over. If ``exp/rand_perm_cam.mat`` is there, `sa_lab.schema.Listing.gallery_order` holds its
    permutations for the test images.

    Args:
        root: folder that holds ``cam1`` .. ``cam6`` and ``exp``.

    Raises:
        DataError: a list or a camera folder is missing, an entry is no number, an identity is in two lists, has no
            image or lacks one modality, a permutation does not fit the images; all faults are listed at once.
        LeakageError: the same, if an identity is in training and in test.
    """
    root = existing(root)
    faults: list[str] = []
    train, val, test = (read_ids(root / "exp" / f"{part}_id.txt", faults) for part in ("train", "val", "test"))
    if twice := sorted(set(train) & set(val)):
        faults.append(f"{root / 'exp'}: identities {twice} are in train_id.txt and in val_id.txt; expected one of them")
    people = dict.fromkeys(train + val, True) | dict.fromkeys(test, False)
    cameras = {f"cam{number}": (number, modality) for number, modality in CAMERAS.items()}
    found = in_camera_folders(root, cameras, people, faults)
    order = _gallery_order(root, found, test, faults)
    refuse(root, faults, leaks_of(train + val, test, str(root / "exp")))
    return listing_of("sysu", root, found, gallery_order=order)


def _gallery_order(
    root: Path, found: Sequence[Found], test: Sequence[int], faults: list[str]
) -> Int[np.ndarray, "N T"] | None:
    """The place of each test image in each trial's permutation, -1 elsewhere.

    ``rand_perm_cam`` is a cell array over cameras of cell arrays over identity numbers of (trials, images) matrices
    with numbers from 1, the positions in the sorted files of that identity and camera.
    """
    path = root / "exp" / "rand_perm_cam.mat"
    if not path.is_file():
        return None
    order = np.full((len(found), NUM_TRIALS), -1, dtype=np.int64)
    rows: dict[tuple[int, int], list[int]] = {}
    for row, image in enumerate(found):
        rows.setdefault((image.camera, image.person), []).append(row)
    try:
        cells = [cell.ravel() for cell in loadmat(path)["rand_perm_cam"].ravel()]
    except Exception as error:  # a damaged file fails in many ways
        faults.append(f"{path}: {error!r}; expected a MATLAB file with the cell array rand_perm_cam")
        return None
    if len(cells) != len(CAMERAS):
        faults.append(f"{path}: {len(cells)} cameras in rand_perm_cam; expected {len(CAMERAS)}")
    for camera, people in zip(CAMERAS, cells, strict=False):
        if beyond := sorted(number for number in set(test) if number > len(people)):
            faults.append(f"{path}: camera {camera} has {len(people)} identities; expected {beyond} too")
        if not (root / f"cam{camera}").is_dir():
            continue  # a fault of its own
        for person in sorted(number for number in set(test) if 1 <= number <= len(people)):
            numbers, images = np.atleast_2d(people[person - 1]), rows.get((camera, person), [])
            expected = np.arange(1, len(images) + 1)
            if numbers.size == 0 and not images:
                continue
            if numbers.shape == (NUM_TRIALS, len(images)) and (np.sort(numbers, axis=1) == expected).all():
                order[images] = np.argsort(numbers, axis=1).T
            else:
                faults.append(
                    f"{path}: camera {camera}, identity {person}: a {numbers.shape[0]} x {numbers.shape[1]} matrix for "
                    f"{len(images)} images; expected {NUM_TRIALS} permutations of 1..{len(images)}"
                )
    return order
