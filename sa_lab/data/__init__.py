"""Data sets: one file a source, which only finds files and ids, and the store, which does the rest."""

from __future__ import annotations

from pathlib import Path

from sa_lab.config import DataConfig, home
from sa_lab.data import folder, roadscene, synthetic
from sa_lab.data.store import ImageStore, build_store
from sa_lab.schema import Listing

__all__ = ["ImageStore", "list_images", "prepare"]


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
            )
        )  # fmt: skip
    source = roadscene.listing if data.dataset == "roadscene" else folder.listing
    return source(Path(str(data.root)), seed=data.seed)


def prepare(data: DataConfig, progress: bool = True) -> ImageStore:
    """The store of ``data``, from the prepared cache or built now.

    Raises:
        DataError: the folder is not what the layout promises, or images cannot be read.
    """
    return build_store(list_images(data), data.height, data.width, home() / "prepared", progress)
