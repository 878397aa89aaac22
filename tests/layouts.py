"""What real copies of the published data sets look like, and how a copy is compared with the clean one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from sa_lab.data.files import SUFFIXES
from sa_lab.data.store import build_store
from sa_lab.schema import Listing


def images_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def renamed(root: Path) -> Path:
    return root.rename(root.parent / "cam3 of 0001_c02_")


def with_slash(root: Path) -> str:
    return f"{root}/"


def windows_lines(root: Path) -> Path:
    for path in root.glob("*/*.txt"):
        text = path.read_text().replace(",", " , ").replace("\n", " \n\n")
        path.write_bytes(f"\ufeff\n{text}\n".replace("\n", "\r\n").encode())
    return root


def capitals(root: Path) -> Path:
    for path in images_of(root)[::2]:
        path.rename(path.with_suffix(path.suffix.upper()))
    return root


def one_channel(root: Path) -> Path:
    """Infrared images, which are grey, as some copies of the data sets have them."""
    for path in images_of(root):
        with Image.open(path) as image:
            red, green, blue = image.split()
            if red.tobytes() == green.tobytes() == blue.tobytes():
                red.save(path, quality=95)
    return root


def mixed_sizes(root: Path) -> Path:
    for k, path in enumerate(images_of(root)):
        with Image.open(path) as image:
            factor = 1 + k % 3
            image.resize((factor * image.width, factor * image.height)).save(path, quality=95, subsampling=0)
    return root


def other_files(root: Path) -> Path:
    for folder in {path.parent for path in images_of(root)}:
        (folder / "Thumbs.db").write_text("no image")
        (folder / "._0001.jpg").write_text("no image")
    return root


ODDITIES = (renamed, with_slash, windows_lines, capitals, one_channel, mixed_sizes, other_files)
"""Each takes a clean copy and gives the root to load."""


def assert_same(odd: Listing, clean: Listing, cache: Path) -> None:
    """Equal columns; equal pixels, but for what JPEG and resizing do to them."""
    assert [path.lower() for path in odd.paths] == [path.lower() for path in clean.paths]
    assert (odd.name, odd.split) == (clean.name, clean.split)
    for name in ("person_ids", "camera_ids", "modality", "is_train", "group_ids", "gallery_order"):
        np.testing.assert_array_equal(getattr(odd, name), getattr(clean, name))
    first, second = (build_store(one, 8, 4, cache, progress=False).images.numpy().astype(int) for one in (odd, clean))
    assert np.abs(first - second).mean() < 2
