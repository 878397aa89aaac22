"""ImageStore: all images of a data set as one uint8 array, memory-mapped from a prepared cache.

A batch is one gather; there are no worker processes and no decoding while training. The cache is addressed by
content: its name holds a hash of the files' names and contents, the image size, the filter they were resized by and the
format version, so a changed file or another size never meets an old cache, and all splits of a data set share one. Each
image has a checksum, looked at when it is first read; one that does not fit is made again.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from jaxtyping import Bool, Int, UInt8
from numpy.lib.format import open_memmap
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from sa_lab.config import Resize
from sa_lab.data.contents import contents_of, digest_of, hash_of
from sa_lab.data.files import NOT_OF_THE_FILE, listed
from sa_lab.dials import few
from sa_lab.disk import check_folder, locked, new_array, read_json, replace, tell, write_json
from sa_lab.provenance import code_digest
from sa_lab.schema import DataError, Listing, Modality

FORMAT_VERSION = 2
_CHUNK = 256


@dataclass(frozen=True)
class ImageStore:
    """All images of a data set with what is known of each.

    Attributes:
        name: name of the data set.
        images: (N,3,H,W) uint8, RGB; infrared images have three equal channels.
        person_ids, camera_ids, modality, is_train, group_ids: (N,), see `sa_lab.schema.Listing`.
        paths: N names relative to the data set's root.
        digest: changes with any image, size or split, see `sa_lab.data.contents.digest_of`.
        split, gallery_order, roles, tracks, held_ids: see `sa_lab.schema.Listing`.
        contents: what each image is, see `sa_lab.data.contents.contents_of`.
        checks: of the cache; None where the images come from somewhere else.
        thermal_range: the values made black and white in images with more than eight bits; None without such.
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
    contents: tuple[str, ...] = ()
    checks: _Checks | None = field(default=None, repr=False)
    roles: Int[np.ndarray, " N"] | None = None
    tracks: Int[np.ndarray, " N"] | None = None
    held_ids: Int[np.ndarray, " H"] | None = None
    thermal_range: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[2], self.images.shape[3]

    def gather(self, indices: Int[Tensor, " B"]) -> UInt8[Tensor, "B 3 H W"]:
        """The images at ``indices``, on the device of the store."""
        if self.checks:
            self.checks.mend(self.images, indices.numpy())
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
        self.verify(progress=False)
        return ImageStore(**{**self.__dict__, "images": self.images.to(device), "checks": None})

    def verify(self, progress: bool = True) -> int:
        """Read all images of the cache, remake those that are damaged, and return how many."""
        chunks = range(0, len(self), _CHUNK) if self.checks else range(0)
        return sum(
            self.checks.mend(self.images, np.arange(start, min(start + _CHUNK, len(self)))) if self.checks else 0
            for start in tqdm(chunks, f"verify {self.name}", unit="chunk", disable=not progress)
        )


@dataclass(frozen=True)
class _Checks:
    """What tells whether images of a mapped cache are as they were written.

    Attributes:
        file: the .npy of the cache.
        sums: checksum of each image.
        known: which of them were looked at.
        remake: gives image i as it has to be.
    """

    file: Path
    sums: tuple[str, ...]
    known: Bool[np.ndarray, " N"]
    remake: Callable[[int], UInt8[np.ndarray, "3 H W"]]

    def mend(self, images: Tensor, rows: Int[np.ndarray, " B"]) -> int:
        """Look at those of ``rows`` that are new, in the mapped ``images``; mend what is wrong there and in the file.

        Raises:
            DataError: an image cannot be made again, or comes out as another one.
        """
        mended = 0
        for row in np.unique(rows[~self.known[rows]]).tolist():
            if _sum(images[row].numpy()) != self.sums[row]:
                pixels = self.remake(row)
                if _sum(pixels) != self.sums[row]:
                    raise DataError(f"{self.file}: image {row} is damaged, and its file is another one by now: remove "
                                    f"{self.file.parent}")  # fmt: skip
                open_memmap(self.file, mode="r+")[row] = pixels
                images[row] = torch.tensor(pixels)
                tell(f"{self.file}: image {row} was damaged and is made again")
                mended += 1
            self.known[row] = True
        return mended


