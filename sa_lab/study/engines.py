"""Where the runs of a sweep are computed: worker processes of this machine (loky), or those of a Dask cluster.

Both are asked in the same way: `submit` gives a future, `stop` ends what is under way, and a worker that dies is told
by the future of its run alone.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from joblib.externals.loky import ProcessPoolExecutor
from threadpoolctl import threadpool_limits

from sa_lab import experiment
from sa_lab.config import ExperimentConfig
from sa_lab.disk import Refusal, home, tell
from sa_lab.provenance import known_as
from sa_lab.runs import measure_folder
from sa_lab.training import processes

GRACE = 8.0
"""Seconds that workers have to save a checkpoint when they are asked to end."""


class Loky:
    """``jobs`` worker processes of this machine, which share its cores, and its GPUs in turn.

    Each is a pool of its own, so that one that is killed takes only its own run with it. Loky's workers need no
    ``if __name__ == "__main__"`` in a user's script, as those of multiprocessing do.
    """

    def __init__(self, jobs: int) -> None:
        # loky begins a worker anew whose memory has grown by 300 MB, and would say so each time
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
        self._threads = max(1, processes.cores() // jobs)
        gpus = _visible_gpus()
        self._lines: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for i in range(jobs):
            self._lines.put({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {})
        self._pools: dict[int, ProcessPoolExecutor] = {}
        self._changing = threading.Lock()  # held while a worker begins, so that `stop` never meets one half begun
        self._stopped = False
        self._waiters = ThreadPoolExecutor(jobs, "sa-lab-worker", self._begin)

    def _begin(self) -> None:
        """Of the thread that waits for one worker: which GPU this has."""
        with self._changing:
            self._pools[threading.get_ident()] = self._pool(self._lines.get())

    def _pool(self, environment: dict[str, str]) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, initializer=_begin_worker, initargs=(self._threads,), env=environment)

    def submit(self, config: ExperimentConfig, own_loss: bytes) -> Future[str]:
        """Hand over a run; the future gives its folder. ``own_loss``: the pickled loss, or pickled None."""
        return self._waiters.submit(self._finish, config, own_loss)

    def _finish(self, config: ExperimentConfig, own_loss: bytes) -> str:
        line = threading.get_ident()
        pool = self._pools[line]
        try:
            with self._changing:
                if self._stopped:
                    raise Refusal("stopped before it began")
                pending = pool.submit(_in_worker, config, own_loss, str(home()))
            return str(pending.result())
        except BrokenProcessPool as broken:
            with self._changing:
                if not self._stopped:
                    self._pools[line] = self._pool(pool._env or {})
            raise Refusal("its worker was killed, or ran out of memory") from broken

    def stop(self) -> None:
        """End what is under way within `GRACE` seconds; it goes on from its checkpoint another time."""
        with self._changing:
            self._stopped, pools = True, list(self._pools.values())
        self._waiters.shutdown(wait=False, cancel_futures=True)
        workers = [worker for pool in pools for worker in list((pool._processes or {}).values())]
        for worker in workers:
            worker.terminate()
        deadline = time.monotonic() + GRACE
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
            if worker.is_alive():
                worker.kill()
        for pool in pools:
            pool.shutdown(wait=False, kill_workers=True)

    def close(self) -> None:
        """Let go of the workers, which have nothing to do any more."""
        self._waiters.shutdown(wait=True)
        for pool in self._pools.values():
            pool.shutdown(wait=True)


def _visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, one GPU each."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


def _begin_worker(threads: int) -> None:
    """Threads of torch and of NumPy in this process: where all have more than there are cores, they wait in turn. It
    ends with its parent, even if that was killed."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    processes.end_with_parent()


def _in_worker(config: ExperimentConfig, own_loss: bytes, place: str) -> str:
    """One run in a worker process; asked to stop, it ends, for other runs wait in its line."""
    try:
        return _finish(config, own_loss, place)
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)


def _finish(config: ExperimentConfig, sent: bytes, place: str, watch: Any = None) -> str:
    """The folder of one finished and measured run; ``place``: the data folder of who asks for it."""
    os.environ["SA_LAB_HOME"] = place
    own_loss = cloudpickle.loads(sent) if config.loss.own else None
    if own_loss:
        known_as(own_loss, config.loss.own)
    folder = experiment.run(config, watch=watch, progress=False, own_loss=own_loss).folder
    measure_folder(folder, progress=False)
    return str(folder)


class Dask:
    """The workers of a running Dask cluster, each with one thread and the data folder of this machine in its file
    system. A run whose worker dies is begun again on another one, from its checkpoint.

    It uses Dask itself, not joblib's back end for it, which never reports a run that keeps killing its workers, and
    waits for the others without end.

    Args:
        address: of the scheduler, such as tcp://127.0.0.1:8786.

    Raises:
        Refusal: Dask is not installed, or no scheduler answers.
    """

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as missing:
            raise Refusal("a Dask cluster needs the extra cluster: pip install 'sa-lab[cluster]'") from missing
        try:
            self._client: Any = Client(address, timeout=10, set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise Refusal(f"no Dask scheduler answers at {address!r}: {error}") from error
        self._futures: list[Any] = []
        if not self._client.scheduler_info()["workers"]:
            tell(f"the cluster at {address} has no workers yet; waiting for one")

    def submit(self, config: ExperimentConfig, own_loss: bytes) -> Any:
        """As `Loky.submit`."""
        future = self._client.submit(_on_cluster, config, own_loss, str(home()), pure=False)
        self._futures.append(future)
        return future

    def stop(self) -> None:
        """Workers end what is under way after the step that they are at."""
        self._client.cancel(self._futures)
        self.close()

    def close(self) -> None:
        """Leave the cluster, which goes on."""
        self._futures.clear()
        self._client.close(timeout=GRACE)


_ONE = threading.Lock()
"""Held by the run that a worker of Dask trains: torch's state is that of the process."""


class _CancelledError(Exception):
    """Nobody waits for this run any more."""


def _on_cluster(config: ExperimentConfig, own_loss: bytes, place: str) -> str:
    """One run in a worker of Dask, between whose steps it looks whether somebody still waits for it."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.get_current_task()

    def watch(_: object) -> None:
        state = worker.state.tasks.get(task)
        if state is None or state.state == "cancelled":
            raise _CancelledError

    if not Path(place).is_dir():
        raise Refusal(f"the worker at {worker.address} has no folder {place}; all workers need one file system")
    with _ONE:
        return _finish(config, own_loss, place, watch)
