"""The embedded data set: procedurally drawn pedestrians, seen by six cameras as in SYSU-MM01 or two as in RegDB.

Nothing is downloaded and nothing is random but the seed: image n of a person in a camera is drawn from
``SeedSequence([seed, 2, person, camera, n])`` alone, so it never depends on what was drawn before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from PIL import Image
from tqdm.auto import tqdm

from sa_lab.data.files import new_folder
from sa_lab.data.pedestrian import draw, paint, sample_pose
from sa_lab.data.scenes import backdrop, expose, occlude
from sa_lab.data.wardrobe import Identity, sample_identity
from sa_lab.schema import Listing, Modality

DRAWING_VERSION = 1
"""Goes into every stamp: raise it when a change of the drawing changes pixels."""
_REGDB_IMAGES = 10
_REGDB_TRIALS = 10
_GAPS = 0.1  # share of the identities without outdoor cameras, and share of those without indoor ones


@dataclass(frozen=True)
class Camera:
    """One camera: its modality, the spectrum it records, the place it looks at, indoors or outdoors."""

    modality: Modality
    spectrum: str
    place: int
    outdoor: bool


_SIX = {
    1: Camera(Modality.VISIBLE, "visible", 1, False),
    2: Camera(Modality.VISIBLE, "visible", 2, False),
    3: Camera(Modality.INFRARED, "nir", 2, False),
    4: Camera(Modality.VISIBLE, "visible", 4, True),
    5: Camera(Modality.VISIBLE, "visible", 5, True),
    6: Camera(Modality.INFRARED, "nir", 6, True),
}
_PAIR = {1: Camera(Modality.VISIBLE, "visible", 1, True), 2: Camera(Modality.INFRARED, "thermal", 1, True)}


@dataclass(frozen=True)
class SyntheticSpec:
    """What to draw.

    Attributes:
        num_train_ids: training identities; their person ids are 1..num_train_ids.
        num_test_ids: test identities; their ids follow.
        images_per_camera: images of an identity in each camera that sees it.
        height, width: size of the drawn images in pixels.
        seed: decides on everything; another seed is another population in another town.
        variant: ``nir``: six cameras and the layout of SYSU-MM01; ``thermal``: two cameras and the layout of RegDB.

    Raises:
        ValueError: a number below its minimum, or an unknown variant.
    """

    num_train_ids: int = 200
    num_test_ids: int = 80
    images_per_camera: int = 4
    height: int = 128
    width: int = 64
    seed: int = 0
    variant: Literal["nir", "thermal"] = "nir"

    def __post_init__(self) -> None:
        least = {"num_train_ids": 0, "num_test_ids": 0, "images_per_camera": 1, "height": 16, "width": 8, "seed": 0}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {minimum}")
        if self.num_train_ids + self.num_test_ids == 0:
            raise ValueError("num_train_ids and num_test_ids are both 0, expected at least one identity")
        if self.variant not in ("nir", "thermal"):
            raise ValueError(f"variant is {self.variant!r}, expected 'nir' or 'thermal'")

    @property
    def cameras(self) -> dict[int, Camera]:
        """The cameras by number."""
        return _SIX if self.variant == "nir" else _PAIR


def _generator(*key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(key))


@lru_cache(maxsize=256)
def _identity(seed: int, person: int) -> Identity:
    return sample_identity(_generator(seed, 1, person))


def _halved(image: Float[np.ndarray, "H2 W2 channels"]) -> Float[np.ndarray, "H W channels"]:
    """Every 2x2 pixels averaged."""
    return np.asarray(0.25 * (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]))


def draw_image(spec: SyntheticSpec, person: int, camera: int, image: int) -> Image.Image:
    """Draw one image.

    Args:
        spec: the data set; only size, seed and variant matter here.
        person: person id, from 1.
        camera: camera id.
        image: number of the image, from 1.

    Returns:
        Mode ``RGB`` from a visible camera, ``L`` from an infrared one, ``spec.width`` x ``spec.height``.

    Example:
        >>> draw_image(SyntheticSpec(), person=1, camera=3, image=1).mode
        'L'
    """
    view, who = spec.cameras[camera], _identity(spec.seed, person)
    rng = _generator(spec.seed, 2, person, camera, image)
    facing = None
    if spec.variant == "thermal":  # RegDB saw each person once: from the front or from the back
        facing = np.pi * float(_generator(spec.seed, 5, person).random() < 0.5)
    figure = draw(who, sample_pose(rng, who, facing), 2 * spec.height, 2 * spec.width)
    person_share = _halved((figure.parts > 0).astype(np.float32)[..., None])
    body = _halved(paint(who, figure, view.spectrum))
    scene = backdrop(rng, spec.seed, view.place, view.outdoor, view.spectrum, spec.height, spec.width)
    composed = scene * (1 - person_share) + body
    occlude(rng, composed, view.spectrum)
    return expose(rng, composed, person_share, view.spectrum, view.outdoor)


def seen_by(spec: SyntheticSpec, person: int) -> tuple[int, ...]:
    """The cameras that see a person, ascending.

    In the near-infrared variant one identity in ten stays indoors (cameras 1, 2, 3) and one in ten outdoors
    (4, 5, 6); both modalities and two visible cameras always remain.
    """
    if spec.variant == "thermal":
        return (1, 2)
    chance = _generator(spec.seed, 6, person).random()
    return (1, 2, 3) if chance < _GAPS else (4, 5, 6) if chance < 2 * _GAPS else (1, 2, 3, 4, 5, 6)


def _path(spec: SyntheticSpec, person: int, camera: int, image: int) -> str:
    if spec.variant == "nir":
        return f"cam{camera}/{person:04d}/{image:04d}.jpg"
    folder, letter = ("Visible", "v") if camera == 1 else ("Thermal", "t")
    return f"{folder}/{person}/drawn_{letter}_{image:05d}_{person}.bmp"


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
        Images ordered by person, camera, number; paths are those that `write_sysu` or `write_regdb` would write.
    """
    keys = _keys(spec)
    columns = np.array(keys, dtype=np.int64)
    stamp = f"drawing {DRAWING_VERSION}: seed {spec.seed}, {spec.variant}, {spec.height}x{spec.width}"
    return Listing(
        name="synthetic" if spec.variant == "nir" else "synthetic-thermal",
        paths=tuple(_path(spec, *key) for key in keys),
        person_ids=columns[:, 0],
        camera_ids=columns[:, 1],
        modality=np.array([int(spec.cameras[camera].modality) for _, camera, _ in keys], dtype=np.int64),
        is_train=columns[:, 0] <= spec.num_train_ids,
        stamps=(stamp,) * len(keys),
        read=_Reader(spec, keys),
    )


