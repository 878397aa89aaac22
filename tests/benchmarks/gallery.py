"""How long a query takes in a large gallery, descriptors on the disk: `sa_lab.evaluation.search.nearest`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sa_lab.disk import new_array
from sa_lab.evaluation.search import nearest
from sa_lab.schema import Embeddings

SIZES = (10_000, 100_000, 200_000)
TINY = (4, 1280)
"""Parts and channels of the preset tiny."""


def descriptors(folder: Path, count: int, parts: int, channels: int) -> Embeddings:
    """Random ones, float16 on the disk."""
    rng = np.random.default_rng(0)
    both = {}
    for name in ("part_features", "embeddings"):
        both[name] = new_array(folder / f"{name}-{count}.npy", (count, parts, channels), np.float16)
        for start in range(0, count, 1000):
            rows = both[name][start : start + 1000]
            rows[:] = rng.standard_normal(rows.shape, dtype=np.float32)
    ids = np.zeros(count, dtype=np.int64)
    return Embeddings(**both, person_ids=ids, camera_ids=ids, modality=ids, paths=tuple(map(str, range(count))))


def seconds(count: int, repeats: int = 5) -> list[float]:
    """Of one query in a gallery of ``count`` images of the preset tiny, after a first one, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        gallery = descriptors(Path(folder), count, *TINY)
        query = gallery.subset(np.array([count // 2]))
        taken = []
        for _ in range(repeats + 1):
            begin = time.perf_counter()
            best, _ = nearest(query, gallery, 10)
            taken.append(time.perf_counter() - begin)
            if best[0, 0] != count // 2:
                raise AssertionError(f"the picture itself is not found first, but {best[0, 0]}")
        return sorted(taken[1:])


def measure(device: torch.device) -> dict[str, Any]:
    """Median, shortest and longest seconds of a query by the number of images searched; on the CPU."""
    del device
    taken = {count: seconds(count) for count in SIZES}
    return {str(count): {"seconds": one[len(one) // 2], "low": one[0], "high": one[-1]} for count, one in taken.items()}


def sentence(result: dict[str, Any]) -> str:
    """What the guide says of it."""
    told = [
        f"{result[str(count)]['seconds']:.2f} s [{result[str(count)]['low']:.2f}, {result[str(count)]['high']:.2f}] in "
        f"{count:,}"
        for count in SIZES
    ]
    most = SIZES[-1] / result[str(SIZES[-1])]["seconds"]
    speed = f"about {round(most, -4):,.0f} pictures a second"
    return f"{', '.join(told)}, so {speed} (median, shortest and longest of five, two CPU cores, `make bench`)"
