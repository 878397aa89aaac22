"""Augmentation and input of a batch: one gather and tensor operations, or worker processes and PIL images."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks import loading, sizes
from benchmarks.stages import operations
from benchmarks.timing import both_gb, compare_in_turn
from sa_lab.config import ExperimentConfig
from sa_lab.data.store import ImageStore
from sa_lab.training import loop

BATCHES = 12
"""Batches of one timed call; the workers begin each call with none made ahead, and live on from call to call."""


def measure(device: torch.device) -> dict[str, Any]:
    """Milliseconds of an augmented, normalised batch on its device, of tiny and small, on a GPU of paper as well.

    Returns:
        ``ratios``: `benchmarks.timing.Comparison` by name; ``operations`` of ours by the same names;
        ``workers`` of the plain way.

    Raises:
        AssertionError: without augmentation the two ways give different images.
    """
    result: dict[str, Any] = {"ratios": {}, "operations": {}, "workers": os.cpu_count() or 1}
    for preset in ("tiny", "small", "paper") if device.type == "cuda" else ("tiny", "small"):
        config = sizes.config_of(preset, device)
        store = sizes.store_of(config, sizes.IDENTITIES[preset], 4).on(device)
        check_equal(loop.start(replace(config, train=replace(config.train, augmentation="none")), store))
        name = f"input, {preset} ({config.train.augmentation})"
        memory = both_gb(some_batches, preset, device.type, device=device)
        theirs, ours = (_way(way, config, store) for way in ("plain", "ours"))
        result["ratios"][name] = {**compare_in_turn(theirs, ours, 7, 1, device, BATCHES), **memory}
        result["operations"][name] = operations(ours, device)
    return result


def some_batches(way: str, preset: str, device: str) -> None:
    """``BATCHES`` batches of one ``way``, plain or ours: their memory, without the workers', is measured outside."""
    config = sizes.config_of(preset, torch.device(device))
    _way(way, config, sizes.store_of(config, sizes.IDENTITIES[preset], 1))()


def _way(way: str, config: ExperimentConfig, store: ImageStore) -> Callable[[], None]:
    """A function that makes ``BATCHES`` batches, plain or ours."""
    training = loop.start(config, store)
    device = training.fabric.device
    batches = [index for index, _ in zip(training.sampler, range(BATCHES), strict=False)]
    if way == "ours":

        def ours() -> None:
            for index in batches:
                loop.draw_batch(training, index)

        return ours
    loader = loading.loader_of(training, batches, os.cpu_count() or 1)

    def plain() -> None:
        for images, labels, _ in loader:
            images.to(device, non_blocking=True)
            labels.to(device, non_blocking=True)

    return plain


def check_equal(training: loop.Training) -> None:
    """Both ways give the same normalised images, labels and modality of a batch that is not augmented.

    Raises:
        AssertionError: they do not.
    """
    index = next(iter(training.sampler))
    ours = loop.draw_batch(training, index)
    ((images, labels, modality),) = loading.loader_of(training, [index], 0)
    torch.testing.assert_close(ours.images.cpu(), images)
    torch.testing.assert_close(ours.labels.cpu(), labels)
    torch.testing.assert_close(ours.spectra.cpu(), modality)