def _sum(pixels: UInt8[np.ndarray, " ..."]) -> str:
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(pixels).data)


def split_identities(store: ImageStore | Listing, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation identities, both ascending; groups (scenes) are never torn apart.

    Args:
        store: its ``is_train`` identities are divided (a listing will do); test identities are in neither part.
        fraction: share of the groups held back for validation, 0 for none; a single identity is never held back alone.
            Without effect where the data set names its validation identities.
        seed: seed of the draw.
    """
    train = store.is_train
    if store.held_ids is not None:
        known = np.unique(store.person_ids[train])
        return np.setdiff1d(known, store.held_ids), np.intersect1d(known, store.held_ids)
    groups = np.unique(store.group_ids[train])
    shuffled = np.random.default_rng(seed).permutation(groups)
    count = round(fraction * len(groups))
    is_held = np.isin(store.group_ids, shuffled[:count])
    if len(np.unique(store.person_ids[train & is_held])) == 1:  # one identity alone is always found
        is_held = np.isin(store.group_ids, shuffled[: 2 if len(groups) >= 6 else 0])
    return np.unique(store.person_ids[train & ~is_held]), np.unique(store.person_ids[train & is_held])


def build_store(
    listing: Listing,
    height: int,
    width: int,
    cache: Path,
    progress: bool = True,
    resize: Resize = "lanczos",
    contents: tuple[str, ...] = (),
    thermal_range: tuple[float, float] | None = None,
) -> ImageStore:
    """Open the prepared cache of ``listing`` at ``height`` x ``width``, building it first where it is missing.

    Two processes that build the same cache wait for each other; an interrupted build goes on where it stopped; a
    truncated or foreign cache is thrown away and built again.

    Args:
        listing: which images.
        height, width: of the stored images in pixels.
        cache: folder of all caches.
        progress: show bars.
        resize: filter of Pillow, applied with anti-aliasing.
        contents: what `contents_of` gives, if it is known.
        thermal_range: the values that become black and white in images with more than eight bits; by default the
            percentiles `PERCENTILES` of all of them, from `_SAMPLED` of the images.

    Raises:
        DataError: images that cannot be read; no cache is left behind.
        OSError: the disk is full, or a file cannot be read.
        ValueError: ``height`` or ``width`` below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"height x width is {height} x {width}, expected at least 1 x 1")
    contents = contents or contents_of(listing, cache, progress)
    title = f"pixels {FORMAT_VERSION} {listing.name} {height} {width} {resize}"
    title += f" {thermal_range}" if thermal_range else ""
    content = hash_of(title, listing.paths, contents)
    folder = Path(cache) / f"{listing.name}-{height}x{width}-{content[:16]}"
    shape = (len(listing), 3, height, width)

    span = _Span(listing, thermal_range)

    def pixels(i: int) -> UInt8[np.ndarray, "3 H W"]:
        return _pixels(span.eight_bits(i, listing.read(i)), height, width, resize)

    record = {"digest": content, "filter": resize, "shape": list(shape), "code": code_digest(("data",))}
    with locked(folder, f"prepares {listing.name}"):
        known = _manifest(folder, record)
        if known is None:
            check_folder(folder.parent, "set SA_LAB_HOME to another folder for data and runs")
            shutil.rmtree(folder, ignore_errors=True)
            for line in _counted(listing.passed_over):
                tell(f"{listing.name}: {line}")
            known = _build(listing, pixels, shape, record, folder, progress, span)
            for line in span.told():
                tell(f"{listing.name}: {line}")
        sums, span.bounds = tuple(known["sums"]), known["thermal_range"]
        images = np.load(folder / "images.npy", mmap_mode="c")
    checks = _Checks(folder / "images.npy", sums, np.zeros(len(listing), dtype=bool), pixels)
    return ImageStore(
        listing.name, torch.from_numpy(images), listing.person_ids, listing.camera_ids, listing.modality,
        listing.is_train, listing.group_ids, listing.paths, digest_of(listing, height, width, resize, contents),
        listing.split, listing.gallery_order, contents, checks, listing.roles, listing.tracks, listing.held_ids,
        None if span.bounds is None else (span.bounds[0], span.bounds[1]),
    )  # fmt: skip


