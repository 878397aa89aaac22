"""How long a query takes in a large gallery, descriptors on the disk: `sa_lab.evaluation.search.nearest`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sa_lab.disk import new_array
from sa_lab.evaluation.search import nearest
from sa_lab.schema import Embeddings


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


def seconds(count: int, parts: int, channels: int, repeats: int = 5) -> list[float]:
    """Of one query, after a first one."""
    with tempfile.TemporaryDirectory() as folder:
        gallery = descriptors(Path(folder), count, parts, channels)
        query = gallery.subset(np.array([count // 2]))
        taken = []
        for _ in range(repeats + 1):
            begin = time.perf_counter()
            best, _ = nearest(query, gallery, 10)
            taken.append(time.perf_counter() - begin)
            assert best[0, 0] == count // 2
        return sorted(taken[1:])


if __name__ == "__main__":
    for size in map(int, sys.argv[1:] or ["100000"]):
        for name, shape in (("tiny", (4, 1280)), ("small", (6, 512))):
            found = seconds(size, *shape)
            print(f"{size:,} images, {name}: {found[0]:.2f} {found[len(found) // 2]:.2f} {found[-1]:.2f} s")
