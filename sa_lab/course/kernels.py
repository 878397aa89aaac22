"""Kernels that execute some chapters at a time, and stop together."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, ClassVar

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop

from sa_lab.training import processes


class StoppedError(Exception):
    """A chapter does not begin, because all have to stop."""


class Kernels:
    """The kernels of some chapters at a time. Ctrl-C and SIGTERM go to each of them, which saves a checkpoint; one that
    goes on is killed after `PATIENCE` seconds, or at a second plea.

    An exception in this process instead could be lost where it meets a callback of an event loop, and would leave the
    kernels to themselves. Outside the main thread no signal arrives.

    They talk over sockets in a private folder where the system has such; over TCP each would warn that others may
    listen.

    Args:
        threads: of each kernel, where the environment does not say.

    Raises:
        KeyboardInterrupt: at the end of the block, if there was a plea.
    """

    PATIENCE = 5.0
    """Seconds that a chapter has to save what it trains, once it is asked to stop."""

    def __init__(self, threads: int) -> None:
        self.environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        self.running: list[str] = []
        """Names of the chapters that are executed now."""
        self.stopped = False
        self._failed = False  # stopped because a chapter failed, not because somebody asked
        self._numbers = itertools.count()
        self._asked_in: list[str] | None = None
        self._begun: list[_Kernel] = []
        self._stack = ExitStack()

    def __enter__(self) -> Kernels:
        self._place = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="sa-lab-"))
        self._stack.enter_context(processes.signals_handled(self._asked, signal.SIGINT, signal.SIGTERM))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        if self._asked_in is not None and not self._failed:
            where = f" in {' and '.join(self._asked_in)}" if self._asked_in else ""
            raise KeyboardInterrupt(f"stopped{where}; the same command goes on with what is finished")

    @contextmanager
    def one(self, name: str) -> Iterator[type[AsyncKernelManager]]:
        """While a thread executes the chapter ``name``: the class that makes its kernel, which its client ends.

        Raises:
            StoppedError: all have to stop.
        """
        if self.stopped:
            raise StoppedError(name)
        self.running.append(name)
        try:
            with closing(ensure_event_loop()):  # this thread's, which nobody else would close
                yield type("Kernel", (_Kernel,), {"among": self})
        finally:
            self.running.remove(name)

    def place_for(self, kernel: _Kernel) -> dict[str, str]:
        """Where a new kernel listens, which is stopped with the others from now on."""
        self._begun.append(kernel)
        own = os.name == "posix" and len(self._place) < 80  # a socket cannot have a longer path
        return {"transport": "ipc", "ip": f"{self._place}/{next(self._numbers)}"} if own else {}

    def fail(self) -> None:
        """A chapter has failed: stop the others."""
        self._failed = self._failed or self._asked_in is None
        self._stop()

    def _stop(self) -> None:
        """Interrupt all kernels, and kill those that go on; no other one begins."""
        if not self.stopped:
            self.stopped = True
            for kernel in self._begun:
                kernel.send(signal.SIGINT)
            patience = threading.Timer(self.PATIENCE, self._kill)
            patience.daemon = True
            patience.start()

    def _asked(self, *_: object) -> None:
        if self._asked_in is None:
            self._asked_in = sorted(self.running)
        if self.stopped:
            self._kill()
        self._stop()

    def _kill(self) -> None:
        for kernel in self._begun:
            kernel.kill()


class _Kernel(AsyncKernelManager):
    """The kernel of a chapter, which can be stopped at any moment."""

    among: ClassVar[Kernels]
    listens = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**self.among.place_for(self), **kwargs)

    async def _async_start_kernel(self, **kwargs: Any) -> None:
        await super()._async_start_kernel(**kwargs | {"env": self.among.environment})
        if self.among.stopped:
            self.kill()

    start_kernel = _async_start_kernel

    def client(self, **kwargs: Any) -> Any:
        """One that notes when the kernel has loaded itself."""
        made: Any = super().client(**kwargs)
        wait = made.wait_for_ready

        async def wait_for_ready(*args: Any, **options: Any) -> None:
            await wait(*args, **options)
            self.listens = True

        made.wait_for_ready = wait_for_ready
        return made

    def send(self, number: int) -> None:
        """Send a signal, or kill the kernel while it loads itself, when it cannot be interrupted."""
        if process := getattr(self.provisioner, "process", None):
            process.send_signal(number) if self.listens else process.kill()

    def kill(self) -> None:
        """End it at once; do nothing if it has ended."""
        if process := getattr(self.provisioner, "process", None):
            process.kill()
