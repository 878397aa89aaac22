"""What it costs that a run survives a loss of power: files and folders are synced where its state is replaced."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks import sizes
from sa_lab.config import TrainConfig
from sa_lab.training.fit import fit


def measure(device: torch.device) -> dict[str, Any]:
    """A training of the preset tiny, its checkpoints and its model among it.

    Returns:
        ``seconds`` of the whole and of ``synced``, ``share``, and how many ``calls`` there were.
    """
    config = sizes.config_of("tiny", device, {"num_epochs": TrainConfig.num_epochs, "threads": 1})
    spent: list[float] = []
    sync = os.fsync

    def timed(handle: int) -> None:
        began = time.perf_counter()
        sync(handle)
        spent.append(time.perf_counter() - began)

    store = sizes.store_of(config, config.data.train_ids, 4)
    with tempfile.TemporaryDirectory() as folder, mock.patch("os.fsync", timed):
        began = time.perf_counter()
        fit(config, store, Path(folder), progress=False)
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "synced": sum(spent), "share": sum(spent) / seconds, "calls": len(spent)}
