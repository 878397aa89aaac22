"""A protocol applied to a set of images: the queries, the gallery of each trial, and what is hidden from whom.

All functions give index arrays into the columns of one set of images (`sa_lab.schema.Embeddings` or `Listing`), which
holds test images only: an identity's presence decides which random draws happen.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from sa_lab.evaluation.protocols import Protocol
from sa_lab.schema import Modality, Role


def query_indices(
    protocol: Protocol,
    *,
    modality: Int[np.ndarray, " N"],
    camera_ids: Int[np.ndarray, " N"],
    roles: Int[np.ndarray, " N"] | None = None,
) -> Int[np.ndarray, " Q"]:
    """Where the queries stand in the columns, ascending; the same in every trial.

    Raises:
        ValueError: no image fits the protocol.
    """
    asks = _takes_part(protocol.query_modality, protocol.query_cameras, modality, camera_ids)
    queries = np.flatnonzero(asks if roles is None else asks & (roles != Role.GALLERY))
    if len(queries) == 0:
        raise ValueError(f"no query among {len(modality)} images, expected some for {protocol.description}")
    return queries


def gallery_indices(
    protocol: Protocol,
    *,
    modality: Int[np.ndarray, " N"],
    person_ids: Int[np.ndarray, " N"],
    camera_ids: Int[np.ndarray, " N"],
    paths: Sequence[str],
    gallery_order: Int[np.ndarray, "N T"] | None = None,
    roles: Int[np.ndarray, " N"] | None = None,
    trial: int = 0,
) -> Int[np.ndarray, " G"]:
    """Where the gallery of one trial stands in the columns, by identity, then camera, then draw (or path).

    The result depends on the set of images, never on the order of the columns: within identity and camera the paths
    are sorted first. With "agw", ``random.Random(trial)`` goes through the identities in ascending order and the
    cameras inside in ascending order, and draws once where there are images: with ``choice`` for one shot, as the AGW
    program does; with ``sample`` for several (without replacement; all images, shuffled, where there are fewer). The
    programs in the field draw several shots from an unseeded generator, so there the draw is ours alone. With
    "official", the images that ``gallery_order`` places before ``shots``, in its order.

    Args:
        trial: 0..num_trials-1; with "agw" it is the seed.
        gallery_order: see `sa_lab.schema.Listing`; for "official" alone.
        roles: see `sa_lab.schema.Listing`.

    Raises:
        ValueError: ``trial`` is out of range, no image fits the protocol, or ``gallery_order`` lacks an image.
    """
    if not 0 <= trial < protocol.num_trials:
        raise ValueError(f"trial is {trial}, expected 0..{protocol.num_trials - 1} for {protocol.name}")
    searched = _takes_part(protocol.gallery_modality, protocol.gallery_cameras, modality, camera_ids)
    candidates = np.flatnonzero(searched if roles is None else searched & (roles != Role.QUERY))
    if len(candidates) == 0:
        raise ValueError(f"no gallery image among {len(modality)} images, expected some for {protocol.description}")
    folders: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for index in sorted(candidates.tolist(), key=lambda i: paths[i]):
        folders[int(person_ids[index]), int(camera_ids[index])].append(index)
    place = None
    if protocol.sampling == "official":
        place = _official_place(protocol, gallery_order, trial)
    generator = random.Random(trial)
    chosen: list[int] = []
    for (person, camera), images in sorted(folders.items()):
        if protocol.shots is None:
            chosen += images
        elif place is not None:
            if sorted(place[images]) != list(range(len(images))):
                raise ValueError(
                    f"gallery_order places the images of identity {person}, camera {camera} at {sorted(place[images])} "
                    f"in trial {trial}, expected each of 0..{len(images) - 1} once"
                )
            chosen += sorted((i for i in images if place[i] < protocol.shots), key=lambda i: place[i])
        elif protocol.shots == 1:
            chosen.append(generator.choice(images))
        else:
            chosen += generator.sample(images, min(protocol.shots, len(images)))
    return np.array(chosen, dtype=np.int64)


def _official_place(protocol: Protocol, order: np.ndarray | None, trial: int) -> np.ndarray:
    """(N,) places of all images in the data set's own permutation."""
    if order is None or order.shape[1] < protocol.num_trials:
        held = "None" if order is None else f"of {order.shape[1]} trials"
        raise ValueError(
            f"gallery_order is {held}, expected {protocol.num_trials} trials for {protocol.name}; it comes from the "
            "permutation file of the data set, exp/rand_perm_cam.mat"
        )
    return np.asarray(order[:, trial])


def hidden_mask(
    protocol: Protocol,
    *,
    person_ids: Int[np.ndarray, " N"],
    camera_ids: Int[np.ndarray, " N"],
    query: Int[np.ndarray, " Q"],
    gallery: Int[np.ndarray, " G"],
) -> Bool[np.ndarray, "Q G"]:
    """True where a query may not see a gallery image.

    Args:
        query: what `query_indices` gave.
        gallery: what `gallery_indices` gave.
    """
    query_cameras, gallery_cameras = camera_ids[query, None], camera_ids[gallery]
    mask = np.zeros((len(query), len(gallery)), dtype=bool)
    if protocol.hiding == "same_identity_and_camera":
        mask = (person_ids[query, None] == person_ids[gallery]) & (query_cameras == gallery_cameras)
    for query_camera, gallery_camera in protocol.hidden_cameras:
        mask |= (query_cameras == query_camera) & (gallery_cameras == gallery_camera)
    return mask


def _takes_part(
    wanted: Modality, cameras: tuple[int, ...] | None, modality: np.ndarray, camera_ids: np.ndarray
) -> np.ndarray:
    mask: np.ndarray = modality == int(wanted)
    return mask if cameras is None else mask & np.isin(camera_ids, cameras)
