"""The records that parts of the library pass to each other, checked once, when they are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from sa_lab.disk import Refusal as Refusal
from sa_lab.disk import atomic_path, mapped_arrays, seal


class Modality(IntEnum):
    """The spectrum an image was taken in."""

    VISIBLE = 0
    INFRARED = 1

    @property
    def other(self) -> Modality:
        """The other spectrum."""
        return Modality(1 - self)


class Role(IntEnum):
    """What a test image is used for."""

    BOTH = 0
    QUERY = 1
    GALLERY = 2


NOBODY = -1
"""The person id of an image whose identity is unknown."""


class DataError(ValueError):
    """A data set on disk is not what its layout promises; the message names the files."""


class LeakageError(DataError):
    """Identities that the training, or the choice of its model, has seen are among those of the test."""


def _same_length(owner: str, length: int, **columns: Any) -> None:
    """Raise ``ValueError`` unless every column has ``length`` entries."""
    for name, column in columns.items():
        if len(column) != length:
            raise ValueError(f"{owner}: {name} has {len(column)} entries, expected {length}")


def _modality_codes(owner: str, modality: np.ndarray) -> None:
    wrong = sorted(set(np.unique(modality).tolist()) - {0, 1})
    if wrong:
        raise ValueError(f"{owner}: modality holds {wrong}, expected only 0 (visible) and 1 (infrared)")


NAMED = 10**9
"""From here on a person id was made from a name."""


def known_by(people: Sequence[int], person_ids: Int[np.ndarray, " N"], paths: Sequence[str]) -> str:
    """Identities as a user knows them: by number, or by an image where that was made from a name."""
    shown = [
        str(one) if one < NAMED else f"of {paths[int(np.flatnonzero(person_ids == one)[0])]}" for one in people[:5]
    ]
    return f"[{', '.join(shown)}{', ...' if len(people) > 5 else ''}]"


@dataclass(frozen=True)
class Listing:
    """What a data set hands to the store: which images there are and whose they are.

    Attributes:
        name: short name of the data set; it becomes part of the cache's file name.
        paths: N names, relative to the data set's root, with forward slashes; unique.
        person_ids: raw identity numbers, shared by both modalities.
        camera_ids: raw camera numbers.
        modality: 0 visible, 1 infrared.
        is_train: True for images of training identities, False for test identities.
        stamps: N strings that change whenever the pixels behind a path may have changed
            (size and time of the file, or version and parameters of a generator).
        read: ``read(i)`` gives image i as a PIL image, mode ``RGB`` or ``L``, at its native size;
            it must be picklable.
        group_ids: identities of one group stay together when validation identities are split off;
            left out, every identity is its own group.
        split: which of the data set's splits into training and test this is; None where it has but one.
        gallery_order: (N,T) the place, from 0, of an image among those of its identity and camera in the gallery
            permutation of trial t that the data set itself prescribes, -1 where it prescribes none; None where it
            comes without such a file.
        roles: (N,) 0 for an image that may be query and gallery, 1 only query, 2 only gallery; None: all 0.
        tracks: (N,) the tracklet that an image belongs to, whose images count as one in a ranking; None: each its own.
        held_ids: identities that the data set itself keeps for validation; None: a share of them is drawn.
        passed_over: what lies beside the images and was not taken, one line each.
        content: ``content(i)`` gives a text that changes with the pixels behind image i and with nothing else (a hash
            of the file), which takes a while; None where path and stamp already do so.
    """

    name: str
    paths: tuple[str, ...]
    person_ids: Int[np.ndarray, " N"]
    camera_ids: Int[np.ndarray, " N"]
    modality: Int[np.ndarray, " N"]
    is_train: Bool[np.ndarray, " N"]
    stamps: tuple[str, ...]
    read: Callable[[int], Image.Image] = field(repr=False, compare=False)
    group_ids: Int[np.ndarray, " N"] = field(default=None)  # type: ignore[arg-type]
    split: int | None = None
    gallery_order: Int[np.ndarray, "N T"] | None = None
    content: Callable[[int], str] | None = field(default=None, repr=False, compare=False)
    roles: Int[np.ndarray, " N"] | None = None
    tracks: Int[np.ndarray, " N"] | None = None
    held_ids: Int[np.ndarray, " H"] | None = None
    passed_over: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.group_ids is None:
            object.__setattr__(self, "group_ids", self.person_ids)
        count = len(self.paths)
        if count == 0:
            raise DataError(f"{self.name}: the listing holds no image")
        if self.gallery_order is not None:
            _same_length(f"listing {self.name}", count, gallery_order=self.gallery_order)
        _same_length(
            f"listing {self.name}", count, person_ids=self.person_ids, camera_ids=self.camera_ids,
            modality=self.modality, is_train=self.is_train, stamps=self.stamps,
            group_ids=self.group_ids,
        )  # fmt: skip
        _modality_codes(f"listing {self.name}", self.modality)
        if len(set(self.paths)) != count:
            twice = [path for path, times in Counter(self.paths).items() if times > 1]
            raise DataError(
                f"{self.name}: {twice[0]} is there twice ({len(twice)} such paths); expected each once, and names that "
                "differ in more than how accents are written"
            )
        known = self.person_ids != NOBODY
        parts = [("training", self.is_train & known)]
        if self.roles is None:  # else the data set says itself who asks and who is searched, strangers too
            parts.append(("test", ~self.is_train & known))
        for part, chosen in parts:
            seen = [set(self.person_ids[chosen & (self.modality == m)].tolist()) for m in Modality]
            for only, missing in ((0, 1), (1, 0)):
                lonely = sorted(seen[only] - seen[missing])
                if lonely:
                    told = known_by(lonely, self.person_ids, self.paths)
                    raise DataError(
                        f"{self.name}: {part} identities {told} have {Modality(only).name.lower()} "
                        f"images but no {Modality(missing).name.lower()} one; every identity needs both"
                    )
        both = sorted(set(self.person_ids[self.is_train].tolist()) & set(self.person_ids[~self.is_train].tolist()))
        if both:
            told = known_by(both, self.person_ids, self.paths)
            raise LeakageError(f"{self.name}: identities {told} are in training and in test; the two must be disjoint")

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Embeddings:
    """Descriptors of N images with all that an evaluation or an analysis needs: no images, no torch.

    Both descriptors of our own networks are L2-normalised per part, then over all parts, and summed over the image and
    its horizontal flip; ``score(q, g) = sum(part_features_q * part_features_g) + sum(embeddings_q * embeddings_g)``.

    Attributes:
        part_features: descriptor A, from before the BN neck, (N,P,D); None for a method that has one descriptor only.
        embeddings: descriptor B, from after the BN neck, (N,P,D).
        person_ids, camera_ids, modality, paths: as in `Listing`, N entries each.
        prototypes: modality prototypes (P,2C,D), visible half first; None where the method has none.
        prototype_ids: the person id of each of the C training identities; None without prototypes.
        seen_ids: identities of this data set that the training, or the choice of its model, has seen; None: not known.
        split, gallery_order: as in `Listing`.
        dataset: name of the data set, for reports.
        roles: as in `Listing`.
    """

    part_features: Float[np.ndarray, "N P D"] | None
    embeddings: Float[np.ndarray, "N P D"]
    person_ids: Int[np.ndarray, " N"]
    camera_ids: Int[np.ndarray, " N"]
    modality: Int[np.ndarray, " N"]
    paths: tuple[str, ...]
    prototypes: Float[np.ndarray, "P C2 D"] | None = None
    prototype_ids: Int[np.ndarray, " C"] | None = None
    seen_ids: Int[np.ndarray, " S"] | None = None
    split: int | None = None
    gallery_order: Int[np.ndarray, "N T"] | None = None
    dataset: str = ""
    roles: Int[np.ndarray, " N"] | None = None

    def __post_init__(self) -> None:
        count = len(self.person_ids)
        vectors = ("person_ids", "camera_ids", "modality", "seen_ids", "prototype_ids")
        ndims = (
            dict.fromkeys((*vectors, "roles"), 1)
            | {"gallery_order": 2}
            | dict.fromkeys((*self.descriptors, "prototypes"), 3)
        )
        for name, ndim in ndims.items():
            if (value := getattr(self, name)) is not None and value.ndim != ndim:
                raise ValueError(f"embeddings: {name} has shape {value.shape}, expected {ndim} dimensions")
        if not all(isinstance(path, str) for path in self.paths) or len(set(self.paths)) < len(self.paths):
            raise ValueError("embeddings: paths are not texts, or some are alike; expected unique texts")
        _same_length(
            "embeddings", count, camera_ids=self.camera_ids, modality=self.modality, paths=self.paths,
            **self.descriptors, **({} if self.gallery_order is None else {"gallery_order": self.gallery_order}),
            **({} if self.roles is None else {"roles": self.roles}),
        )  # fmt: skip
        for name in ("person_ids", "camera_ids", "modality"):
            if getattr(self, name).dtype.kind not in "iu":
                raise ValueError(f"embeddings: {name} is of type {getattr(self, name).dtype}, expected integers")
        _modality_codes("embeddings", self.modality)
        for name, values in self.descriptors.items():
            if not all(np.isfinite(values[i : i + _ROWS]).all() for i in range(0, count, _ROWS)):
                raise ValueError(f"embeddings: {name} holds NaN or infinity, expected finite numbers")
        if (self.prototypes is None) != (self.prototype_ids is None):
            raise ValueError("embeddings: prototypes and prototype_ids come together or not at all")
        if self.prototypes is not None and self.prototype_ids is not None:
            shape, identities = self.prototypes.shape, len(self.prototype_ids)
            if shape[1] != 2 * identities:
                raise ValueError(f"embeddings: prototypes has shape {shape}, expected (P, 2*{identities}, D)")

    def __len__(self) -> int:
        return len(self.person_ids)

    @property
    def descriptors(self) -> dict[str, np.ndarray]:
        """The descriptors that make up the score, by name."""
        both = {"part_features": self.part_features, "embeddings": self.embeddings}
        return {name: values for name, values in both.items() if values is not None}

    def subset(self, keep: np.ndarray) -> Embeddings:
        """The records that the boolean mask or index array ``keep`` selects; fields that are not per image stay."""
        index = np.flatnonzero(keep) if keep.dtype == bool else keep
        columns = {k: getattr(self, k) for k in _COLUMNS}
        chosen: dict[str, Any] = {k: v if v is None else v[index] for k, v in columns.items()}
        return replace(self, paths=tuple(self.paths[i] for i in index), **chosen)

    def save(self, path: Path, dtype: type = np.float16) -> None:
        """Write an ``.npz``, atomically; numbers as float16 (relative rounding 1e-3), from which reports are made, or
        as float32."""
        columns: dict[str, Any] = {k: np.asarray(v) for k, v in self.__dict__.items() if v is not None}
        columns |= {k: v.astype(dtype, copy=False) for k, v in columns.items() if v.dtype.kind == "f"}
        with atomic_path(path) as temporary:
            np.savez(temporary, **columns)
            seal(temporary)

    @classmethod
    def load(cls, path: Path, mapped: bool = False) -> Embeddings:
        """Read what `save` wrote, or anybody's descriptors.

        Theirs is an ``.npz`` that holds ``features`` (N,D), float16 or float32, whose L2-normalised rows are taken as
        descriptor B, so that the score is their cosine; ``person_ids``, ``camera_ids`` and ``modality`` (0 visible,
        1 infrared), integers (N,); and ``paths``, N strings such as ``cam1/0006/0001.jpg``, by whose order galleries
        are drawn. There may also be ``dataset``, ``split`` (which RegDB's protocols need), ``gallery_order`` (which the
        official galleries need; `sa_lab.data.list_images` has it) and ``seen_ids``.

        Args:
            path: the file.
            mapped: leave what `save` wrote on disk, as it was stored, to be read when asked for; else it comes as
                float32 in memory.

        Raises:
            DataError: no such archive, or it lacks a column.
            ValueError: a column is not what `Embeddings` says.
        """
        try:
            columns = mapped_arrays(Path(path))
        except ValueError as error:
            raise DataError(str(error)) from error
        if "features" in columns:
            features = columns.pop("features").astype(np.float32)
            if features.ndim != 2:
                raise DataError(f"{path}: features has shape {features.shape}, expected (N,D)")
            squares = np.einsum("nd,nd->n", features, features)
            features /= np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny))[:, None]
            columns["embeddings"] = features[:, None]
        needed = {"embeddings", "person_ids", "camera_ids", "modality", "paths"}
        if missing := sorted(needed - set(columns)):
            raise DataError(
                f"{path}: no {', '.join(missing)} in this file; expected these, or features in place of embeddings"
            )
        if unknown := sorted(set(columns) - set(cls.__dataclass_fields__)):
            raise DataError(f"{path}: unknown {', '.join(unknown)}; expected {', '.join(cls.__dataclass_fields__)}")
        if not mapped:
            columns = {k: v.astype(np.float32) if v.dtype.kind == "f" else np.array(v) for k, v in columns.items()}
        given: dict[str, Any] = {"part_features": None, **columns, "paths": tuple(columns["paths"].tolist())}
        return cls(**given | {k: columns[k].item() for k in ("split", "dataset") if k in columns})


_ROWS = 4096  # descriptors looked at in one go
_COLUMNS = ("part_features", "embeddings", "person_ids", "camera_ids", "modality", "gallery_order", "roles")
