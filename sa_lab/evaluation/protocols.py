"""Evaluation protocols: one frozen value says what is asked, what is searched and what counts.

A direction is part of the value, so a "visible-to-infrared" number cannot come out of infrared queries.
`sa_lab.evaluation.galleries` applies a protocol to a set of images.

Sources: SYSU-MM01: Wu et al., ICCV 2017. RegDB: Nguyen et al., Sensors 2017. LLCM: Zhang and Wang, CVPR 2023. The
gallery sampling "agw" is the one of the program to Ye et al., TPAMI 2021 (AGW); "official" follows the permutation
file that comes with SYSU-MM01 and gives other galleries, so a number has to name its sampling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

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
        first_occurrence: the CMC rule, see `sa_lab.evaluation.metrics.evaluate_ranking`.
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
        draws, pairs = self.sampling != "all", self.hiding == "camera_pairs"
        modality, samplings = Modality(self.query_modality).name, get_args(Sampling)
        checks = (
            (self.query_modality != self.gallery_modality,
             f"query_modality and gallery_modality are both {modality}, expected one of each"),
            (self.sampling in samplings, f"sampling is {self.sampling!r}, expected one of {samplings}"),
            (draws or (self.shots is None and self.num_trials == 1),
             f"shots is {self.shots} and num_trials {self.num_trials}, expected None and 1, as sampling 'all' draws "
             "nothing"),
            (not draws or (self.shots is not None and self.shots >= 1),
             f"shots is {self.shots}, expected at least 1 with sampling {self.sampling!r}"),
            (self.num_trials >= 1, f"num_trials is {self.num_trials}, expected at least 1"),
            (self.hiding in get_args(HidingRule), f"hiding is {self.hiding!r}, expected one of {get_args(HidingRule)}"),
            (pairs == bool(self.hidden_cameras),
             f"hiding is {self.hiding!r} and hidden_cameras {self.hidden_cameras}, expected pairs with 'camera_pairs' "
             "and none otherwise"),
        )  # fmt: skip
        for fits, message in checks:
            if not fits:
                raise ValueError(f"{self.name}: {message}")

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


SYSU_ALL = Protocol(
    "sysu-all", Modality.INFRARED, Modality.VISIBLE, query_cameras=(3, 6), gallery_cameras=(1, 2, 4, 5),
    sampling="agw", shots=1, num_trials=NUM_TRIALS, first_occurrence=True, dataset="sysu",
    hiding="camera_pairs", hidden_cameras=((3, 2),),  # a query of camera 3 may not see camera 2: the same place
)  # fmt: skip
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
    INFRARED_TO_VISIBLE, name="llcm-infrared-to-visible", sampling="agw", shots=1, num_trials=NUM_TRIALS,
    hiding="same_identity_and_camera", first_occurrence=True, dataset="llcm",
)  # fmt: skip
LLCM_VISIBLE_TO_INFRARED = replace(
    LLCM_INFRARED_TO_VISIBLE, name="llcm-visible-to-infrared", query_modality=Modality.VISIBLE,
    gallery_modality=Modality.INFRARED,
)  # fmt: skip
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
    """The protocols of a data set, first the one that its papers report first.

    Args:
        dataset: its name in a config, or that of a listing or of descriptors, ``-generated`` or not.
        split: which split, for regdb; None: the first.
        official: whether its own permutation file is there, for sysu.
    """
    name = dataset.removesuffix("-generated")
    if name in ("synthetic", "sysu"):
        return tuple(one for one in SYSU if official or one.sampling != "official")
    if name == "regdb":
        return regdb(split or 1)
    return LLCM if name == "llcm" else (INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED)
