"""Evaluation protocols: one frozen value says what is asked, what is searched and what counts.

A direction is part of the value, so a "visible-to-infrared" number cannot come out of infrared queries. The functions
give index arrays into the columns of one set of images (`sa_lab.schema.Embeddings` or `Listing`), which holds test
images only: an identity's presence decides which random draws happen.

Sources: SYSU-MM01: Wu et al., ICCV 2017. RegDB: Nguyen et al., Sensors 2017. LLCM: Zhang and Wang, CVPR 2023. The
gallery sampling "agw" is the one of the program to Ye et al., TPAMI 2021 (AGW); "official" follows the permutation
file that comes with SYSU-MM01 and gives other galleries, so a number has to name its sampling.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Int

from sa_lab.config import NUM_TRIALS, REGDB_SPLITS
from sa_lab.schema import Modality

Sampling = Literal["all", "agw", "official"]
HidingRule = Literal["nothing", "camera_pairs", "same_identity_and_camera"]


@dataclass(frozen=True)
class Protocol:
    """Everything that fixes a retrieval number except the descriptors.

    Attributes:
        name: what reports call it, and its key in `PROTOCOLS`.
        query_modality, gallery_modality: the direction of the search; they differ.
        query_cameras, gallery_cameras: the cameras that take part; None for all.
        sampling: how the gallery is drawn: "all" takes every image; "agw" draws ``shots`` images per identity and
            camera from Python's `random`, seeded with the trial; "official" takes the first ``shots`` of the data set's
            own permutation.
        shots: images per identity and camera in the gallery; None with "all".
        num_trials: number of galleries, trials 0..num_trials-1, to be averaged.
        hiding: which gallery images a query may not see. "camera_pairs": the pairs in ``hidden_cameras``, whatever
            the identity; "same_identity_and_camera": the query's own identity in its own camera.
        hidden_cameras: (query camera, gallery camera) pairs for "camera_pairs".
        first_occurrence: the CMC rule, see `sa_lab.metrics.evaluate_ranking`.
        dataset: whose protocol it is: sysu, regdb or llcm; None for any.
        split: which split of the data set into training and test the images must come from; None: it has but one.
    """

    name: str
    query_modality: Modality
    gallery_modality: Modality
    query_cameras: tuple[int, ...] | None = None
    gallery_cameras: tuple[int, ...] | None = None
    sampling: Sampling = "all"
    shots: int | None = None
    num_trials: int = 1
    hiding: HidingRule = "nothing"
    hidden_cameras: tuple[tuple[int, int], ...] = ()
    first_occurrence: bool = False
    dataset: str | None = None
    split: int | None = None

    def __post_init__(self) -> None:
        if self.query_modality == self.gallery_modality:
            raise ValueError(
                f"{self.name}: query_modality and gallery_modality are both {Modality(self.query_modality).name}, "
                "expected one of each"
            )
        if self.sampling not in get_args(Sampling):
            raise ValueError(f"{self.name}: sampling is {self.sampling!r}, expected one of {get_args(Sampling)}")
        if self.sampling == "all" and (self.shots is not None or self.num_trials != 1):
            raise ValueError(
                f"{self.name}: shots is {self.shots} and num_trials {self.num_trials}, expected None and 1, "
                "as sampling 'all' draws nothing"
            )
        if self.sampling != "all" and (self.shots is None or self.shots < 1):
            raise ValueError(f"{self.name}: shots is {self.shots}, expected at least 1 with sampling {self.sampling!r}")
        if self.num_trials < 1:
            raise ValueError(f"{self.name}: num_trials is {self.num_trials}, expected at least 1")
        if self.hiding not in get_args(HidingRule):
            raise ValueError(f"{self.name}: hiding is {self.hiding!r}, expected one of {get_args(HidingRule)}")
        if (self.hiding == "camera_pairs") != bool(self.hidden_cameras):
            raise ValueError(
                f"{self.name}: hiding is {self.hiding!r} and hidden_cameras {self.hidden_cameras}, "
                "expected pairs with 'camera_pairs' and none otherwise"
            )

    @property
    def description(self) -> str:
        """The protocol in full, one line, for reports."""

        def side(modality: Modality, cameras: tuple[int, ...] | None) -> str:
            which = "all cameras" if cameras is None else f"cameras {', '.join(map(str, cameras))}"
            return f"{Modality(modality).name.lower()} ({which})"

        up_to = "at most " if self.shots and self.shots > 1 else ""
        drawn = "all images" if self.shots is None else f"{up_to}{self.shots} per identity and camera ({self.sampling})"
        hidden = {
            "nothing": "nothing hidden",
            "camera_pairs": "hidden: " + ", ".join(f"camera {g} from camera {q}" for q, g in self.hidden_cameras),
            "same_identity_and_camera": "hidden: same identity in the same camera",
        }[self.hiding]
        return (
            f"{self.name}: {side(self.query_modality, self.query_cameras)} -> "
            f"{side(self.gallery_modality, self.gallery_cameras)}; {drawn}; {self.num_trials} trial(s); {hidden}; "
            f"CMC over {'first occurrences' if self.first_occurrence else 'all entries'}"
            + (f"; split {self.split}" if self.split else "")
        )


def query_indices(
    protocol: Protocol, *, modality: Int[np.ndarray, " N"], camera_ids: Int[np.ndarray, " N"]
) -> Int[np.ndarray, " Q"]:
    """Where the queries stand in the columns, ascending; the same in every trial.

    Raises:
        ValueError: no image fits the protocol.
    """
    found = np.flatnonzero(_takes_part(protocol.query_modality, protocol.query_cameras, modality, camera_ids))
    if len(found) == 0:
        raise ValueError(f"no query among {len(modality)} images, expected some for {protocol.description}")
    return found


def gallery_indices(
    protocol: Protocol,
    *,
    modality: Int[np.ndarray, " N"],
    person_ids: Int[np.ndarray, " N"],
    camera_ids: Int[np.ndarray, " N"],
    paths: Sequence[str],
    gallery_order: Int[np.ndarray, "N T"] | None = None,
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

    Raises:
        ValueError: ``trial`` is out of range, no image fits the protocol, or ``gallery_order`` lacks an image.
    """
    if not 0 <= trial < protocol.num_trials:
        raise ValueError(f"trial is {trial}, expected 0..{protocol.num_trials - 1} for {protocol.name}")
    found = np.flatnonzero(_takes_part(protocol.gallery_modality, protocol.gallery_cameras, modality, camera_ids))
    if len(found) == 0:
        raise ValueError(f"no gallery image among {len(modality)} images, expected some for {protocol.description}")
    folders: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for index in sorted(found.tolist(), key=lambda i: paths[i]):
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


