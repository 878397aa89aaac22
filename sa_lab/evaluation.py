"""Descriptors of a trained network, and what a protocol says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from sa_lab import transforms
from sa_lab.data.store import ImageStore
from sa_lab.intervals import bootstrap_interval
from sa_lab.metrics import RetrievalResult, evaluate_ranking
from sa_lab.protocols import Protocol, gallery_indices, hidden_mask, query_indices
from sa_lab.schema import Embeddings, atomic_path, write_csv

RANKS = (1, 5, 10, 20)


class LeakageError(ValueError):
    """Identities of the training are among those of the test."""


@dataclass(frozen=True)
class Measure:
    """A number with its spread.

    Attributes:
        mean: over the trials.
        std: deviation over the trials, 0 with one.
        low, high: 95 % percentile bootstrap over query identities; 0 and 1 where there is only one.
    """

    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Report:
    """What came of one protocol: measures in [0,1] by name (rank_1 .. rank_20, mean_ap, mean_inp) and each query.

    Attributes:
        protocol: the protocol in full.
        measures: by name.
        num_queries: queries that count, in the first trial.
        num_identities: identities of the queries.
        queries: one row a trial and query: path, person_id, camera_id, trial, first_rank (0: no match left),
            average_precision, inverse_negative_penalty.
    """

    protocol: dict[str, Any]
    measures: dict[str, Measure]
    num_queries: int
    num_identities: int
    queries: list[dict[str, Any]]

    def save(self, folder: Path, suffix: str = "") -> None:
        """Write ``queries<suffix>.csv`` and then ``report<suffix>.json`` into ``folder``, each atomically."""
        write_csv(folder / f"queries{suffix}.csv", self.queries)
        summary = {key: value for key, value in asdict(self).items() if key != "queries"}
        with atomic_path(folder / f"report{suffix}.json") as temporary:
            temporary.write_text(json.dumps(summary, indent=2) + "\n")


@torch.no_grad()
def embed(
    model: nn.Module,
    store: ImageStore,
    index: Int[np.ndarray, " N"],
    device: torch.device,
    prototypes: Float[Tensor, "P C2 D"] | None = None,
    prototype_ids: Int[np.ndarray, " C"] | None = None,
    batch_size: int = 256,
    progress: bool = True,
) -> Embeddings:
    """Both descriptors of the images at ``index``, each through the stem of its own modality.

    Descriptor A is made of the part features, B of the embeddings: L2-normalised a part, then over all parts, summed
    over the image and its horizontal flip. The model is put into evaluation mode and left so.
    """
    model.eval()
    dtype = next(model.parameters()).dtype
    pooled, normed = [], []
    for start in tqdm(range(0, len(index), batch_size), unit="batch", desc="embed", disable=not progress):
        rows = index[start : start + batch_size]
        images = transforms.normalize(transforms.to_float(store.gather(torch.from_numpy(rows)).to(device), dtype))
        modality = torch.from_numpy(store.modality[rows].astype(np.int64))
        views = [model(view, modality) for view in (images, images.flip(3))]
        pooled.append(sum(_unit(view.part_features) for view in views).cpu())  # type: ignore[union-attr]
        normed.append(sum(_unit(view.embeddings) for view in views).cpu())  # type: ignore[union-attr]
    return Embeddings(
        torch.cat(pooled).numpy(), torch.cat(normed).numpy(), store.person_ids[index], store.camera_ids[index],
        store.modality[index], tuple(store.paths[i] for i in index),
        None if prototypes is None else prototypes.detach().cpu().numpy(), prototype_ids,
    )  # fmt: skip


def _unit(features: Float[Tensor, "B P D"]) -> Float[Tensor, "B P D"]:
    """Unit length a part, then unit length over all parts."""
    parts = functional.normalize(features, dim=2)
    whole = functional.normalize(parts.flatten(1), dim=1)
    return whole.view_as(parts)


def similarity(query: Embeddings, gallery: Embeddings) -> Float[Tensor, "Q G"]:
    """score(q,g) = A_q.A_g + B_q.B_g, higher is closer."""
    scores = []
    for name in ("part_features", "embeddings"):
        q, g = (torch.from_numpy(getattr(side, name)).flatten(1) for side in (query, gallery))
        scores.append(q @ g.T)
    return torch.stack(scores).sum(0)


def evaluate(embeddings: Embeddings, protocol: Protocol, seed: int = 0, draws: int = 1000) -> Report:
    """Run all trials of ``protocol`` on descriptors of test images.

    Args:
        embeddings: test images alone; an identity's presence decides the gallery's random draws.
        protocol: what is asked, what is searched, what counts.
        seed: seed of the bootstrap.
        draws: resamples of the bootstrap over query identities.

    Raises:
        LeakageError: the descriptors hold identities that the prototypes were trained on.
        ValueError: no query or no gallery fits the protocol.
    """
    if embeddings.prototype_ids is not None:
        shared = sorted(set(embeddings.person_ids.tolist()) & set(embeddings.prototype_ids.tolist()))
        if shared:
            raise LeakageError(f"identities {shared[:20]} were trained on and cannot be tested on")
    query = query_indices(protocol, modality=embeddings.modality, camera_ids=embeddings.camera_ids)
    columns = {"person_ids": embeddings.person_ids, "camera_ids": embeddings.camera_ids}
    galleries = [
        gallery_indices(protocol, modality=embeddings.modality, paths=embeddings.paths, trial=trial, **columns)
        for trial in range(protocol.num_trials)
    ]
    searched = np.unique(np.concatenate(galleries))
    scores = similarity(embeddings.subset(query), embeddings.subset(searched))
    ids = torch.from_numpy(embeddings.person_ids)
    results = []
    for gallery in galleries:
        hidden = torch.from_numpy(hidden_mask(protocol, query=query, gallery=gallery, **columns))
        chosen = scores[:, np.searchsorted(searched, gallery)]
        results.append(
            evaluate_ranking(chosen, ids[query], ids[gallery], hidden, first_occurrence=protocol.first_occurrence)
        )
    person = embeddings.person_ids[query]
    rows = [
        {
            "path": embeddings.paths[image], "person_id": int(person[i]),
            "camera_id": int(embeddings.camera_ids[image]),
            "trial": trial, "first_rank": int(result.first_rank[i]),
            "average_precision": float(result.average_precision[i]),
            "inverse_negative_penalty": float(result.inverse_negative_penalty[i]),
        }
        for trial, result in enumerate(results)
        for i, image in enumerate(query)
    ]  # fmt: skip
    return Report(
        {**asdict(protocol), "description": protocol.description}, _measures(results, person, seed, draws),
        results[0].num_valid, len(np.unique(person[results[0].valid])), rows,
    )  # fmt: skip


def _measures(results: list[RetrievalResult], person: np.ndarray, seed: int, draws: int) -> dict[str, Measure]:
    """Mean and deviation over trials; interval by drawing whole identities."""
    getters: dict[str, Callable[[RetrievalResult], np.ndarray]] = {
        **{f"rank_{k}": lambda r, k=k: np.where(r.valid, r.first_rank <= k, np.nan) for k in RANKS},  # type: ignore[misc]
        "mean_ap": lambda r: r.average_precision,
        "mean_inp": lambda r: r.inverse_negative_penalty,
    }
    measures = {}
    for name, values_of in getters.items():
        trials = np.stack([values_of(result) for result in results]).astype(float)  # (T,Q)
        means, known = np.nanmean(trials, axis=1), ~np.isnan(trials)
        groups = np.broadcast_to(person, trials.shape)[known]
        low, high = 0.0, 1.0  # of one identity nothing more is known
        if len(np.unique(groups)) > 1:
            interval = bootstrap_interval(trials[known], groups, np.random.default_rng(seed), num_samples=draws)
            low, high = interval.low, interval.high
        measures[name] = Measure(float(means.mean()), float(means.std()), low, high)
    return measures
