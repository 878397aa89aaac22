"""Descriptors of test images: `sa_lab.evaluation.embedding.embed`, or the field's loop over a loader."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from benchmarks import loading, sizes
from benchmarks.timing import both_gb, compare_in_turn, full_precision
from sa_lab.course.plain import PlainNet
from sa_lab.data.store import ImageStore
from sa_lab.evaluation.embedding import embed
from sa_lab.training import loop

BATCH = 32
"""Images at a time, both ways."""


def measure(device: torch.device) -> dict[str, Any]:
    """Milliseconds of an image and its flip, of tiny and small, on a GPU of paper as well.

    Returns:
        ``ratios``: `benchmarks.timing.Comparison` by name; times are of ``BATCH`` images.

    Raises:
        AssertionError: the two ways give different descriptors.
    """
    ratios = {}
    for preset in ("tiny", "small", "paper") if device.type == "cuda" else ("tiny", "small"):
        training = _training(preset, device)
        net, loaders = PlainNet(training.network), loaders_of(training, os.cpu_count() or 1)

        def plain(net: PlainNet = net, loaders: Sequence[loading.Loader] = loaders) -> list[np.ndarray]:
            return plain_descriptors(net, loaders, device)

        def ours(training: loop.Training = training) -> list[np.ndarray]:
            return our_descriptors(training)

        with full_precision():
            for mine, theirs in zip(ours(), plain(), strict=True):
                np.testing.assert_allclose(mine, theirs, atol=1e-4)
        batches = len(training.store) // BATCH
        memory = both_gb(some_descriptors, preset, device.type, device=device)
        ratios[f"extraction, {preset}"] = {**compare_in_turn(plain, ours, 5, 0, device, batches), **memory}
    return {"ratios": ratios, "images": BATCH}


def some_descriptors(way: str, preset: str, device: str) -> None:
    """Descriptors of the same images, one ``way``, plain or ours: their memory is measured outside."""
    training = _training(preset, torch.device(device))
    if way == "ours":
        our_descriptors(training)
    else:
        plain_descriptors(PlainNet(training.network), loaders_of(training, os.cpu_count() or 1), training.fabric.device)


def _training(preset: str, device: torch.device) -> loop.Training:
    config = sizes.config_of(preset, device, {"augmentation": "none", "ids_per_batch": 8})
    return loop.start(config, sizes.store_of(config, 32, 8))


def loaders_of(training: loop.Training, workers: int) -> list[loading.Loader]:
    """Test images of each spectrum, ``BATCH`` at a time."""
    return [
        loading.loader_of(training, np.array_split(rows, range(BATCH, len(rows), BATCH)), workers)
        for rows in _rows(training.store)
    ]


def our_descriptors(training: loop.Training) -> list[Float[np.ndarray, "N P D"]]:
    """Both descriptors of all images, visible ones first."""
    found = embed(
        training.network, training.store, np.concatenate(_rows(training.store)), training.fabric.device,
        batch_size=BATCH, progress=False,
    )  # fmt: skip
    return list(found.descriptors.values())


@torch.no_grad()
def plain_descriptors(
    net: PlainNet, loaders: Sequence[loading.Loader], device: torch.device
) -> list[Float[np.ndarray, "N P D"]]:
    """The same descriptors, of a loader for each spectrum: image and flip go forward, pieces into a list.

    Args:
        net: put into evaluation mode.
        loaders: of the visible and of the infrared images.
        device: of the network.
    """
    net.eval()
    pieces: tuple[list[Tensor], list[Tensor]] = ([], [])
    for modality, loader in enumerate(loaders):
        for batch, _, _ in loader:
            images = batch.to(device, non_blocking=True)
            views = [net(*((view, None) if modality == 0 else (None, view))) for view in (images, images.flip(3))]
            for which, piece in enumerate(pieces):
                piece.append(sum((_unit(view[which]) for view in views), torch.zeros(())).cpu())
    return [torch.cat(piece).numpy() for piece in pieces]


def _unit(parts: list[Tensor]) -> Float[Tensor, "B P D"]:
    """Unit length a part, then unit length over all parts."""
    units = torch.stack([functional.normalize(part, dim=1) for part in parts], dim=1)
    whole: Tensor = functional.normalize(units.flatten(1), dim=1).view_as(units)
    return whole


def _rows(store: ImageStore) -> list[np.ndarray]:
    """Rows of the visible and of the infrared images."""
    return [np.flatnonzero(store.modality == m) for m in (0, 1)]