PERCENTILES = (1, 99)
_SAMPLED = 200


@dataclass
class _Span:
    """What becomes black and what white of images with more than eight bits, once for all of a data set.

    Attributes:
        listing: the images.
        bounds: the two; None until an image asks for them.
        deep: which images had more than eight bits.
        measured: whether the bounds were measured on these images.
        outside: how many of them have nothing between the bounds.
    """

    listing: Listing
    bounds: tuple[float, float] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    deep: set[int] = field(default_factory=set)
    measured: bool = False
    outside: int = 0

    def eight_bits(self, i: int, image: Image.Image) -> Image.Image:
        """Image ``i`` as it is, or, of more than eight bits, as mode ``L``."""
        if image.mode != "F":
            return image
        numbers = np.asarray(image)
        with self.lock:
            self.measured |= self.bounds is None
            low, high = self.bounds = self.bounds or self._percentiles()
            self.deep.add(i)
            self.outside += bool(numbers.max() <= low or numbers.min() >= high)
        scaled = (numbers - low) * (255 / max(high - low, 1e-9))
        return Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8))

    def so_far(self) -> dict[str, Any]:
        """What an interrupted build has to know when it goes on."""
        with self.lock:
            found = {"deep": sorted(self.deep), "measured": self.measured, "outside": self.outside}
            return {"thermal_range": self.bounds, **found}

    def go_on(self, done: Mapping[str, Any]) -> None:
        """Take over what `so_far` gave."""
        bounds = done["thermal_range"]
        self.bounds = self.bounds or (tuple(bounds) if bounds else None)
        self.deep, self.measured, self.outside = set(done["deep"]), done["measured"], done["outside"]

    def told(self) -> list[str]:
        """What the user should know of images with more than eight bits."""
        lines = []
        if self.bounds and self.deep:
            low, high = self.bounds
            of_all = "the 1st and 99th percentile of these" if self.measured else "as asked, or as the run has it"
            lines.append(
                f"{len(self.deep)} with more than eight bits: {low:g} becomes black and {high:g} white, {of_all} "
                "(data.thermal_range; a run keeps it in made_of.json)"
            )
        if self.outside:
            lines.append(f"{self.outside} of these lie wholly outside of that and are black or white all over")
        infrared = int((self.listing.modality == Modality.INFRARED).sum())
        if self.bounds and infrared and not self.deep:
            lines.append(
                f"{infrared} infrared images have eight bits: data.thermal_range does not apply to them, and they are "
                "not comparable with those of a run that has it"
            )
        deep = np.isin(np.arange(len(self.listing)), list(self.deep))
        for modality in Modality:
            of = self.listing.modality == modality
            if 0 < (count := int(deep[of].sum())) < of.sum():
                lines.append(
                    f"{count} of {of.sum()} {modality.name.lower()} images have more than eight bits and are scaled by "
                    "these bounds, the others have eight and stay as they are; expected one kind, so save them alike"
                )
        return lines

    def _percentiles(self) -> tuple[float, float]:
        found = []
        for i in np.unique(np.linspace(0, len(self.listing) - 1, 20 * _SAMPLED).round().astype(int)):
            with suppress(DataError, OSError):  # told when it is stored
                image = self.listing.read(int(i))
                found += [np.asarray(image)[::4, ::4].ravel()] if image.mode == "F" else []
            if len(found) == _SAMPLED:
                break
        low, high = np.percentile(np.concatenate(found), PERCENTILES)
        return float(low), float(high)


