"""The identities held back from training: networks are selected, and designs of a loss compared, on them alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sa_lab.config import ExperimentConfig
from sa_lab.data.store import ImageStore, split_identities
from sa_lab.evaluation.embedding import embed
from sa_lab.evaluation.protocols import Protocol, protocols_of
from sa_lab.evaluation.search import evaluate
from sa_lab.schema import Embeddings, Modality


@dataclass(frozen=True)
class ValidationSet:
    """Images of the validation identities, and the protocol that grades them.

    Attributes:
        store: where the images lie.
        index: (V,) which of them; perhaps none.
        protocol: the first of the data set.
    """

    store: ImageStore
    index: Int[np.ndarray, " V"]
    protocol: Protocol

    @classmethod
    def of(cls, config: ExperimentConfig, store: ImageStore, most: int | None = None) -> ValidationSet:
        """The validation identities of a config, or the first of them that ``most`` images hold."""
        _, held = split_identities(store, config.data.validation_fraction, config.data.seed)
        index = np.flatnonzero(np.isin(store.person_ids, held)) if most is None else first_people(store, held, most)
        return cls(store, index, protocols_of(store.name, store.split)[0])

    def __len__(self) -> int:
        return len(self.index)

    def embed(
        self,
        model: nn.Module,
        prototypes: Float[Tensor, "P C2 D"] | None = None,
        train_ids: Int[np.ndarray, " C"] | None = None,
        progress: bool = False,
        out: Path | None = None,
    ) -> Embeddings:
        """Descriptors by ``model``, on its own device, as in `sa_lab.evaluation.embedding.embed`."""
        device: torch.device = next(model.parameters()).device
        return embed(
            model, self.store, self.index, device, prototypes, train_ids, train_ids, progress=progress, out=out
        )

    def grade(self, found: Embeddings) -> dict[str, float]:
        """Rank-1 and mAP, in [0,1], of what `embed` gave."""
        measures = evaluate(found, self.protocol, draws=1).measures
        return {name: measures[name].mean for name in ("rank_1", "mean_ap")}


def first_people(store: ImageStore, identities: Int[np.ndarray, " I"], most: int) -> Int[np.ndarray, " M"]:
    """All images of the first of some identities, as many identities as ``most`` images hold, at least one."""
    counts = np.array([int((store.person_ids == person).sum()) for person in identities])
    people = identities[: max(1, int((counts.cumsum() <= most).sum()))]
    return np.flatnonzero(np.isin(store.person_ids, people))


def few_images(store: ImageStore, identities: Int[np.ndarray, " I"], people: int, images: int) -> Int[np.ndarray, " M"]:
    """At most ``images`` images of each spectrum of each of the first ``people`` identities, evenly spread."""
    chosen = [np.empty(0, dtype=np.int64)]
    for person in identities[:people]:
        for modality in Modality:
            rows = np.flatnonzero((store.person_ids == person) & (store.modality == modality))
            chosen.append(rows[np.linspace(0, len(rows) - 1, min(images, len(rows))).round().astype(int)])
    return np.concatenate(chosen)
