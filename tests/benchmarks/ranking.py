"""Times and memory of an evaluation at the full size of SYSU-MM01: random descriptors, 3,803 queries, 6,775 images.

The plain way ranks as the programs of the field do: on the CPU, in double precision, one argsort a trial,
then a Python loop over the queries, with AP summed rank by rank. Both ways must give the same numbers.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import both_gb, compare_in_turn, in_own_process
from sa_lab.evaluation import search
from sa_lab.evaluation.metrics import evaluate_ranking
from sa_lab.evaluation.protocols import PROTOCOLS
from sa_lab.schema import Embeddings

NAMES = ("sysu-all", "sysu-indoor", "sysu-all-multi-shot", "sysu-indoor-multi-shot")
QUERIES, IMAGES, IDENTITIES = 3803, 6775, 96
_CPU = torch.device("cpu")


def plain_ranking(found: search.Search, data: Embeddings) -> tuple[np.ndarray, float, float]:
    """CMC, mAP and mINP of one trial, query by query."""
    distance = -found.similarity.astype(np.float64)
    query_ids, gallery_ids = data.person_ids[found.query], data.person_ids[found.gallery]
    query_cameras, gallery_cameras = data.camera_ids[found.query], data.camera_ids[found.gallery]
    order = np.argsort(distance, axis=1)
    labels = gallery_ids[order]
    matches = (labels == query_ids[:, None]).astype(np.int32)
    cmcs, precisions, penalties = [], [], []
    for q in range(len(query_ids)):
        seen = ~((query_cameras[q] == 3) & (gallery_cameras[order[q]] == 2))
        match = matches[q][seen]
        if not match.any():
            continue
        first = np.sort(np.unique(labels[q][seen], return_index=True)[1])
        cmc = (labels[q][seen][first] == query_ids[q]).cumsum()
        cmcs.append(np.minimum(cmc, 1)[:20])
        hits = match.cumsum()
        last = np.max(np.where(match == 1)[0])
        penalties.append(hits[last] / (last + 1.0))
        precision = np.asarray([count / (rank + 1.0) for rank, count in enumerate(hits)]) * match
        precisions.append(precision.sum() / match.sum())
    return np.mean(cmcs, axis=0), float(np.mean(precisions)), float(np.mean(penalties))


def our_ranking(found: search.Search, data: Embeddings, device: torch.device = _CPU) -> tuple[np.ndarray, float, float]:
    """The same numbers by the library, on ``device``."""
    ids = torch.from_numpy(data.person_ids).to(device)
    similarity, hidden = torch.from_numpy(found.similarity).to(device), torch.from_numpy(found.hidden).to(device)
    result = evaluate_ranking(similarity, ids[found.query], ids[found.gallery], hidden, first_occurrence=True)
    return result.cmc(20), result.mean_ap, result.mean_inp


def some_ranking(way: str) -> None:
    """One trial of one ``way``, plain or ours: its memory is measured outside."""
    data = random_descriptors()
    found = search.search(data, PROTOCOLS[NAMES[-2]], 0)
    (our_ranking if way == "ours" else plain_ranking)(found, data)


def random_descriptors() -> Embeddings:
    """One part of 32 channels: what ranking costs does not depend on them."""
    rng = np.random.default_rng(0)
    return Embeddings(None, rng.standard_normal((QUERIES + IMAGES, 1, 32), np.float32), **random_columns(rng))


def random_columns(rng: np.random.Generator) -> dict[str, Any]:
    """Identities, cameras and paths in the proportions of the test part."""
    camera = np.concatenate([rng.choice([3, 6], QUERIES), rng.choice([1, 2, 4, 5], IMAGES)])
    person = rng.integers(1, IDENTITIES + 1, QUERIES + IMAGES)
    paths = tuple(f"cam{c}/{p:04}/{i:05}.jpg" for i, (c, p) in enumerate(zip(camera, person, strict=True)))
    return {
        "person_ids": person, "camera_ids": camera, "modality": np.isin(camera, (3, 6)).astype(int), "paths": paths
    }  # fmt: skip


def measure(device: torch.device) -> dict[str, Any]:
    """Ranking alone and, on the CPU, the whole evaluation of descriptors as large as the paper's.

    Args:
        device: where ours ranks; the plain way ranks on the CPU.

    Returns:
        ``ratios``: `benchmarks.timing.Comparison` by name; ``trials`` of each protocol that were ranked; on the
        CPU also ``ten_trials_with_reports_seconds`` and ``full_size``: see `full_size`.

    Raises:
        AssertionError: the two ways give different numbers.
    """
    found = ranking(device)
    return found if device.type != "cpu" else {**found, **reports(), "full_size": full_size(device)}


def ranking(device: torch.device, trials: int = 1, pairs: int = 3) -> dict[str, Any]:
    """Ranking part alone, all and indoor, single- and multi-shot, ``trials`` galleries each; see `measure`."""
    data = random_descriptors()
    found = [search.search(data, PROTOCOLS[name], trial) for name in NAMES for trial in range(trials)]

    def ours() -> list[tuple[np.ndarray, float, float]]:
        return [our_ranking(one, data, device) for one in found]

    def plain() -> list[tuple[np.ndarray, float, float]]:
        return [plain_ranking(one, data) for one in found]

    for first, second in zip(plain(), ours(), strict=True):
        np.testing.assert_allclose(np.hstack(first), np.hstack(second), atol=1e-6)
    memory = both_gb(some_ranking, device=device) if device.type == "cpu" else {}
    return {"ratios": {"ranking": {**compare_in_turn(plain, ours, pairs, 0, device), **memory}}, "trials": trials}


def reports() -> dict[str, float]:
    """Seconds of ten trials of each protocol, from given descriptors to reports, see `measure`."""
    data, start = random_descriptors(), time.perf_counter()
    search.evaluate_all(data, [PROTOCOLS[name] for name in NAMES])
    return {"ten_trials_with_reports_seconds": time.perf_counter() - start}


def full_size(device: torch.device) -> dict[str, float]:
    """The whole evaluation of 24,576-channel float16 descriptors from a file: seconds, and largest memory in GB of a
    process that does nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "descriptors.npz"
        rng = np.random.default_rng(0)
        values = np.empty((QUERIES + IMAGES, 12, 2048), np.float16)
        for start in range(0, len(values), 512):
            values[start : start + 512] = rng.standard_normal(values[start : start + 512].shape, np.float32)
        Embeddings(None, values, **random_columns(rng)).save(file)
        del values
        seconds, peak_gb = in_own_process(measure_file, file)
    return {"seconds": seconds, "peak_gb": peak_gb}


def measure_file(file: Path) -> float:
    """Seconds of the four protocols with ten trials each, on descriptors in a file."""
    start = time.perf_counter()
    search.evaluate_all(Embeddings.load(file, mapped=True), [PROTOCOLS[name] for name in NAMES])
    return time.perf_counter() - start


def sentence(result: dict[str, Any]) -> str:
    """What the README says of it.

    Args:
        result: what `measure` gave.
    """
    found, full, whole = result["ratios"]["ranking"], result["full_size"], result["ten_trials_with_reports_seconds"]
    return (
        f"{found['ratio']:.0f} times [{found['low']:.0f}, {found['high']:.0f}] as fast as a loop over queries; "
        f"ten trials of each,\nfrom given descriptors to reports, take {whole:.0f} s; "
        f"of 24,576 channels in float16, {full['seconds']:.0f} s and at most {full['peak_gb']:.1f} GB (two CPU cores,\n"
        "random descriptors, `make bench`)"
    )
