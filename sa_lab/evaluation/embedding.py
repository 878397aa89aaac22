"""A trained network's descriptors of images: torch and networks go in, arrays come out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from sa_lab import transforms
from sa_lab.data.store import ImageStore
from sa_lab.disk import new_array, temporary_folder
from sa_lab.schema import Embeddings


@torch.no_grad()
def embed(
    model: nn.Module,
    store: ImageStore,
    index: Int[np.ndarray, " N"],
    device: torch.device,
    prototypes: Float[Tensor, "P C2 D"] | None = None,
    prototype_ids: Int[np.ndarray, " C"] | None = None,
    seen_ids: Int[np.ndarray, " S"] | None = None,
    batch_size: int = 256,
    progress: bool = True,
    out: Path | None = None,
    dtype: type = np.float16,
) -> Embeddings:
    """Both descriptors of the images at ``index``, each through the stem of its own modality.

    Descriptor A is made of the part features, B of the embeddings: L2-normalised per part, then over all parts, summed
    over the image and its horizontal flip. The model is put into evaluation mode and left so.

    Args:
        model: gives part features and embeddings of (B,3,H,W) images and their modality.
        store: the images.
        index: which of them.
        device: of the model.
        prototypes, prototype_ids, seen_ids: see `sa_lab.schema.Embeddings`.
        batch_size: images at a time.
        progress: show a bar.
        out: write the descriptors to this ``.npz`` as they come, so that memory does not grow with their number.
            For a data set with tracks, they are averaged over each track's images and rescaled to unit length; the
            first image stands for its track.
        dtype: of the numbers in ``out``, float16 or float32.

    Returns:
        The descriptors, in memory or, with ``out``, in the file.
    """
    model.eval()
    precision = next(model.parameters()).dtype
    place, index = _by_track(store, index)
    first = index[np.unique(place, return_index=True)[1]]
    with temporary_folder(out) if out else nullcontext(Path()) as folder:
        arrays: dict[str, np.ndarray] = {}
        sums: dict[str, np.ndarray] = {}
        for start in tqdm(range(0, len(index), batch_size), unit="batch", desc="embed", disable=not progress):
            rows = index[start : start + batch_size]
            images = transforms.to_float(store.gather(torch.from_numpy(rows)).to(device), precision)
            for name, values in describe(model, images, store.modality[rows]).items():
                both = values.cpu().numpy()
                if name not in arrays:
                    shape = (len(first), *both.shape[1:])
                    file = folder / f"{name}.npy"
                    arrays[name] = new_array(file, shape, dtype) if out else np.empty(shape, both.dtype)
                    sums[name] = np.zeros(both.shape[1:])
                if len(first) == len(index):
                    arrays[name][start : start + len(rows)] = both
                    continue
                for row, track in enumerate(place[start : start + len(rows)]):  # of each track in turn
                    sums[name] += both[row]
                    if start + row + 1 == len(index) or place[start + row + 1] != track:
                        arrays[name][track] = unit_parts(torch.from_numpy(sums[name])[None]).numpy()[0]
                        sums[name][:] = 0
        found = Embeddings(
            **arrays, person_ids=store.person_ids[first], camera_ids=store.camera_ids[first],
            modality=store.modality[first], paths=tuple(store.paths[i] for i in first),
            prototypes=None if prototypes is None else prototypes.detach().cpu().numpy(),
            prototype_ids=prototype_ids, seen_ids=seen_ids, split=store.split, dataset=store.name,
            gallery_order=None if store.gallery_order is None else store.gallery_order[first],
            roles=None if store.roles is None else store.roles[first],
        )  # fmt: skip
        if out is None:
            return found
        found.save(out, dtype)
    return Embeddings.load(out, mapped=True)


def _by_track(store: ImageStore, index: Int[np.ndarray, " N"]) -> tuple[np.ndarray, np.ndarray]:
    """The number of each image's track, from 0, and the images with those of one track one after another."""
    if store.tracks is None:
        return np.arange(len(index)), index
    _, appeared, place = np.unique(store.tracks[index], return_index=True, return_inverse=True)
    place = appeared.argsort().argsort()[place]  # in the order in which they appear
    order = place.argsort(kind="stable")
    return place[order], index[order]


def describe(
    model: nn.Module, images: Float[Tensor, "B 3 H W"], modality: Int[np.ndarray, " B"]
) -> dict[str, Float[Tensor, "B P D"]]:
    """Descriptor A (``part_features``) and B (``embeddings``) of images in [0,1], on their device; see `embed`."""
    normalised = transforms.normalize(images)
    first, mirrored = (model(view, modality) for view in (normalised, normalised.flip(3)))
    return {
        name: unit_parts(getattr(first, name)) + unit_parts(getattr(mirrored, name))
        for name in ("part_features", "embeddings")
    }


def unit_parts(features: Float[Tensor, "B P D"]) -> Float[Tensor, "B P D"]:
    """Unit length per part, then unit length over all parts."""
    parts = functional.normalize(features, dim=2)
    whole = functional.normalize(parts.flatten(1), dim=1)
    return whole.view_as(parts)
