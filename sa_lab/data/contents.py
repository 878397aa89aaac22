"""What images are, told by their content: a copy of a data set is the same data, whenever its files were written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from sa_lab.disk import DamagedFileError, kept_where_possible, locked, read_json, write_json
from sa_lab.schema import Listing


def contents_of(listing: Listing, cache: Path, progress: bool = True) -> tuple[str, ...]:
    """A text for each image that changes with the content of its file and with nothing else.

    Files are hashed once: as long as names, sizes and times stay the same, what is kept in ``cache`` is taken.

    Raises:
        OSError: a file cannot be read.
    """
    if listing.content is None:
        return tuple(f"{stamp} {path}" for stamp, path in zip(listing.stamps, listing.paths, strict=True))
    kept = Path(cache) / "contents" / f"{listing.name}-{hash_of('', listing.paths, listing.stamps)[:16]}.json"
    with locked(kept, f"hashes the images of {listing.name}"):
        with suppress(DamagedFileError, FileNotFoundError):
            contents = read_json(kept)["contents"]
            if len(contents) == len(listing):
                return tuple(contents)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(listing.content, range(len(listing)))
            bar = tqdm(found, f"hash {listing.name}", len(listing), unit="image", disable=not progress, leave=False)
            contents = tuple(bar)
        with kept_where_possible():  # else they are hashed again another time
            write_json(kept, {"contents": contents})
    return contents


def digest_of(listing: Listing, height: int, width: int, resize: str, contents: tuple[str, ...]) -> str:
    """Hash of everything that decides the pixels of a store and what is known of them, but not of times, nor of
    galleries, which training does not see.

    Args:
        listing: what is known of the images.
        height, width, resize: how they are stored.
        contents: what `contents_of` gives.
    """
    title = f"{listing.name} {height} {width} {resize}"
    if listing.split is not None:
        title += f" split {listing.split}"
    columns: list[Iterable[Any]] = [
        listing.paths, contents, listing.person_ids, listing.camera_ids, listing.modality, listing.is_train,
        listing.group_ids,
    ]  # fmt: skip
    return hash_of(title, *columns)


def hash_of(title: str, *columns: Iterable[Any]) -> str:
    """SHA-256 of a title and of rows."""
    digest = hashlib.sha256(f"{title}\n".encode())
    for row in zip(*columns, strict=True):
        digest.update(("\t".join(map(str, row)) + "\n").encode())
    return digest.hexdigest()
