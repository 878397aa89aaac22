"""The engine, and one training on several processes: a GPU each, on one machine or many.

On this machine `launch` starts them, also from a notebook: they find each other by a private file and talk over
loopback, so nobody on the network can join. On many machines the command torchrun does, whose network must be trusted.
"""

from __future__ import annotations

import atexit
import logging
import math
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed

from sa_lab.config import TrainConfig
from sa_lab.dials import plain_lines
from sa_lab.disk import reason_of, tell
from sa_lab.schema import Refusal

TIMEOUT = "SA_LAB_TIMEOUT"
"""Environment variable: seconds that a process waits for the others before it gives up; by default 1800, because they
wait while the first one evaluates."""


class LostProcessError(Refusal):
    """Another process of the training has died or does not answer."""


def fabric_of(train: TrainConfig) -> Fabric:
    """The engine for the config's device and precision, on as many processes as the launcher has started.

    Raises:
        ValueError: a device that is not there, or a precision that works on one process only.
    """
    if train.threads:
        torch.set_num_threads(train.threads)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of every process that it starts
    engine: dict[str, Any] = {"precision": train.precision}
    if size() > 1:
        if train.precision == "64-true":
            raise ValueError("train.precision is '64-true', expected another one on several processes")
        limit = timedelta(seconds=float(os.environ.get(TIMEOUT, "1800")))
        strategy = DDPStrategy(cluster_environment=TorchElasticEnvironment(), timeout=limit)
        engine |= {"strategy": strategy, "num_nodes": size() // _here()}
    try:
        if train.precision == "16-mixed":  # Fabric would take bfloat16 on a CPU
            kind = Fabric(accelerator=train.device, devices=1).device.type
            scaled = MixedPrecision(train.precision, kind, torch.amp.GradScaler(kind))
            engine |= {"precision": None, "plugins": scaled}
        fabric = Fabric(accelerator=train.device, devices=_here(), **engine)
    except (RuntimeError, ValueError) as error:  # Fabric's words for a device that is not there
        raise ValueError(f"train.device is {train.device!r}, which this machine does not have; use auto") from error
    if size() > 1:
        if is_member() and not distributed.is_initialized():  # else by the address that torchrun gives
            store = distributed.FileStore(os.environ[_STORE], size())  # type: ignore[attr-defined]
            backend = "nccl" if fabric.device.type == "cuda" else "gloo"
            distributed.init_process_group(backend, store=store, rank=rank(), world_size=size(), timeout=limit)
        fabric.launch()  # joins the group
        atexit.register(_leave_group)
    return fabric


def scaler_of(fabric: Fabric) -> torch.amp.GradScaler | None:
    """What scales the losses of an engine of half precision."""
    scaler: torch.amp.GradScaler | None = getattr(fabric.strategy.precision, "scaler", None)
    return scaler


def _leave_group() -> None:
    """End gloo's threads while Python still runs: one that frees a tensor later aborts the process."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def size() -> int:
    """How many processes train together."""
    return int(os.environ["WORLD_SIZE"]) if _is_launched() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return int(os.environ["RANK"]) if _is_launched() else 0


def is_first() -> bool:
    """Whether this process writes the files and talks to the user."""
    return rank() == 0


def _here() -> int:
    """How many of them run on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if _is_launched() else 1


def is_member() -> bool:
    """Whether `launch` has started this process."""
    return _STORE in os.environ


def _is_launched() -> bool:
    return is_member() or distributed.is_torchelastic_launched()


def mean(values: Tensor) -> Tensor:
    """``values`` averaged over the processes, in place; no process waits for its own GPU."""
    if size() > 1:
        distributed.all_reduce(values)
        values /= size()
    return values


def agree_with_first(value: bool = True) -> bool:
    """The first process's decision; the others wait for it, and it waits for none of them.

    Raises:
        LostProcessError: it does not come.
    """
    if size() == 1:
        return value
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    with lost_process_errors():
        answer = torch.tensor([value], device=device, dtype=torch.uint8)
        distributed.broadcast(answer, src=0)
        return bool(answer.item())


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


_STORE = "SA_LAB_STORE"
_GRACE = 30.0
"""Seconds that a process has to end by itself: after the first one has ended, or without its parent."""


def check_number(processes: int) -> None:
    """Check that so many processes can be started on this machine.

    Raises:
        ValueError: the number is below 1, or above the machine's processors and GPUs.
    """
    most = max(2, os.cpu_count() or 1, torch.cuda.device_count())
    if not 1 <= processes <= most:
        raise ValueError(f"processes is {processes}, expected 1 to {most} on this machine")


def launch(function: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Call ``function(*arguments)`` in new processes on this machine, and wait for all of them.

    Asked to stop, by Ctrl-C or SIGTERM, it asks the first one, which saves a checkpoint; asked again, or after a
    minute, it ends all. A terminal's own Ctrl-C does not reach them.

    Args:
        function: at the top of a module, so that a new process finds it; it calls `fabric_of` itself.
        arguments: anything that cloudpickle can pickle, including functions of a notebook.
        processes: at least 1; on GPUs at most as many as there are.

    Raises:
        LostProcessError: one of them failed, with what it said; the others were ended.
        KeyboardInterrupt: this process was asked to stop.
        ValueError: see `check_number`, or this is already one of several processes.
    """
    if size() > 1:
        raise ValueError(f"processes is {processes}, expected no launch inside another one")
    check_number(processes)
    context = multiprocessing.get_context("spawn")
    pleas: list[int] = []  # to stop, as they come
    heard = signals_handled(lambda number, _: pleas.append(number), signal.SIGINT, signal.SIGTERM)
    with tempfile.TemporaryDirectory(prefix="sa-lab-") as private, heard:
        place = Path(private)
        sent = cloudpickle.dumps((function, arguments))
        of = [(rank, processes, place, sent) for rank in range(processes)]
        members = [context.Process(target=_take_part, args=one) for one in of]
        try:
            with _interrupts_held_back():
                for member in members:
                    member.start()
            ended = _first_to_end(members, pleas)
            failed = None if pleas else _failure(ended, members, place)
        finally:
            for member in members:
                if member.is_alive():
                    member.kill()
                    member.join()
    if pleas:
        raise KeyboardInterrupt("stopped; the same call goes on with what is finished")
    if failed:
        raise LostProcessError(failed)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Processes that are started in the block never hear Ctrl-C, while they load neither; this one hears it after."""
    if not hasattr(signal, "pthread_sigmask"):  # not on Windows
        yield
        return
    resource_tracker.ensure_running()  # which would let them through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _first_to_end(members: Sequence[BaseProcess], pleas: Sequence[int]) -> int:
    """Wait until all processes have ended, or until those that are left had their time; which one ended first, of those
    that failed if there are any."""
    first: list[int] = []
    deadline = math.inf
    heard, asked, told, ending = 0, math.inf, False, False
    while (alive := [one for one in members if one.is_alive()]) and time.monotonic() < deadline and len(pleas) < 2:
        connection.wait([one.sentinel for one in alive], timeout=0.2)
        if len(pleas) > heard and members[0].is_alive():
            members[0].terminate()
            heard, asked = len(pleas), time.monotonic()
            deadline = min(deadline, asked + 2 * _GRACE)
        if time.monotonic() > asked + _TOLD and not told:
            told = True
            tell(f"process 0 of 0..{len(members) - 1} is asked to stop; asked again (Ctrl-C), all are ended")
        failed = [rank for rank, one in enumerate(members) if one.exitcode]
        if not ending and (failed or members[0].exitcode == 0):
            first, ending = failed, True
            deadline = min(deadline, time.monotonic() + (_TOLD if failed or pleas else _GRACE))
    return first[0] if first else 0


_TOLD = 5.0
"""Seconds that the other processes have to end, and to say what was wrong, when one has failed."""


def _failure(ended: int, members: Sequence[BaseProcess], place: Path) -> str | None:
    """What was wrong, in one line; where several failed, what the first one said."""
    code, of = members[ended].exitcode, f"0..{len(members) - 1}"
    said = sorted(place.glob("*-failed"), key=lambda file: file.stat().st_mtime_ns)
    if code and not (place / f"{ended}-failed").is_file():
        why = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"process {ended} of {of} {why}; the same command goes on from the last checkpoint"
    if said:
        return said[0].read_text(encoding="utf-8")
    if left := [rank for rank, one in enumerate(members) if one.is_alive()]:
        tell(f"process {left[0]} of {of} did not end with the first one; it was ended")
    return None


def _take_part(rank: int, processes: int, place: Path, sent: bytes) -> None:
    """What a new process does: it learns its place, and says why it failed."""
    end_with_parent()
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    os.environ |= {
        _STORE: str(place / "store"), "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes), "GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback,
    }  # fmt: skip
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    try:
        function, arguments = cloudpickle.loads(sent)
        function(*arguments)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BaseException as error:
        of = "" if isinstance(error, LostProcessError) else f"process {rank} of 0..{processes - 1} failed: "
        (place / f"{rank}-failed").write_text(of + reason_of(error, most=2000), encoding="utf-8")
        if not isinstance(error, (ValueError, OSError, Refusal)):
            print(plain_lines(traceback.format_exc()), file=sys.stderr, flush=True)  # what a user cannot mend
        sys.exit(1)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """This process is asked to end when its parent is gone, even if that was killed; a training saves a checkpoint."""
    threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        if os.name == "posix":  # where loky's workers hold each other's pipes open, which join waits for
            while os.getppid() == parent.pid:
                time.sleep(0.5)
        else:
            parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(1)


@contextmanager
def signals_handled(handler: Any, *numbers: int) -> Iterator[None]:
    """Pass these signals to ``handler`` in the block; do nothing outside the main thread, which alone hears them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)