def _write_images(folder: Path, spec: SyntheticSpec, progress: bool, **options: Any) -> None:
    for key in tqdm(_keys(spec), desc=f"draw {spec.variant}", unit="image", disable=not progress):
        path = folder / _path(spec, *key)
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_image(spec, *key).save(path, **options)


def write_sysu(root: Path, spec: SyntheticSpec, progress: bool = True) -> None:
    """Write the near-infrared data set as files in the layout of SYSU-MM01.

    ``cam{1..6}/{id:04d}/{n:04d}.jpg`` and ``exp/{train,val,test}_id.txt``, each one comma-separated line. The training
    identities are divided about 3:1 into train and val; as usual with SYSU-MM01, the training set is both together.

    Args:
        root: folder to make; it appears only when everything is written.
        spec: what to draw; its variant must be ``nir``.
        progress: show a progress bar.

    Raises:
        ValueError: the variant is not ``nir``.
        FileExistsError: ``root`` exists and is not an empty folder.
    """
    if spec.variant != "nir":
        raise ValueError(f"variant is {spec.variant!r}, expected 'nir' for the SYSU-MM01 layout")
    train = _generator(spec.seed, 7).permutation(spec.num_train_ids) + 1
    cut = spec.num_train_ids - spec.num_train_ids // 4
    test = range(spec.num_train_ids + 1, spec.num_train_ids + spec.num_test_ids + 1)
    with new_folder(Path(root)) as folder:
        (folder / "exp").mkdir()
        for part, people in (("train", sorted(train[:cut])), ("val", sorted(train[cut:])), ("test", list(test))):
            (folder / "exp" / f"{part}_id.txt").write_text(",".join(str(person) for person in people) + "\n")
        _write_images(folder, spec, progress, quality=95, subsampling=0)


def write_regdb(root: Path, spec: SyntheticSpec, progress: bool = True) -> None:
    """Write the thermal data set as files in the layout of RegDB, with ten index splits.

    ``{Visible,Thermal}/{id}/*.bmp``, ten images each, and ``idx/{train,test}_{visible,thermal}_{1..10}.txt`` with
    lines ``path label``. Each split takes another ``num_train_ids`` of all identities for training; labels count
    from 0 in a file, and are the same in the visible and the thermal file of a split.

    Args:
        root: folder to make; it appears only when everything is written.
        spec: what to draw; its variant must be ``thermal``; ``images_per_camera`` is taken as 10.
        progress: show a progress bar.

    Raises:
        ValueError: the variant is not ``thermal``.
        FileExistsError: ``root`` exists and is not an empty folder.
    """
    if spec.variant != "thermal":
        raise ValueError(f"variant is {spec.variant!r}, expected 'thermal' for the RegDB layout")
    spec = replace(spec, images_per_camera=_REGDB_IMAGES)
    with new_folder(Path(root)) as folder:
        (folder / "idx").mkdir()
        for trial in range(1, _REGDB_TRIALS + 1):
            people = _generator(spec.seed, 8, trial).permutation(spec.num_train_ids + spec.num_test_ids) + 1
            for part, chosen in (("train", people[: spec.num_train_ids]), ("test", people[spec.num_train_ids :])):
                for camera, modality in ((1, "visible"), (2, "thermal")):
                    lines = [
                        f"{_path(spec, person, camera, image)} {label}\n"
                        for label, person in enumerate(sorted(chosen.tolist()))
                        for image in range(1, spec.images_per_camera + 1)
                    ]
                    (folder / "idx" / f"{part}_{modality}_{trial}.txt").write_text("".join(lines))
        _write_images(folder, spec, progress)
