"""Where time goes: in an iteration by the labels that the library sets while it trains, anywhere by operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from sa_lab.training.loop import Training, draw_batch

STAGES = (
    "input", "forward", "losses", "backward", "network step", "second forward", "prototype step", "rest",
)  # fmt: skip
"""Labels in the order of an iteration; the second forward is within the prototype step and taken out of it."""
_WHOLE = "iteration"


def stage_times(iterations: Iterator[Any], count: int, device: torch.device) -> dict[str, float]:
    """Share of each of `STAGES` in an iteration, summing up to 1.

    On a GPU the time that its kernels run, each counted for the stage that launched it; on the CPU the time that
    passes. Times of the autograd engine's own threads are so counted for the stage that waits for them.

    Args:
        iterations: does one iteration for each `next`; it has been warmed up.
        count: iterations to take the mean of.
        device: where they compute.

    Returns:
        The shares, and ``ms``: milliseconds of an iteration, on a GPU those of its kernels.
    """
    cuda = device.type == "cuda"
    with profile(
        activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])], acc_events=True
    ) as found:
        for _ in range(count):
            with record_function(_WHOLE):
                next(iterations)
        if cuda:
            torch.cuda.synchronize(device)
    events: Any = found.events()
    spans = [e for e in events if e.name in (*STAGES, _WHOLE) and e.device_type == DeviceType.CPU]
    spent = dict.fromkeys((*STAGES, _WHOLE), 0.0)  # microseconds
    if cuda:
        for event in events:
            if event.device_type == DeviceType.CPU and event.name not in spent:
                spent[_stage_of(event.time_range.start, spans)] += sum(kernel.duration for kernel in event.kernels)
        spent["rest"] = spent.pop(_WHOLE)
    else:
        for span in spans:
            spent[span.name] += span.time_range.elapsed_us()
        spent["prototype step"] -= spent["second forward"]
        whole = spent.pop(_WHOLE)
        spent["rest"] = whole - sum(spent.values())
    total = sum(spent.values())
    return {name: spent[name] / total for name in STAGES} | {"ms": total / count / 1e3}


def _stage_of(moment: float, spans: list[Any]) -> str:
    """The shortest span round a moment; the whole where there is none."""
    around = [span for span in spans if span.time_range.start <= moment <= span.time_range.end]
    return min(around, key=lambda span: span.time_range.elapsed_us()).name if around else _WHOLE


def operations(call: Callable[[], object], device: torch.device, most: int = 6) -> dict[str, float]:
    """Share in [0,1] of the operations that a call spends most time in, largest first; on a GPU, time of its kernels.

    Args:
        call: is done twice, the second time under the profiler.
        device: where it computes.
        most: how many operations.
    """
    call()
    cuda = device.type == "cuda"
    with profile(
        activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])], acc_events=True
    ) as found:
        call()
    averages: Any = [one for one in found.key_averages() if one.key.startswith("aten::")]
    times = {one.key[6:]: one.self_device_time_total if cuda else one.self_cpu_time_total for one in averages}
    whole = sum(times.values())
    return {name: times[name] / whole for name in sorted(times, key=lambda name: -times[name])[:most]}


def stage_flops(training: Training) -> dict[str, float]:
    """Floating-point operations of matrix products and convolutions in each of `STAGES` of an iteration.

    Backward is two gradients for each operation of the forward, but for those of the images and, of the prototypes'
    logits, those of the prototypes (torch's own count of a grouped convolution's backward is too high).

    Args:
        training: its network forwards its first batch.
    """
    network, batch = training.network, draw_batch(training, next(iter(training.sampler)))
    counters = {classify: FlopCounterMode(display=False) for classify in (True, False)}
    for classify, counter in counters.items():
        with counter, torch.no_grad():
            network(batch.images, batch.modality, classify)
    forward, second = (float(counter.get_total_flops()) for counter in counters.values())
    modules = counters[True].get_flop_counts()
    first_layers = [f"{type(network).__name__}.stems.{i}.{_first(stem)}" for i, stem in enumerate(network.stems)]
    of_images = float(sum(sum(modules[name].values()) for name in first_layers))
    product = 2.0 * len(batch.images) * training.criterion.prototypes.numel()  # samples with prototypes
    flops = {
        "forward": forward, "losses": product, "backward": 2 * forward - of_images + product,
        "second forward": second, "prototype step": 2 * product,
    }  # fmt: skip
    return {stage: flops.get(stage, 0.0) for stage in STAGES}


def _first(module: nn.Module) -> str:
    """Name of the first layer within."""
    return next(iter(module.named_children()))[0]
