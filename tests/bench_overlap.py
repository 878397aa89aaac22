"""Times and memory of the overlap measures at the full size of SYSU-MM01: 10,000 random descriptors of 400 identities.

Run by itself, in a process of its own: `python tests/bench_overlap.py`. Smaller sizes are shown, not recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sa_lab import __version__, overlap
from sa_lab.config import home
from sa_lab.disk import write_text
from sa_lab.schema import Embeddings

IMAGES, CHANNELS, IDENTITIES, RANK = 10_000, 15_360, 400, 64


def descriptors(images: int, channels: int, identities: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Persons and spectra in ``RANK`` directions, noise in all; filled in pieces, float16."""
    rng = np.random.default_rng(0)
    person_ids, modality = np.arange(images) % identities, np.arange(images) // identities % 2
    directions = rng.standard_normal((RANK, channels), np.float32) / channels**0.5
    people, spectra = rng.standard_normal((identities, RANK), np.float32), rng.standard_normal((2, RANK), np.float32)
    points = np.empty((images, channels), np.float16)
    for start in range(0, images, 256):
        rows = slice(start, start + 256)
        latent = people[person_ids[rows]] + 0.5 * spectra[modality[rows]]
        latent = latent + 0.5 * rng.standard_normal(latent.shape, np.float32)
        noise = rng.standard_normal((len(latent), channels), np.float32)
        points[rows] = latent @ directions + 4 * noise / channels**0.5
    return points, person_ids, modality


def measure(images: int, channels: int, identities: int) -> dict:
    """Seconds of each step, and the largest memory of this process in GB after it."""
    points, person_ids, modality = descriptors(images, channels, identities)
    paths = tuple(f"{i:06}" for i in range(images))
    whole = Embeddings(None, points[:, None], person_ids, modality + 1, modality, paths)
    seconds, memory = {}, {"descriptors": peak()}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        seconds[name], memory[name] = time.perf_counter() - start, peak()
        return result

    found = timed("measure", lambda: overlap.of_embeddings(whole, progress=True))
    drawn = timed("draw", lambda: overlap.picture(whole, identities))
    return {"kept": drawn.projection.kept, "measures": len(found), "seconds": seconds, "peak_gb": memory}


def peak() -> float:
    """The largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def sentence(result: dict) -> str:
    """What the README says of it."""
    measured, drawn = (round(result["seconds"][name]) for name in ("measure", "draw"))
    most = max(result["peak_gb"].values())
    return (
        f"{result['images']:,} float16 descriptors of {result['channels']:,} channels are measured in {measured} s\n"
        f"and drawn by UMAP in {drawn} s, with at most {most:.1f} GB (two CPU cores, random descriptors, `make bench`)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, size in (("images", IMAGES), ("channels", CHANNELS), ("identities", IDENTITIES)):
        parser.add_argument(f"--{name}", type=int, default=size)
    sizes, results = vars(parser.parse_args()), home() / "results"
    with tempfile.TemporaryDirectory() as place:  # without the fits of an earlier call
        os.environ["SA_LAB_HOME"] = place
        measured = measure(**sizes)
    result = {
        "sa_lab": __version__,
        "machine": f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        **sizes,
        **measured,
    }
    print(json.dumps(result, indent=1))
    if sizes == {"images": IMAGES, "channels": CHANNELS, "identities": IDENTITIES}:
        write_text(results / "bench-overlap.json", json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
