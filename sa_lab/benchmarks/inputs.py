"""Augmentation and input of a batch: one gather and tensor operations, or worker processes and PIL images."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import torch

from sa_lab import train
from sa_lab.benchmarks import loading, sizes
from sa_lab.benchmarks.timing import compare

BATCHES = 12
"""Batches of one timed call; the workers begin each call with none made ahead, and live on from call to call."""


def measure(device: torch.device) -> dict[str, Any]:
    """Milliseconds of an augmented, normalised batch on its device, of tiny and small, on a GPU of paper as well.

    Returns:
        ``ratios``: `sa_lab.benchmarks.timing.Comparison` by name; ``workers`` of the plain way.

    Raises:
        AssertionError: without augmentation the two ways give different images.
    """
    ratios, workers = {}, os.cpu_count() or 1
    for preset in ("tiny", "small", "paper") if device.type == "cuda" else ("tiny", "small"):
        config = sizes.config_of(preset, device)
        store = sizes.store_of(config, sizes.IDENTITIES[preset], 4)
        check_equal(train.start(replace(config, train=replace(config.train, augmentation="none")), store))
        training = train.start(config, store)
        batches = [index for index, _ in zip(training.sampler, range(BATCHES), strict=False)]
        loader = loading.loader_of(training, batches, workers)

        def plain(loader: loading.Loader = loader) -> None:
            for images, labels, _ in loader:
                images.to(device, non_blocking=True)
                labels.to(device, non_blocking=True)

        def ours(training: train.Training = training, batches: list[Any] = batches) -> None:
            for index in batches:
                train.draw_batch(training, index)

        name = f"input, {preset} ({config.train.augmentation})"
        ratios[name] = compare(plain, ours, 7, 1, device, len(batches))
    return {"ratios": ratios, "workers": workers}


def check_equal(training: train.Training) -> None:
    """Both ways give the same normalised images, labels and modality of a batch that is not augmented.

    Raises:
        AssertionError: they do not.
    """
    index = next(iter(training.sampler))
    ours = train.draw_batch(training, index)
    ((images, labels, modality),) = loading.loader_of(training, [index], 0)
    torch.testing.assert_close(ours.images.cpu(), images)
    torch.testing.assert_close(ours.labels.cpu(), labels)
    torch.testing.assert_close(ours.modality, modality)
