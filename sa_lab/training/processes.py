"""The engine, and one training on several processes: a GPU each, on one machine or many.

The processes are started by torch's elastic launcher: by `launch` (on this machine, also from a notebook) or by the
command torchrun (on many). It ends all of them as soon as one has died.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from sa_lab.config import TrainConfig
from sa_lab.schema import Refusal

TIMEOUT = "SA_LAB_TIMEOUT"
"""Environment variable: seconds that a process waits for the others before it gives up; by default 1800, for they wait
while the first one evaluates."""


class LostProcessError(Refusal):
    """Another process of the training has died or does not answer."""


def fabric_of(train: TrainConfig) -> Fabric:
    """The engine for the config's device and precision, on as many processes as the launcher has started.

    Raises:
        ValueError: a device that is not there, or a precision that is for one process.
    """
    if train.threads:
        torch.set_num_threads(train.threads)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of every process that it starts
    several: dict[str, Any] = {}
    if size() > 1:
        if train.precision == "64-true":
            raise ValueError("train.precision is '64-true', expected 32-true or bf16-mixed on several processes")
        limit = timedelta(seconds=float(os.environ.get(TIMEOUT, "1800")))
        strategy = DDPStrategy(cluster_environment=TorchElasticEnvironment(), timeout=limit)
        several = {"strategy": strategy, "num_nodes": size() // _here()}
    try:
        fabric = Fabric(accelerator=train.device, devices=_here(), precision=train.precision, **several)
    except (RuntimeError, ValueError) as error:  # Fabric's words for a device that is not there
        raise ValueError(f"train.device is {train.device!r}, which this machine does not have; auto chooses") from error
    if several:
        fabric.launch()  # joins the group
        atexit.register(_leave_group)
    return fabric


def _leave_group() -> None:
    """End gloo's threads while Python still runs: one that frees a tensor later aborts the process."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def size() -> int:
    """How many processes train together."""
    return int(os.environ["WORLD_SIZE"]) if distributed.is_torchelastic_launched() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return int(os.environ["RANK"]) if distributed.is_torchelastic_launched() else 0


def is_first() -> bool:
    """Whether this process writes the files and talks to the user."""
    return rank() == 0


def _here() -> int:
    """How many of them run on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if distributed.is_torchelastic_launched() else 1


def mean(values: Tensor) -> Tensor:
    """``values`` averaged over the processes, in place; no process waits for its own GPU."""
    if size() > 1:
        distributed.all_reduce(values)
        values /= size()
    return values


def agree_with_first(value: bool = True) -> bool:
    """What the first process says of it; all wait for one another.

    Raises:
        LostProcessError: one does not come.
    """
    if size() == 1:
        return value
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    with lost_process_errors():
        answer = torch.tensor([value], device=device, dtype=torch.uint8)
        answers = [torch.empty_like(answer) for _ in range(size())]
        distributed.all_gather(answers, answer)
        return bool(answers[0].item())


@contextmanager
def lost_process_errors() -> Iterator[None]:
    """Turn what the communication library says of a process that is gone into `LostProcessError`."""
    try:
        yield
    except RuntimeError as error:
        words = ("closed by peer", "reset by peer", "timed out", "timeout", "broken pipe", "socket", "nccl")
        of_torch = type(error) is RuntimeError or isinstance(error, distributed.DistError)
        if size() == 1 or not of_torch or not any(word in str(error).lower() for word in words):
            raise
        raise LostProcessError(
            f"process {rank()} of 0..{size() - 1} has lost another one ({str(error).splitlines()[0]}); after "
            f"{os.environ.get(TIMEOUT, '1800')} s without an answer it gives up ({TIMEOUT}); the same command goes on "
            "from the last checkpoint"
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Give this process its signal handlers back, which the launcher replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def launch(function: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Call ``function(*arguments)`` in so many new processes of this machine, and wait for all of them.

    Args:
        function: at the top of a module, so that a new process finds it; it calls `fabric_of` itself.
        arguments: what can be pickled.
        processes: at least 1; on GPUs at most as many as there are.

    Raises:
        LostProcessError: one of them failed, with what it said; the others were ended.
        KeyboardInterrupt: this process was asked to stop.
        ValueError: ``processes`` is below 1, or this is already one of several processes.
    """
    if processes < 1 or size() > 1:
        raise ValueError(f"processes is {processes}, expected at least 1, and none inside of another launch")
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=uuid.uuid4().hex, max_restarts=0,
        rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", start_method="spawn",
    )  # fmt: skip
    try:
        with _own_signals():
            elastic_launch(config, function)(*arguments)
    except SignalException as stop:
        raise KeyboardInterrupt("stopped; the same call goes on from the last checkpoint") from stop
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        said = failure.message
        if failure.exitcode < 0:
            said = f"it was ended by signal {-failure.exitcode}"
        raise LostProcessError(f"process {number} of 0..{processes - 1} failed: {said}") from error
