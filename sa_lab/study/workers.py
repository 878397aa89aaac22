"""Many runs on one machine, each in a process of its own: one that fails stops no other, and none stays behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cloudpickle
import torch
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from sa_lab import experiment
from sa_lab.config import DataConfig, ExperimentConfig
from sa_lab.data import list_images, prepare
from sa_lab.disk import reason_of
from sa_lab.model import check_weights
from sa_lab.provenance import known_as
from sa_lab.runs import Run, loss_name, measure_folder
from sa_lab.schema import Listing, Refusal
from sa_lab.training import processes
from sa_lab.training.loop import plan
from sa_lab.training.objective import OwnLoss


class FailedRunsError(Refusal):
    """Some runs of several could not be finished; the others are."""


def run_all(configs: Sequence[ExperimentConfig], jobs: int = 1, progress: bool = True) -> list[Run]:
    """Finished and measured runs of several configs; as `run_each`, but that some failed is an error.

    Raises:
        FailedRunsError: which runs failed, each with its reason, after all others were finished.
    """
    done = run_each(configs, jobs, progress)
    if failed := {i: one for i, one in enumerate(done) if isinstance(one, str)}:
        told = "\n  ".join(f"{loss_name(configs[i])}, seed {configs[i].seed}: {why}" for i, why in failed.items())
        raise FailedRunsError(
            f"{len(failed)} of {len(configs)} runs failed; the others are finished, the same call goes on:\n  {told}"
        )
    return [one for one in done if isinstance(one, Run)]


def run_each(
    configs: Sequence[ExperimentConfig], jobs: int = 1, progress: bool = True, own_loss: OwnLoss | None = None
) -> list[Run | str]:
    """Finished and measured runs of several configs, ``jobs`` at a time, each in its process.

    Asked to stop, by Ctrl-C or SIGTERM, the workers save a checkpoint and end; so they do when this process is gone.

    Args:
        configs: one or more.
        jobs: at a time.
        progress: show a bar.
        own_loss: what those configs train with that have a loss of one's own; all their ``loss.own`` have its name.

    Returns:
        For each config its run, or why it failed.

    Raises:
        ValueError: ``jobs`` below 1.
        KeyboardInterrupt: asked to stop.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}, expected at least 1")
    found: dict[int, Run | str] = {}
    listings: dict[DataConfig, Listing] = {}  # each data set is listed once
    for i, config in enumerate(configs):  # what cannot work is told before any image is read
        try:
            if config.data not in listings:
                listings[config.data] = list_images(config.data)
            plan(config, listings[config.data])
            check_weights(config.model.backbone, config.model.weights)
        except (ValueError, Refusal, OSError) as error:
            found[i] = str(error)
    for data in dict.fromkeys(config.data for i, config in enumerate(configs) if i not in found):
        prepare(data, progress, listings[data])
    jobs = max(1, min(jobs, len(configs)))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    pool = ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker, initargs=(threads,)
    )
    with processes.signals_handled(_interrupt, signal.SIGTERM), pool:
        sent = cloudpickle.dumps(own_loss)
        waiting = {pool.submit(_run_quietly, one, sent): i for i, one in enumerate(configs) if i not in found}
        try:
            for future in tqdm(as_completed(waiting), total=len(waiting), unit="run", disable=not progress):
                try:
                    found[waiting[future]] = Run(future.result())
                except BrokenProcessPool:
                    found[waiting[future]] = "a worker was killed, or the memory did not suffice"
                except Exception as error:  # a run that fails stops no other one
                    found[waiting[future]] = reason_of(error, most=2000)
        except BaseException:
            for worker in list((pool._processes or {}).values()):
                worker.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [found[i] for i in range(len(configs))]


def _interrupt(*_: object) -> None:
    """A plea to end this process (SIGTERM) is a `KeyboardInterrupt`, as Ctrl-C is."""
    raise KeyboardInterrupt("stopped; the same call goes on")


def _begin_worker(threads: int) -> None:
    """Threads of torch and of NumPy in this process: where all have more than there are cores, they wait in turn. It
    ends with its parent, even if that was killed."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    processes.end_with_parent()


def _run_quietly(config: ExperimentConfig, sent: bytes) -> Path:
    """One run and its overlap in a worker process; asked to stop, it ends, for other runs wait in its line."""
    own_loss = cloudpickle.loads(sent) if config.loss.own else None
    if own_loss:
        known_as(own_loss, config.loss.own)
    try:
        folder = experiment.run(config, progress=False, own_loss=own_loss).folder
        measure_folder(folder, progress=False)
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)
    return folder
