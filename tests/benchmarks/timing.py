"""How a time, a rate and a memory are taken: two ways in turn, pair by pair; on the CPU each memory in a process of its
own."""

from __future__ import annotations

import gc
import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.nn import functional

Comparison = dict[str, float]
"""What `compare_in_turn` measures, by name."""


def compare_in_turn(
    plain: Callable[[], object],
    ours: Callable[[], object],
    rounds: int,
    warm_up: int,
    device: torch.device,
    count: int = 1,
) -> Comparison:
    """Call two ways of doing the same in turn, so that both meet the same state of the machine.

    Args:
        plain: the one, called first in each round.
        ours: the other.
        rounds: pairs that are timed, at least 1.
        warm_up: pairs before them that are not.
        device: a GPU's work is waited for.
        count: how many iterations, or batches, one call is.

    Returns:
        ``ratio``, the median over the rounds of the time of ``plain`` over that of ``ours``, above 1 where ours is
        faster, with ``low`` and ``high``, the smallest and the largest; ``plain_ms`` and ``ours_ms``, the median
        milliseconds of one of ``count``; ``rounds``.
    """
    pairs = [(seconds(plain, device), seconds(ours, device)) for _ in range(warm_up + rounds)][warm_up:]
    ratios = [theirs / mine for theirs, mine in pairs]
    plain_s, ours_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios),
        "plain_ms": 1e3 * plain_s / count, "ours_ms": 1e3 * ours_s / count, "rounds": rounds,
    }  # fmt: skip


def several(way: Iterator[object], device: torch.device) -> Callable[[], None]:
    """A call of `per_call` iterations of one way."""

    def call() -> None:
        for _ in range(per_call(device)):
            next(way)

    return call


def per_call(device: torch.device) -> int:
    """Iterations of one call: on a GPU, where a training is a step ahead of its rows, enough for that not to count."""
    return 10 if device.type == "cuda" else 1


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, from an idle device to an idle device."""
    _wait(device)
    start = perf_counter()
    call()
    _wait(device)
    return perf_counter() - start


@contextmanager
def full_precision() -> Iterator[None]:
    """Convolutions of a GPU in float32 without TF32, so that two ways of computing the same can be compared."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, dtype: torch.dtype = torch.float32, side: int = 2048, rounds: int = 7) -> float:
    """Floating-point operations a second of a large square matrix product.

    Args:
        device: where.
        dtype: of the factors; torch's settings of reduced precision are left as they are.
        side: rows and columns; 2048 keep a CPU busy, a GPU needs some 8192.
        rounds: products that are timed; their median counts.
    """
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    times = [seconds(lambda: left @ right, device) for _ in range(rounds + 2)][2:]
    return 2 * side**3 / statistics.median(times)


def best_rate(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations a second that the machine gives at best: of `matmul_rate`, or of a convolution.

    The convolution is 3x3 with as many channels in as out, channels last; libraries may do it with fewer
    multiplications than its definition has, which then count as if they had been done.
    """
    cuda = device.type == "cuda"
    side, images, channels, size = (8192, 128, 512, 32) if cuda else (2048, 32, 256, 16)
    pictures = torch.randn(images, channels, size, size, device=device).to(dtype, memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
    times = [seconds(lambda: functional.conv2d(pictures, kernel, padding=1), device) for _ in range(9)][2:]
    convolution = 2.0 * images * channels**2 * 9 * size**2 / statistics.median(times)
    return max(convolution, matmul_rate(device, dtype, side))


def peak_gb(function: Callable[..., object], *arguments: Any, device: torch.device) -> float:
    """Largest memory in GB (1e9 bytes) that a call ever holds, on the CPU in a process of its own.

    Args:
        function: at the top of a module, so that a new process finds it.
        arguments: of the call; they can be pickled.
        device: on the CPU all memory of the process counts, that of the loaded libraries too; on a GPU the tensors of
            the call, which this process makes.
    """
    if device.type != "cuda":
        return in_own_process(function, *arguments)[1]
    gc.collect()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    function(*arguments)
    return (torch.cuda.max_memory_allocated(device) - before) / 1e9


def both_gb(function: Callable[..., object], *arguments: Any, device: torch.device) -> dict[str, float]:
    """`peak_gb` of ``function("plain", ...)`` and ``function("ours", ...)``: entries of a `Comparison`."""
    return {f"{way}_gb": peak_gb(function, way, *arguments, device=device) for way in ("plain", "ours")}


def in_own_process(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What a call returns in a process of its own on the CPU, and its `peak_gb`; arguments as there.

    The process has as many threads as this one.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found: tuple[Any, float] = pool.submit(_called, function, arguments, torch.get_num_threads()).result()
    return found


def _called(function: Callable[..., Any], arguments: tuple[Any, ...], threads: int) -> tuple[Any, float]:
    torch.set_num_threads(threads)
    result = function(*arguments)
    return result, peak()


def peak() -> float:
    """The largest memory of this process so far, in GB.

    Linux counts it anew for each program (VmHWM); getrusage, asked elsewhere, also counts what the process was a copy
    of when it began.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