SYSU_ALL = Protocol(
    name="sysu-all",
    query_modality=Modality.INFRARED,
    gallery_modality=Modality.VISIBLE,
    query_cameras=(3, 6),
    gallery_cameras=(1, 2, 4, 5),
    sampling="agw",
    shots=1,
    num_trials=NUM_TRIALS,
    hiding="camera_pairs",
    hidden_cameras=((3, 2),),  # cameras 2 and 3 watch the same place
    first_occurrence=True,
    dataset="sysu",
)
SYSU_INDOOR = replace(SYSU_ALL, name="sysu-indoor", gallery_cameras=(1, 2))


def _variants(protocol: Protocol) -> tuple[Protocol, ...]:
    """Single-shot and multi-shot, with AGW's galleries and with the official ones."""
    shots = (protocol, replace(protocol, name=f"{protocol.name}-multi-shot", shots=10))
    return shots + tuple(replace(one, name=f"{one.name}-official", sampling="official") for one in shots)


SYSU = _variants(SYSU_ALL) + _variants(SYSU_INDOOR)

INFRARED_TO_VISIBLE = Protocol("infrared-to-visible", Modality.INFRARED, Modality.VISIBLE)
VISIBLE_TO_INFRARED = Protocol("visible-to-infrared", Modality.VISIBLE, Modality.INFRARED)


def regdb(split: int) -> tuple[Protocol, Protocol]:
    """Visible-to-thermal and thermal-to-visible on one of the ten splits, 1..10."""
    if not 1 <= split <= REGDB_SPLITS:
        raise ValueError(f"split is {split}, expected 1..{REGDB_SPLITS}")
    return (
        replace(VISIBLE_TO_INFRARED, name=f"regdb-visible-to-thermal-{split}", dataset="regdb", split=split),
        replace(INFRARED_TO_VISIBLE, name=f"regdb-thermal-to-visible-{split}", dataset="regdb", split=split),
    )


LLCM_INFRARED_TO_VISIBLE = replace(
    INFRARED_TO_VISIBLE,
    name="llcm-infrared-to-visible",
    sampling="agw",
    shots=1,
    num_trials=NUM_TRIALS,
    hiding="same_identity_and_camera",
    first_occurrence=True,
    dataset="llcm",
)
LLCM_VISIBLE_TO_INFRARED = replace(
    LLCM_INFRARED_TO_VISIBLE,
    name="llcm-visible-to-infrared",
    query_modality=Modality.VISIBLE,
    gallery_modality=Modality.INFRARED,
)
LLCM = (LLCM_INFRARED_TO_VISIBLE, LLCM_VISIBLE_TO_INFRARED)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        *SYSU, INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED, *LLCM,
        *(one for split in range(1, REGDB_SPLITS + 1) for one in regdb(split)),
    )
}  # fmt: skip
"""Every protocol by its name."""


def protocols_of(dataset: str, split: int | None = None, official: bool = False) -> tuple[Protocol, ...]:
    """The protocols of a data set, the one that its papers name first first.

    Args:
        dataset: its name in a config, or that of a listing or of descriptors, ``-generated`` or not.
        split: which split, for regdb; None: the first.
        official: its own permutation file is there, for sysu.
    """
    name = dataset.removesuffix("-generated")
    if name in ("synthetic", "sysu"):
        return tuple(one for one in SYSU if official or one.sampling != "official")
    if name == "regdb":
        return regdb(split or 1)
    return LLCM if name == "llcm" else (INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED)
