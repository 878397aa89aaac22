"""The records that are handed from room to room, checked once, when they are made."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image


class Modality(IntEnum):
    """The spectrum an image was taken in."""

    VISIBLE = 0
    INFRARED = 1

    @property
    def other(self) -> Modality:
        """The other spectrum."""
        return Modality(1 - self)


class DataError(ValueError):
    """A data set on disk is not what its layout promises; the message names the files."""


def _same_length(owner: str, length: int, **columns: Any) -> None:
    """Raise ``ValueError`` unless every column has ``length`` entries."""
    for name, column in columns.items():
        if len(column) != length:
            raise ValueError(f"{owner}: {name} has {len(column)} entries, expected {length}")


def _modality_codes(owner: str, modality: np.ndarray) -> None:
    wrong = sorted(set(np.unique(modality).tolist()) - {0, 1})
    if wrong:
        raise ValueError(f"{owner}: modality holds {wrong}, expected only 0 (visible) and 1 (infrared)")


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
        stamps: N strings that change whenever the pixels behind a path change
            (size and time of the file, or version and parameters of a generator).
        read: ``read(i)`` gives image i as a PIL image, mode ``RGB`` or ``L``, at its native size;
            it must be picklable.
        group_ids: identities of one group stay together when validation identities are split off;
            left out, every identity is its own group.
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

    def __post_init__(self) -> None:
        if self.group_ids is None:
            object.__setattr__(self, "group_ids", self.person_ids)
        count = len(self.paths)
        if count == 0:
            raise DataError(f"{self.name}: the listing holds no image")
        _same_length(
            f"listing {self.name}", count, person_ids=self.person_ids, camera_ids=self.camera_ids,
            modality=self.modality, is_train=self.is_train, stamps=self.stamps,
            group_ids=self.group_ids,
        )  # fmt: skip
        _modality_codes(f"listing {self.name}", self.modality)
        if len(set(self.paths)) != count:
            raise DataError(f"{self.name}: {count - len(set(self.paths))} paths are listed twice")
        for part, chosen in (("training", self.is_train), ("test", ~self.is_train)):
            seen = [set(self.person_ids[chosen & (self.modality == m)].tolist()) for m in Modality]
            for only, missing in ((0, 1), (1, 0)):
                lonely = sorted(seen[only] - seen[missing])
                if lonely:
                    raise DataError(
                        f"{self.name}: {part} identities {lonely[:20]} have {Modality(only).name.lower()} images "
                        f"but no {Modality(missing).name.lower()} one; every identity needs both"
                    )
        both = sorted(set(self.person_ids[self.is_train].tolist()) & set(self.person_ids[~self.is_train].tolist()))
        if both:
            raise DataError(
                f"{self.name}: identities {both[:20]} are in training and in test; the two must be disjoint"
            )

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Embeddings:
    """Descriptors of N images with all that an evaluation or an analysis needs: no images, no torch.

    Both descriptors are L2-normalised per part, then over all parts, and summed over the image and its
    horizontal flip, so ``score(q, g) = sum(part_features_q * part_features_g) + sum(embeddings_q * embeddings_g)``.

    Attributes:
        part_features: descriptor A, from before the BN neck, (N,P,D).
        embeddings: descriptor B, from after the BN neck, (N,P,D).
        person_ids, camera_ids, modality, paths: as in `Listing`, N entries each.
        prototypes: modality prototypes (P,2C,D), visible half first; None where the method has none.
        prototype_ids: the person id of each of the C training identities; None without prototypes.
    """

    part_features: Float[np.ndarray, "N P D"]
    embeddings: Float[np.ndarray, "N P D"]
    person_ids: Int[np.ndarray, " N"]
    camera_ids: Int[np.ndarray, " N"]
    modality: Int[np.ndarray, " N"]
    paths: tuple[str, ...]
    prototypes: Float[np.ndarray, "P C2 D"] | None = None
    prototype_ids: Int[np.ndarray, " C"] | None = None

    def __post_init__(self) -> None:
        count = len(self.person_ids)
        _same_length(
            "embeddings", count, part_features=self.part_features, embeddings=self.embeddings,
            camera_ids=self.camera_ids, modality=self.modality, paths=self.paths,
        )  # fmt: skip
        _modality_codes("embeddings", self.modality)
        for name in ("part_features", "embeddings"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"embeddings: {name} holds NaN or infinity, expected finite numbers")
        if (self.prototypes is None) != (self.prototype_ids is None):
            raise ValueError("embeddings: prototypes and prototype_ids come together or not at all")
        if self.prototypes is not None and self.prototype_ids is not None:
            shape, identities = self.prototypes.shape, len(self.prototype_ids)
            if shape[1] != 2 * identities:
                raise ValueError(f"embeddings: prototypes has shape {shape}, expected (P, 2*{identities}, D)")

    def __len__(self) -> int:
        return len(self.person_ids)

    def subset(self, keep: np.ndarray) -> Embeddings:
        """The records that the boolean mask or index array ``keep`` selects; prototypes stay."""
        index = np.flatnonzero(keep) if keep.dtype == bool else keep
        return Embeddings(
            self.part_features[index], self.embeddings[index], self.person_ids[index], self.camera_ids[index],
            self.modality[index], tuple(self.paths[i] for i in index), self.prototypes, self.prototype_ids,
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Write an ``.npz``, atomically; numbers as float16 (relative rounding 1e-3), from which reports are made."""
        columns = {k: v for k, v in self.__dict__.items() if v is not None and k != "paths"}
        columns |= {k: v.astype(np.float16) for k, v in columns.items() if v.dtype.kind == "f"}
        with atomic_path(path) as temporary:
            np.savez(temporary, paths=np.array(self.paths, dtype=str), **columns)

    @classmethod
    def load(cls, path: Path) -> Embeddings:
        """Read what `save` wrote, the numbers as float32.

        Raises:
            DataError: the file lacks a column.
        """
        with np.load(path, allow_pickle=False) as file:
            columns = {key: file[key] for key in file.files}
        columns |= {k: v.astype(np.float32) for k, v in columns.items() if v.dtype.kind == "f"}
        missing = sorted(
            {"part_features", "embeddings", "person_ids", "camera_ids", "modality", "paths"} - set(columns)
        )
        if missing:
            raise DataError(f"{path}: no {', '.join(missing)} in this file; expected what Embeddings.save writes")
        return cls(**{**columns, "paths": tuple(columns["paths"].tolist())})


class atomic_path:
    """Context manager: write to a temporary name beside ``path``, rename on success, remove on failure."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.stem}-", suffix=self.path.suffix)
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if kind is None:
            os.chmod(self.temporary, 0o666 & ~_umask())
            os.replace(self.temporary, self.path)
        else:
            self.temporary.unlink(missing_ok=True)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``rows`` with a header, atomically; a column that a row lacks stays empty in it."""
    fields = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
