"""ImageStore: all images of a data set as one uint8 array, memory-mapped from a prepared cache.

A batch is one gather; there are no worker processes and no decoding while training. The cache is addressed by
content: its name holds a hash of the files' names and stamps, the image size and the format version, so a changed file
or another size never meets an old cache, and all splits of a data set share one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Bool, Int, UInt8
from numpy.lib.format import open_memmap
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from sa_lab.disk import atomic_path
from sa_lab.schema import DataError, Listing

FORMAT_VERSION = 1
_CHUNK = 256
_SAMPLED_ROWS = 64


@dataclass(frozen=True)
class ImageStore:
    """All images of a data set with what is known of each.

    Attributes:
        name: name of the data set.
        images: (N,3,H,W) uint8, RGB; infrared images have three equal channels.
        person_ids, camera_ids, modality, is_train, group_ids: (N,), see `sa_lab.schema.Listing`.
        paths: N names relative to the data set's root.
        digest: changes with any image, size or split, see `digest_of`.
        split, gallery_order: see `sa_lab.schema.Listing`.
    """

    name: str
    images: UInt8[Tensor, "N 3 H W"]
    person_ids: Int[np.ndarray, " N"]
    camera_ids: Int[np.ndarray, " N"]
    modality: Int[np.ndarray, " N"]
    is_train: Bool[np.ndarray, " N"]
    group_ids: Int[np.ndarray, " N"]
    paths: tuple[str, ...]
    digest: str
    split: int | None = None
    gallery_order: Int[np.ndarray, "N T"] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[2], self.images.shape[3]

    def gather(self, indices: Int[Tensor, " B"]) -> UInt8[Tensor, "B 3 H W"]:
        """The images at ``indices``, on the device of the store."""
        # one gather for the whole batch; from a memory-mapped cache it reads these rows alone: (N,3,H,W) -> (B,3,H,W)
        return self.images.index_select(0, indices.to(self.images.device, non_blocking=True))

    def find(self, paths: Sequence[str]) -> Int[np.ndarray, " B"]:
        """Where the images of these paths are.

        Raises:
            ValueError: one is not here.
        """
        place = {path: row for row, path in enumerate(self.paths)}
        if missing := [path for path in paths if path not in place]:
            raise ValueError(
                f"{self.name} lacks {len(missing)} of {len(paths)} images, {missing[0]} among them; expected those "
                "of the run's own data set"
            )
        return np.array([place[path] for path in paths])

    def on(self, device: torch.device) -> ImageStore:
        """The store with its images on ``device`` if they take at most half of its free memory, else unchanged."""
        if device.type != "cuda" or self.images.is_cuda:
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if self.images.nbytes > free // 2:
            return self
        return ImageStore(**{**self.__dict__, "images": self.images.to(device)})


def split_identities(store: ImageStore, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation identities, both ascending; groups (scenes) are never torn apart.

    Args:
        store: its ``is_train`` identities are divided; test identities are in neither part.
        fraction: share of the groups held back for validation, 0 for none; a single identity is never held back alone.
        seed: seed of the draw.
    """
    train = store.is_train
    groups = np.unique(store.group_ids[train])
    shuffled = np.random.default_rng(seed).permutation(groups)
    count = round(fraction * len(groups))
    is_held = np.isin(store.group_ids, shuffled[:count])
    if len(np.unique(store.person_ids[train & is_held])) == 1:  # one identity alone is always found
        is_held = np.isin(store.group_ids, shuffled[: 2 if len(groups) >= 6 else 0])
    return np.unique(store.person_ids[train & ~is_held]), np.unique(store.person_ids[train & is_held])


