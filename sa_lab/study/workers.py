"""Many runs, each in a process of its own: one that fails stops no other, and none stays behind."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cloudpickle
from tqdm.auto import tqdm

from sa_lab import experiment
from sa_lab.config import DataConfig, ExperimentConfig
from sa_lab.data import list_images, prepare
from sa_lab.dials import plain
from sa_lab.disk import reason_of
from sa_lab.runs import Run, loss_name
from sa_lab.schema import Listing, Refusal
from sa_lab.study.engines import Dask, Loky
from sa_lab.training import processes
from sa_lab.training.loop import plan
from sa_lab.training.objective import OwnLoss
from sa_lab.weights import check_weights


class FailedRunsError(Refusal):
    """Some runs of several could not be finished; the others are."""


def run_all(
    configs: Sequence[ExperimentConfig], jobs: int = 1, progress: bool = True, scheduler: str = ""
) -> list[Run]:
    """Finished and measured runs of several configs; as `run_each`, except that it raises an error if some failed.

    Raises:
        FailedRunsError: which runs failed, each with its reason, after all others were finished.
    """
    done = run_each(configs, jobs, progress, scheduler=scheduler)
    named = [(f"{loss_name(config)}, seed {config.seed}", one) for config, one in zip(configs, done, strict=True)]
    refuse_failed([(name, one) for name, one in named if isinstance(one, str)], len(configs))
    return [one for one in done if isinstance(one, Run)]


def refuse_failed(failed: Sequence[tuple[str, str]], count: int) -> None:
    """Raise `FailedRunsError` if some of ``count`` runs failed, with the reason of each."""
    if failed:
        told = "\n  ".join(f"{name}: {why}" for name, why in failed)
        raise FailedRunsError(
            f"{len(failed)} of {count} runs failed; the others are finished, the same call goes on:\n  {told}"
        )


def run_each(
    configs: Sequence[ExperimentConfig],
    jobs: int = 1,
    progress: bool = True,
    own_loss: OwnLoss | None = None,
    scheduler: str = "",
) -> list[Run | str]:
    """Finished and measured runs of several configs, ``jobs`` at a time, each in its process.

    Asked to stop, by Ctrl-C or SIGTERM, the workers save a checkpoint and end; so they do when this process is gone.

    Args:
        configs: one or more.
        jobs: at a time; a cluster has its own number.
        progress: show a bar of all, and a line for each that is trained.
        own_loss: the loss of those configs that have a loss of one's own; their ``loss.own`` is its name.
        scheduler: address of a Dask cluster, in place of workers of this machine.

    Returns:
        For each config its run, or why it failed.

    Raises:
        ValueError: ``jobs`` below 1.
        Refusal: no such cluster.
        KeyboardInterrupt: asked to stop.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}, expected at least 1")
    found: dict[int, Run | str] = {}
    steps: dict[int, int] = {}
    listings: dict[DataConfig, Listing] = {}  # each data set is listed once
    for i, config in enumerate(configs):  # what cannot work is told before any image is read
        try:
            if config.data not in listings:
                listings[config.data] = list_images(config.data)
            planned = plan(config, listings[config.data])
            check_weights(config.model.backbone, config.model.weights)
            steps[i] = config.train.num_epochs * len(planned.sampler)
        except (ValueError, Refusal, OSError) as error:
            found[i] = str(error)
    cluster = Dask(scheduler) if scheduler and steps else None  # told before images are prepared, if there is none
    with processes.signals_handled(_interrupt, signal.SIGTERM):
        for data in dict.fromkeys(configs[i].data for i in steps):
            try:
                prepare(data, progress, listings[data])
            except (ValueError, Refusal, OSError) as error:  # of this data set no run can be made
                found |= {i: str(error) for i in steps if configs[i].data == data}
        for i in [i for i in steps if i not in found]:  # what is finished needs no worker
            if there := experiment.finished(configs[i], listings[configs[i].data]):
                found[i] = there
        steps = {i: count for i, count in steps.items() if i not in found}
        engine = cluster or (Loky(min(jobs, len(steps))) if steps else None)
        if engine:
            try:
                folders = {i: experiment.run_folder(configs[i], listings[configs[i].data]) for i in steps}
                board = _Board({i: (folders[i], steps[i]) for i in steps}, len(configs), progress)
                found |= _asked(engine, {i: configs[i] for i in steps}, cloudpickle.dumps(own_loss), board)
                engine.close()
            except BaseException:
                engine.stop()
                raise
    return [found[i] for i in range(len(configs))]


def _asked(
    engine: Dask | Loky, configs: Mapping[int, ExperimentConfig], own_loss: bytes, board: _Board
) -> dict[int, Run | str]:
    """The runs of an engine, or why they failed, as they come."""
    found: dict[int, Run | str] = {}
    pending = {i: engine.submit(config, own_loss) for i, config in configs.items()}
    with board:
        while pending:
            for i in [i for i, future in pending.items() if future.done()]:
                try:
                    found[i] = Run(Path(pending.pop(i).result()))
                except Exception as error:  # a run that fails stops no other one
                    found[i] = reason_of(error, most=2000)
                board.finished(i)
            board.look()
            time.sleep(_TICK)
    return found


_TICK = 0.2
"""Seconds between two looks at the workers."""


def _interrupt(*_: object) -> None:
    """A plea to end this process (SIGTERM) is a `KeyboardInterrupt`, as Ctrl-C is."""
    raise KeyboardInterrupt("stopped; the same call goes on with what is finished")


class _Board:
    """A bar of all runs, and a line for each that is trained, wherever: it looks at the rows in their folders.

    Args:
        runs: folder and steps of each that is to be trained.
        count: of all, with those that are there already.
        progress: show them; the lines only where something shows them in place, not in a log.
    """

    def __init__(self, runs: Mapping[int, tuple[Path, int]], count: int, progress: bool) -> None:
        self._runs = dict(runs)
        self._lines: dict[int, tqdm] = {}
        self._detailed = progress and (sys.stderr.isatty() or "ipykernel" in sys.modules)
        self._begun = time.time()
        self._looked = 0.0
        # what is there already says nothing of the time that the others take
        there = count - len(runs)
        told = f"runs, {there} there already" if there else "runs"
        self._bar = tqdm(None, told, count, initial=there, unit="run", disable=not progress, smoothing=0)

    def __enter__(self) -> _Board:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._lines.values():
            line.close()
        self._bar.close()

    def finished(self, i: int) -> None:
        """A run has come to its end, or failed."""
        del self._runs[i]
        if i in self._lines:
            self._lines.pop(i).close()
        self._bar.update()

    def look(self) -> None:
        """Show how far the runs are, once a second."""
        if not self._detailed or time.monotonic() < self._looked + 1:
            return
        self._looked = time.monotonic()
        for i, (folder, steps) in self._runs.items():
            try:
                file = folder / "metrics.csv"
                if file.stat().st_mtime < self._begun:
                    continue  # of a former call
                rows = file.read_bytes().count(b"\n") - 1
            except OSError:
                continue
            if i not in self._lines:
                taken = {line.pos for line in self._lines.values()}
                place = next(n for n in range(1, len(taken) + 2) if -n not in taken)
                shape = "{desc}: |{bar:20}| {n_fmt} of {total_fmt} steps"
                self._lines[i] = tqdm(
                    total=steps, desc=plain(folder.name)[:70], position=place, leave=False, bar_format=shape
                )
            self._lines[i].n = rows
            self._lines[i].refresh()
        self._bar.refresh()
