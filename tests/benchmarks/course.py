"""How long the main job takes: what `make run` does after it has installed the packages, in an empty data folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from sa_lab.training import processes


def measure(device: torch.device) -> dict[str, Any]:
    """Minutes of one main job, which also compiles what a later one finds; on the CPU."""
    del device
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "SA_LAB_HOME": home,
            "NUMBA_CACHE_DIR": str(Path(home, "numba")),
            "CUDA_VISIBLE_DEVICES": "",
        }
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "sa_lab", "course"], env=environment, check=True)
        return {"minutes": (time.perf_counter() - begin) / 60, "cores": processes.cores()}


def sentence(result: dict[str, Any]) -> str:
    """What README says of it."""
    return f"`make run` took {result['minutes']:.0f} minutes on {result['cores']} cores, after installation."