def build_store(
    listing: Listing, height: int, width: int, cache: Path, progress: bool = True, digest: str = ""
) -> ImageStore:
    """Open the prepared cache of ``listing`` at ``height`` x ``width``, building it first where it is missing.

    Two processes that build the same cache wait for each other; an interrupted build goes on where it stopped; a
    truncated or foreign cache is thrown away and built again. ``digest``: what `digest_of` gives, if it is known.

    Raises:
        DataError: images that cannot be read, all of them listed; no cache is left behind.
        ValueError: ``height`` or ``width`` below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"height x width is {height} x {width}, expected at least 1 x 1")
    content = _hash(f"pixels {FORMAT_VERSION} {listing.name} {height} {width}", listing.paths, listing.stamps)
    folder = Path(cache) / f"{listing.name}-{height}x{width}-{content[:16]}"
    shape = (len(listing), 3, height, width)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not _is_sound(folder, content, shape):
            shutil.rmtree(folder, ignore_errors=True)
            _build(listing, shape, content, folder, progress)
        pixels = np.load(folder / "images.npy", mmap_mode="c")
    return ImageStore(
        listing.name, torch.from_numpy(pixels), listing.person_ids, listing.camera_ids, listing.modality,
        listing.is_train, listing.group_ids, listing.paths, digest or digest_of(listing, height, width), listing.split,
        listing.gallery_order,
    )  # fmt: skip


def digest_of(listing: Listing, height: int, width: int) -> str:
    """Hash of everything that decides the pixels of a store and what is known of them."""
    title = f"{FORMAT_VERSION} {listing.name} {height} {width}"
    columns: list[Iterable[Any]] = [
        listing.paths, listing.stamps, listing.person_ids, listing.camera_ids,
        listing.modality, listing.is_train, listing.group_ids,
    ]  # fmt: skip
    if listing.split is not None:
        title += f" split {listing.split}"
    if listing.gallery_order is not None:
        columns.append(listing.gallery_order.tolist())
    return _hash(title, *columns)


def _hash(title: str, *columns: Iterable[Any]) -> str:
    digest = hashlib.sha256(f"{title}\n".encode())
    for row in zip(*columns, strict=True):
        digest.update(("\t".join(map(str, row)) + "\n").encode())
    return digest.hexdigest()


def _is_sound(folder: Path, digest: str, shape: tuple[int, ...]) -> bool:
    """Whether ``folder`` holds this very cache: its name and shape, and a checksum of some images spread over it."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        pixels = np.load(folder / "images.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return bool(
        isinstance(manifest, dict)
        and manifest.get("digest") == digest
        and pixels.shape == shape
        and pixels.dtype == np.uint8
        and manifest.get("checksum") == _checksum(pixels)
    )


def _checksum(pixels: np.ndarray) -> int:
    """CRC-32 of images spread evenly over the array, first and last included."""
    rows = np.unique(np.linspace(0, len(pixels) - 1, _SAMPLED_ROWS).astype(int))
    return zlib.crc32(pixels[rows].tobytes())


def _build(listing: Listing, shape: tuple[int, ...], digest: str, folder: Path, progress: bool) -> None:
    """Fill ``folder.partial`` chunk by chunk, noting how far it is, then rename it."""
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(exist_ok=True)
    done_file, pixel_file = partial / "done", partial / "images.npy"
    try:
        done, size = int(done_file.read_text()), pixel_file.stat().st_size
        pixels = open_memmap(pixel_file, mode="r+")
        if pixels.shape != shape or size < pixels.nbytes:  # numpy fills a truncated file up with zeros
            raise ValueError("another shape")
    except (OSError, ValueError, EOFError):
        done, pixels = 0, open_memmap(pixel_file, mode="w+", dtype=np.uint8, shape=shape)
    unreadable: dict[str, str] = {}

    def put(i: int) -> None:
        try:
            pixels[i] = _pixels(listing.read(i), shape[2], shape[3])
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            unreadable[listing.paths[i].split("#")[0]] = str(error)  # one file may hold many crops

    bar = tqdm(total=len(listing), initial=done, unit="image", desc=f"prepare {listing.name}", disable=not progress)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(done, len(listing), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(listing)))
            list(pool.map(put, chunk))
            bar.update(len(chunk))
            if not unreadable:
                pixels.flush()
                with atomic_path(done_file) as temporary:
                    temporary.write_text(str(chunk.stop))
    if unreadable:
        shutil.rmtree(partial)
        shown = "\n  ".join(f"{path}: {error}" for path, error in sorted(unreadable.items()))
        raise DataError(
            f"{listing.name}: {len(unreadable)} images cannot be read; expected whole image files:\n  {shown}"
        )
    pixels.flush()
    manifest = {"digest": digest, "checksum": _checksum(pixels), "shape": shape}
    (partial / "manifest.json").write_text(json.dumps(manifest))
    done_file.unlink()
    os.replace(partial, folder)


def _pixels(image: Image.Image, height: int, width: int) -> UInt8[np.ndarray, "3 H W"]:
    """``image`` as (3,H,W) uint8, resized with anti-aliasing."""
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized).transpose(2, 0, 1)
