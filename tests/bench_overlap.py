"""Times and memory of the overlap measures at the full size of SYSU-MM01: 10,000 random descriptors of 400 identities.

Run by itself, in a process of its own: `python tests/bench_overlap.py`. Smaller sizes are shown, not recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

from sa_lab import __version__, analysis
from sa_lab.config import home
from sa_lab.disk import write_text

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


def measure(images: int, channels: int, identities: int, bar: tqdm) -> dict:
    """Seconds of each step and measure, and the largest memory of this process in GB after each step."""
    whole, person_ids, modality = descriptors(images, channels, identities)
    seconds: dict[str, float] = {}
    memory = {"descriptors": peak()}
    running: list[tuple[str, float]] = []

    def watch(name: str | None) -> None:
        now = time.perf_counter()
        if running:
            seconds[running[-1][0]] = now - running[-1][1]
            bar.update()
        if name:
            running.append((name, now))
            bar.set_postfix_str(name)

    def timed(name: str, call: Callable[[], Any]) -> Any:
        bar.set_postfix_str(name)
        start = time.perf_counter()
        result = call()
        seconds[name], memory[name] = time.perf_counter() - start, peak()
        bar.update()
        return result

    reduced = timed("reduce", lambda: analysis.reduce(whole, np.random.default_rng(0)))
    found = timed(
        "measure_overlap",
        lambda: analysis.measure_overlap(reduced.points, person_ids, modality, np.random.default_rng(0), watch=watch),
    )
    watch(None)
    timed("project", lambda: analysis.project(reduced.points, np.random.default_rng(0)))
    return {"kept": reduced.kept, "measures": len(found), "seconds": seconds, "peak_gb": memory}


def peak() -> float:
    """The largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def sentence(result: dict) -> str:
    """What the README says of it."""
    reduced, measured, drawn = (round(result["seconds"][name]) for name in ("reduce", "measure_overlap", "project"))
    most = max(result["peak_gb"].values())
    return (
        f"{result['images']:,} float16 descriptors of {result['channels']:,} channels are reduced in {reduced} s, "
        f"measured in {measured} s and drawn by UMAP in {drawn} s,\n"
        f"with at most {most:.1f} GB (two CPU cores, random descriptors, `make bench`)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, size in (("images", IMAGES), ("channels", CHANNELS), ("identities", IDENTITIES)):
        parser.add_argument(f"--{name}", type=int, default=size)
    sizes = vars(parser.parse_args())
    with tqdm(total=len(analysis.DEFINITIONS) - 5 + 3, unit="step") as bar:
        result = measure(**sizes, bar=bar)
    result = {
        "sa_lab": __version__,
        "machine": f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        **sizes,
        **result,
    }
    print(json.dumps(result, indent=1))
    if sizes == {"images": IMAGES, "channels": CHANNELS, "identities": IDENTITIES}:
        write_text(home() / "results" / "bench-overlap.json", json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
