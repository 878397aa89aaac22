"""The embedded data set: procedurally drawn pedestrians, before the cameras of SYSU-MM01, of RegDB or of LLCM.

Nothing is downloaded and nothing is random but the seed: image n of a person in a camera is drawn from
``SeedSequence([seed, 2, person, camera, n])`` alone, so it never depends on what was drawn before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float
from PIL import Image

from sa_lab.data.drawn.pedestrian import draw, paint, sample_pose
from sa_lab.data.drawn.scenes import backdrop, expose, occlude
from sa_lab.data.drawn.wardrobe import NIR_SHARE, Identity, sample_identity
from sa_lab.schema import Listing, Modality

DRAWING_VERSION = 1
"""Goes into every stamp: raise it when a change of the drawing changes pixels."""
_GAPS = 0.1  # share of the identities without outdoor cameras, and share of those without indoor ones
_DUSK = 0.4  # how much light is left for the visible cameras in low light
_PASSED = 4  # places that each person passes by in low light


@dataclass(frozen=True)
class Camera:
    """One camera: its number and modality, the spectrum it records, the place it looks at, and the light there."""

    number: int
    modality: Modality
    spectrum: str
    place: int
    outdoor: bool
    brightness: float = 1.0


_SIX = {
    1: Camera(1, Modality.VISIBLE, "visible", 1, False),
    2: Camera(2, Modality.VISIBLE, "visible", 2, False),
    3: Camera(3, Modality.INFRARED, "nir", 2, False),
    4: Camera(4, Modality.VISIBLE, "visible", 4, True),
    5: Camera(5, Modality.VISIBLE, "visible", 5, True),
    6: Camera(6, Modality.INFRARED, "nir", 6, True),
}
_PAIR = {1: Camera(1, Modality.VISIBLE, "visible", 1, True), 2: Camera(2, Modality.INFRARED, "thermal", 1, True)}
_INFRARED_KEY = 10  # in low light a number is a place; its infrared camera has the number plus this as its key
_NINE = {place: Camera(place, Modality.VISIBLE, "visible", place, True, _DUSK) for place in range(1, 10)} | {
    _INFRARED_KEY + place: Camera(place, Modality.INFRARED, "nir", place, True) for place in range(1, 10) if place != 3
}
_CAMERAS = {"nir": _SIX, "thermal": _PAIR, "low_light": _NINE}
_NAMES = {"nir": "synthetic", "thermal": "synthetic-thermal", "low_light": "synthetic-low-light"}


@dataclass(frozen=True)
class SyntheticSpec:
    """What to draw.

    Attributes:
        num_train_ids: training identities; their person ids are 1..num_train_ids.
        num_test_ids: test identities; their ids follow.
        images_per_camera: images of an identity in each camera that sees it.
        height, width: size of the drawn images in pixels.
        seed: decides on everything; another seed is another population in another town.
        variant: ``nir``: six cameras and the layout of SYSU-MM01; ``thermal``: two cameras and the layout of RegDB;
            ``low_light``: seventeen cameras at nine dark places and the layout of LLCM.
        nir_share: how much of a garment's near-infrared brightness follows its visible luminance, 0..1: the lower, the
            less the two spectra have in common.

    Raises:
        ValueError: a number below its minimum, or an unknown variant.
    """

    num_train_ids: int = 200
    num_test_ids: int = 80
    images_per_camera: int = 4
    height: int = 128
    width: int = 64
    seed: int = 0
    variant: Literal["nir", "thermal", "low_light"] = "nir"
    nir_share: float = NIR_SHARE

    def __post_init__(self) -> None:
        ranges = {
            "num_train_ids": (0, 100_000), "num_test_ids": (0, 100_000), "images_per_camera": (1, 1000),
            "height": (16, 8192), "width": (8, 8192), "seed": (0, 2**63 - 1),
        }  # fmt: skip
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} to {most}")
        if self.num_train_ids + self.num_test_ids == 0:
            raise ValueError("num_train_ids and num_test_ids are both 0, expected at least one identity")
        if not 0 <= self.nir_share <= 1:
            raise ValueError(f"nir_share is {self.nir_share}, expected a share in [0, 1]")
        if self.variant not in _CAMERAS:
            raise ValueError(f"variant is {self.variant!r}, expected one of {', '.join(_CAMERAS)}")

    @property
    def cameras(self) -> dict[int, Camera]:
        """The cameras by key: their number, in low light plus 10 for an infrared camera."""
        return _CAMERAS[self.variant]


def generator(*key: int) -> np.random.Generator:
    """The generator of one purpose: the seed of a `SyntheticSpec`, a number for the purpose, and what it is about."""
    return np.random.default_rng(np.random.SeedSequence(key))


@lru_cache(maxsize=256)
def _identity(seed: int, person: int, nir_share: float) -> Identity:
    return sample_identity(generator(seed, 1, person), nir_share)


def _halved(image: Float[np.ndarray, "H2 W2 channels"]) -> Float[np.ndarray, "H W channels"]:
    """Every 2x2 pixels averaged."""
    return np.asarray(0.25 * (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]))


def draw_image(spec: SyntheticSpec, person: int, camera: int, image: int) -> Image.Image:
    """Draw one image.

    Args:
        spec: the data set; only size, seed, variant and ``nir_share`` matter here.
        person: person id, from 1.
        camera: key of the camera in ``spec.cameras``.
        image: number of the image, from 1.

    Returns:
        Mode ``RGB`` from a visible camera, ``L`` from an infrared one, ``spec.width`` x ``spec.height``.

    Example:
        >>> draw_image(SyntheticSpec(), person=1, camera=3, image=1).mode
        'L'
    """
    view, who = spec.cameras[camera], _identity(spec.seed, person, spec.nir_share)
    rng = generator(spec.seed, 2, person, camera, image)
    facing = None
    if spec.variant == "thermal":  # RegDB saw each person once: from the front or from the back
        facing = np.pi * float(generator(spec.seed, 5, person).random() < 0.5)
    figure = draw(who, sample_pose(rng, who, facing), 2 * spec.height, 2 * spec.width)
    person_share = _halved((figure.parts > 0).astype(np.float32)[..., None])
    body = _halved(paint(who, figure, view.spectrum))
    scene = backdrop(rng, spec.seed, view.place, view.outdoor, view.spectrum, spec.height, spec.width)
    composed = scene * (1 - person_share) + body
    occlude(rng, composed, view.spectrum)
    return expose(rng, composed, person_share, view.spectrum, view.outdoor, view.brightness)


def seen_by(spec: SyntheticSpec, person: int) -> tuple[int, ...]:
    """The keys of the cameras that see a person, ascending.

    In the near-infrared variant one identity in ten stays indoors (cameras 1, 2, 3) and one in ten outdoors
    (4, 5, 6); both modalities and two visible cameras always remain. In low light each passes by four of the places.
    """
    if spec.variant == "thermal":
        return (1, 2)
    if spec.variant == "low_light":
        places = generator(spec.seed, 9, person).permutation(9)[:_PASSED] + 1
        return tuple(key for key, camera in spec.cameras.items() if camera.place in places)
    chance = generator(spec.seed, 6, person).random()
    return (1, 2, 3) if chance < _GAPS else (4, 5, 6) if chance < 2 * _GAPS else (1, 2, 3, 4, 5, 6)


def _path(spec: SyntheticSpec, person: int, camera: int, image: int) -> str:
    view = spec.cameras[camera]
    visible = view.modality == Modality.VISIBLE
    if spec.variant == "nir":
        return f"cam{camera}/{person:04d}/{image:04d}.jpg"
    if spec.variant == "thermal":
        folder, letter = ("Visible", "v") if visible else ("Thermal", "t")
        return f"{folder}/{person}/drawn_{letter}_{image:05d}_{person}.bmp"
    kind = "vis" if visible else "nir"
    folder = kind if person <= spec.num_train_ids else f"test_{kind}/cam{view.number}"
    return f"{folder}/{person:04d}/{person:04d}_c{view.number:02d}_s000001_f{image:04d}_{kind}.jpg"


@dataclass(frozen=True)
class _Reader:
    spec: SyntheticSpec
    keys: tuple[tuple[int, int, int], ...]

    def __call__(self, index: int) -> Image.Image:
        return draw_image(self.spec, *self.keys[index])


def _keys(spec: SyntheticSpec) -> tuple[tuple[int, int, int], ...]:
    """(person, camera, image) of every image, in the order of the listing."""
    people = range(1, spec.num_train_ids + spec.num_test_ids + 1)
    images = range(1, spec.images_per_camera + 1)
    return tuple((person, camera, image) for person in people for camera in seen_by(spec, person) for image in images)


def listing(spec: SyntheticSpec) -> Listing:
    """The drawn data set, without any file: ``read(i)`` draws image i.

    Args:
        spec: what to draw.

    Returns:
        Images ordered by person, key of the camera, number; paths are those in the layout of the variant, see
        `sa_lab.data.copies`.
    """
    keys = _keys(spec)
    columns = np.array(keys, dtype=np.int64)
    stamp = f"drawing {DRAWING_VERSION}: seed {spec.seed}, {spec.variant}, {spec.height}x{spec.width}"
    stamp += f", nir_share {spec.nir_share:g}" if spec.nir_share != NIR_SHARE else ""
    return Listing(
        name=_NAMES[spec.variant],
        paths=tuple(_path(spec, *key) for key in keys),
        person_ids=columns[:, 0],
        camera_ids=np.array([spec.cameras[camera].number for _, camera, _ in keys], dtype=np.int64),
        modality=np.array([int(spec.cameras[camera].modality) for _, camera, _ in keys], dtype=np.int64),
        is_train=columns[:, 0] <= spec.num_train_ids,
        stamps=(stamp,) * len(keys),
        read=_Reader(spec, keys),
    )
