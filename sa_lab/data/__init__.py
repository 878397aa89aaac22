"""Data sets: one file per source, which only finds files and ids, and the store, which does the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from sa_lab.config import DataConfig
from sa_lab.data import folder, llcm, manifest, regdb, roadscene, sysu_mm01
from sa_lab.data.drawn import synthetic
from sa_lab.data.store import ImageStore, build_store
from sa_lab.disk import home
from sa_lab.schema import Listing, Modality

__all__ = ["ImageStore", "list_images", "prepare", "published_counts", "statistics"]


def list_images(data: DataConfig) -> Listing:
    """The images of the data set that ``data`` names, not yet read.

    Raises:
        DataError: the folder is not what the layout promises.
    """
    if data.dataset in ("synthetic", "thermal"):
        return synthetic.listing(
            synthetic.SyntheticSpec(
                num_train_ids=data.train_ids, num_test_ids=data.test_ids, images_per_camera=data.images_per_camera,
                height=max(128, data.height), width=max(64, data.width), seed=data.seed,
                variant="nir" if data.dataset == "synthetic" else "thermal",
                **({"nir_share": data.nir_share} if data.dataset == "synthetic" else {}),
            )
        )  # fmt: skip
    root = Path(str(data.root))
    ways: dict[str, Callable[[], Listing]] = {
        "sysu": lambda: sysu_mm01.listing(root), "regdb": lambda: regdb.listing(root, data.split),
        "llcm": lambda: llcm.listing(root), "roadscene": lambda: roadscene.listing(root, seed=data.seed),
        "folder": lambda: folder.listing(root, data.test_fraction, data.seed),
        "manifest": lambda: manifest.listing(root, data.test_fraction, data.seed),
    }  # fmt: skip
    return ways[data.dataset]()


def prepare(
    data: DataConfig, progress: bool = True, listing: Listing | None = None, contents: tuple[str, ...] = ()
) -> ImageStore:
    """The store of ``data``, from the prepared cache or built now; ``listing`` and ``contents`` if they are known.

    Raises:
        DataError: the folder is not what the layout promises, or images cannot be read.
    """
    images = listing or list_images(data)
    return build_store(
        images, data.height, data.width, home() / "prepared", progress, data.resize, contents, data.thermal_range
    )


def statistics(images: Listing | ImageStore) -> dict[str, int]:
    """Identities and images of both parts, under the keys of `published_counts`."""
    counts = {}
    for part, chosen in (("train", images.is_train), ("test", ~images.is_train)):
        counts[f"{part} identities"] = len(np.unique(images.person_ids[chosen]))
        for modality in Modality:
            counts[f"{part} {modality.name.lower()} images"] = int((images.modality[chosen] == modality).sum())
    return counts


def published_counts(name: str) -> Mapping[str, int] | None:
    """What its authors say is in the data set of this name (``sysu``, ``regdb`` or ``llcm``); None for any other."""
    return {"sysu": sysu_mm01.PUBLISHED, "regdb": regdb.PUBLISHED, "llcm": llcm.PUBLISHED}.get(name)
