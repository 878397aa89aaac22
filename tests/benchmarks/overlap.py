"""Times and memory of the overlap measures at SYSU-MM01's full size: 10,000 random descriptors of 400 identities."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.timing import in_own_process, peak
from sa_lab.analysis.descriptors import measure_embeddings, picture
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


def measure(device: torch.device) -> dict[str, Any]:
    """The measures and a map of them, in a process of its own, without the fits of an earlier call.

    Args:
        device: the CPU.

    Returns:
        ``seconds`` of each step and ``peak_gb``, the largest memory of the process in GB after it; ``measures``, how
        many; ``kept``, the share of the squared lengths that the reduced descriptors keep; the sizes.
    """
    sizes = {"images": IMAGES, "channels": CHANNELS, "identities": IDENTITIES}
    with tempfile.TemporaryDirectory() as place:
        return {**sizes, **in_own_process(measure_here, place, *sizes.values())[0]}


def measure_here(place: str, images: int, channels: int, identities: int) -> dict[str, Any]:
    """Seconds of each step, and the largest memory of this process in GB after it; fits are kept in ``place``."""
    os.environ["SA_LAB_HOME"] = place
    points, person_ids, modality = descriptors(images, channels, identities)
    paths = tuple(f"{i:06}" for i in range(images))
    whole = Embeddings(None, points[:, None], person_ids, modality + 1, modality, paths)
    seconds, memory = {}, {"descriptors": peak()}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        seconds[name], memory[name] = time.perf_counter() - start, peak()
        return result

    found = timed("measure", lambda: measure_embeddings(whole, progress=True))
    drawn = timed("draw", lambda: picture(whole, identities))
    return {"kept": drawn.projection.kept_share, "measures": len(found), "seconds": seconds, "peak_gb": memory}


def sentence(result: dict[str, Any]) -> str:
    """What the README says of it.

    Args:
        result: what `measure` gave.
    """
    measured, drawn = (round(result["seconds"][name]) for name in ("measure", "draw"))
    most = max(result["peak_gb"].values())
    return (
        f"{result['images']:,} float16 descriptors of {result['channels']:,} channels are measured in {measured} s\n"
        f"and drawn by UMAP in {drawn} s, with at most {most:.1f} GB (two CPU cores, random descriptors, `make bench`)."
    )