def _by_reason(told: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The paths of each reason, of pairs of a path and a reason."""
    found: dict[str, list[str]] = {}
    for path, reason in told:
        found.setdefault(reason, []).append(path)
    return found


def _counted(lines: Sequence[str]) -> list[str]:
    """Of what was passed over, how many of each reason, with up to three names."""
    of_reason = _by_reason((path, reason) for path, _, reason in (line.rpartition(": ") for line in lines))
    return [
        f"passed over {len(paths)} ({', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''}): {reason}"
        for reason, paths in of_reason.items()
    ]


def _manifest(folder: Path, record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What is noted of the cache in ``folder``; None unless it is this very cache, whole."""
    try:
        manifest = read_json(folder / "manifest.json")
        images = np.load(folder / "images.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    fits = images.shape == tuple(record["shape"]) and images.dtype == np.uint8
    fits = fits and all(manifest.get(key) == value for key, value in record.items())
    return manifest if fits and len(manifest.get("sums", ())) == len(images) else None


def _build(
    listing: Listing,
    pixels: Callable[[int], np.ndarray],
    shape: tuple[int, ...],
    record: Mapping[str, object],
    folder: Path,
    progress: bool,
    span: _Span,
) -> Mapping[str, Any]:
    """Fill ``folder.partial`` chunk by chunk, noting how far it is, then rename it; gives its manifest."""
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(exist_ok=True)
    done_file, pixel_file = partial / "done.json", partial / "images.npy"
    try:
        done, size = read_json(done_file), pixel_file.stat().st_size
        sums = done["sums"]
        images = open_memmap(pixel_file, mode="r+")
        if images.shape != shape or size < images.nbytes:  # numpy fills a truncated file up with zeros
            raise ValueError("another shape")
        span.go_on(done)
    except (OSError, ValueError, EOFError, KeyError):
        sums, images = [], new_array(pixel_file, shape, np.uint8)
    unreadable: dict[str, str] = {}

    def put(i: int) -> str:
        try:
            images[i] = pixels(i)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in NOT_OF_THE_FILE:
                raise
            unreadable[listing.paths[i].split("#")[0]] = str(error)  # one file may hold many crops
        return _sum(images[i])

    bar = tqdm(
        total=len(listing), initial=len(sums), unit="image", desc=f"prepare {listing.name}", disable=not progress
    )
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(len(sums), len(listing), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(listing)))
            sums += pool.map(put, chunk)
            bar.update(len(chunk))
            if not unreadable:
                images.flush()
                write_json(done_file, {"sums": sums, **span.so_far()})
    if unreadable:
        shutil.rmtree(partial)
        raise DataError(f"{listing.name}: {_told(unreadable)}")
    manifest = {**record, "sums": sums, "thermal_range": span.bounds}
    write_json(partial / "manifest.json", manifest)
    done_file.unlink()
    replace(partial, folder)
    return manifest


def _told(unreadable: dict[str, str]) -> str:
    """Every reason, how many images it concerns, and three of them."""
    of_reason = _by_reason((path, error.split(f"{path}: ", 1)[-1]) for path, error in sorted(unreadable.items()))
    shown = [f"{few(paths)}: {reason}" for reason, paths in of_reason.items()]
    return listed(f"{len(unreadable)} images cannot be read; expected whole image files", shown)


def _pixels(image: Image.Image, height: int, width: int, resize: Resize) -> UInt8[np.ndarray, "3 H W"]:
    """``image`` as (3,H,W) uint8, resized with anti-aliasing."""
    resized = image.convert("RGB").resize((width, height), Image.Resampling[resize.upper()])
    return np.asarray(resized).transpose(2, 0, 1)
