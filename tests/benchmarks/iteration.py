"""The whole asynchronous iteration, from images to stepped prototypes: ours, as it trains, and the plain way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from benchmarks import loading, sizes
from benchmarks.stages import operations, stage_flops, stage_times
from benchmarks.timing import Comparison, best_rate, both_gb, compare_in_turn, full_precision, per_call, several
from sa_lab.config import ExperimentConfig
from sa_lab.course import plain
from sa_lab.data.store import ImageStore
from sa_lab.samplers import CrossModalityIdentitySampler
from sa_lab.training import loop, steps
from sa_lab.training.learner import LogRow

ROUNDS = {"tiny": 15, "small": 5, "paper": 9}
"""Pairs that are timed: on the CPU of one iteration each way, on a GPU of ten."""


def measure(device: torch.device) -> dict[str, Any]:
    """Tiny and small: times, memory and stages; see `of_preset`."""
    return _merged(of_preset("tiny", device), of_preset("small", device))


def measure_paper(device: torch.device, images: int = sizes.SYSU_IMAGES) -> dict[str, Any]:
    """The paper's recipe at SYSU-MM01's size; see `of_preset`.

    Args:
        device: a GPU.
        images: of an identity in each spectrum.
    """
    return of_preset("paper", device, images)


def of_preset(preset: str, device: torch.device, images: int = 4) -> dict[str, Any]:
    """Everything about the iteration of one preset, on images of noise and with random weights.

    Both ways see the same batches of the same sampler. What the plain way's workers have made ahead while ours ran
    counts for the plain way; memory is that of the process without its workers.

    Args:
        preset: tiny, small or paper.
        device: on a GPU also under bfloat16 autocast, both ways, and ours so against the plain way in float32.
        images: of an identity in each spectrum.

    Returns:
        ``ratios``: `Comparison` by name, some with ``plain_gb`` and ``ours_gb``; ``stages``: see `stage_times`;
        ``flops``: see `stage_flops`; ``rates``: operations a second at best (`best_rate`), on a GPU in bfloat16;
        ``operations`` that take the time of ours.

    Raises:
        AssertionError: the two ways compute different losses.
    """
    cuda = device.type == "cuda"
    result: dict[str, Any] = {"ratios": {}, "stages": {}, "flops": {}, "rates": {}, "operations": {}}
    config = sizes.config_of(preset, device)
    store = sizes.store_of(config, sizes.IDENTITIES[preset], images).on(device)  # once, for all trainings
    in_float32 = _plain(config, store)
    for precision, short in (("32-true", ""), ("bf16-mixed", ", bfloat16"))[: 2 if cuda else 1]:
        config, name = sizes.config_of(preset, device, {"precision": precision}), preset + short
        check_equal(config, store)
        ours, plain_way = _ours(config, store), _plain(config, store) if short else in_float32
        memory = both_gb(some_iterations, preset, device.type, precision, device=device)
        if store.images.is_cuda:
            memory["ours_gb"] += store.images.nbytes / 1e9  # the plain way keeps its images on the host
        result["ratios"][f"iteration, {name}"] = {**_compare(plain_way, ours, preset, device), **memory}
        if short:
            found = _compare(in_float32, ours, preset, device)
            result["ratios"][f"iteration, {name} against float32"] = found
        result["stages"][name] = stage_times(ours, per_call(device), device)
        result["operations"][f"iteration, {name}"] = operations(partial(next, ours), device)
        result["flops"][name] = stage_flops(loop.start(config, store))
        result["rates"][name] = best_rate(device, torch.bfloat16 if cuda else torch.float32)
        del ours
        reusing = replace(config, train=replace(config.train, reuse_features=True))
        found = _compare(plain_way, _ours(reusing, store), preset, device)
        result["ratios"][f"iteration, {name}, features reused"] = found
    return result


def check_equal(config: ExperimentConfig, store: ImageStore) -> None:
    """Two iterations each way from the same weights on the same images, without augmentation: the losses agree.

    Args:
        config: its network, losses and optimisers; of an identity two images are enough.
        store: the images.

    Raises:
        AssertionError: they do not, by more than one part in a thousand; in the second iteration of a GPU, whose
            convolutions add in another order, by more than one in a hundred; under bfloat16 autocast, where the plain
            way also computes the losses so and ours does not, one in twenty.
    """
    few, half = min(2, config.train.images_per_id), config.train.precision == "bf16-mixed"
    rounding = (0.05, 0.05) if half else (1e-3, 1e-2 if config.train.device == "cuda" else 1e-3)
    config = replace(config, train=replace(config.train, augmentation="none", images_per_id=few))
    training = loop.start(config, store)
    theirs = plain.training_of(training)
    batches = [index for index, _ in zip(training.sampler, range(2), strict=False)]
    with full_precision():
        for step, (index, batch) in enumerate(zip(batches, loading.loader_of(training, batches, 0), strict=True)):
            row = steps.iteration(training, loop.draw_batch(training, index), config.loss, step).row()
            for name, value in plain.plain_iteration(theirs, *batch).items():
                np.testing.assert_allclose(row[name], value, rtol=rounding[step], err_msg=f"{name} of iteration {step}")


def sentence(result: dict[str, Any]) -> str:
    """What the README says of it.

    Args:
        result: what `measure` gave.
    """
    shares, flops = result["stages"]["small"], result["flops"]["small"]
    passes = ("forward", "backward", "second forward")
    floor = 1e3 * sum(flops[stage] for stage in passes) / result["rates"]["small"]
    ms = shares["ms"] * sum(shares[stage] for stage in passes)
    reused = result["ratios"]["iteration, small, features reused"]
    return (
        f"At the small preset {100 * ms / shares['ms']:.0f} % of an iteration are the network's three passes, the same "
        f"convolutions either way, at {100 * floor / ms:.0f} %\nof the rate of one large product or convolution. What "
        f"is left is to save a pass: {reused['ratio']:.2f} times with features reused. Its input is "
        f"{100 * shares['input']:.1f} % of an iteration."
    )


def some_iterations(way: str, preset: str, device: str, precision: str) -> None:
    """Three iterations of one ``way``, plain or ours, on few images: what they hold in memory is measured outside."""
    config = sizes.config_of(preset, torch.device(device), {"precision": precision})
    batches = (_ours if way == "ours" else _plain)(config, sizes.store_of(config, sizes.IDENTITIES[preset], 1))
    for _ in range(3):
        next(batches)


def _ours(config: ExperimentConfig, store: ImageStore) -> Iterator[LogRow]:
    """Iterations of a training, one for each `next`."""
    return loop.iterate(loop.start(config, store))


def _plain(config: ExperimentConfig, store: ImageStore) -> Iterator[dict[str, float]]:
    """The same iterations the plain way."""
    training = loop.start(config, store)
    theirs = plain.training_of(training)
    loader = loading.loader_of(training, _for_ever(training.sampler), os.cpu_count() or 1)
    del training
    for batch in loader:
        yield plain.plain_iteration(theirs, *batch)


def _for_ever(sampler: CrossModalityIdentitySampler) -> Iterator[Int[np.ndarray, " B"]]:
    while True:
        yield from sampler


def _compare(plain_way: Iterator[Any], ours: Iterator[Any], preset: str, device: torch.device) -> Comparison:
    ways = (several(way, device) for way in (plain_way, ours))
    return compare_in_turn(*ways, ROUNDS[preset], 2 if preset == "tiny" else 1, device, per_call(device))


def _merged(*results: dict[str, Any]) -> dict[str, Any]:
    """Results of several presets, name by name."""
    names = dict.fromkeys(name for result in results for name in result)
    return {name: {k: v for result in results for k, v in result.get(name, {}).items()} for name in names}
