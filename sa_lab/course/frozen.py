"""Real features under the loss, in seconds: the network of a finished run stands still, a linear head on it learns.

Every step is one of the library's; only the network is small, so that hundreds of steps take the time of a few.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import Tensor, nn

from sa_lab import analysis
from sa_lab.config import LossConfig
from sa_lab.course.report_card import embed_validation
from sa_lab.evaluation.embedding import unit_parts
from sa_lab.evaluation.protocols import protocols_of
from sa_lab.evaluation.search import evaluate
from sa_lab.losses import SASoftmaxLoss, prototype_logits
from sa_lab.model import Features, PartNeck
from sa_lab.runs import Run
from sa_lab.samplers import CrossModalityIdentitySampler
from sa_lab.schema import Embeddings
from sa_lab.training import steps
from sa_lab.training.learner import Batch, Learner, LogRow

COMPONENTS, CHANNELS = 128, 64
"""Principal components kept of a part's features, and dimensions that the head makes of them."""
NETWORK_LR, PROTOTYPE_LR = 1e-3, 5e-3


class Head(nn.Module):
    """A linear map for each spectrum, the same at the start, then the neck of the library's network."""

    def __init__(self, stored: Float[Tensor, "N P K"], num_identities: int, generator: torch.Generator) -> None:
        super().__init__()
        self.stored, self.rows = stored, torch.arange(len(stored))
        first = torch.randn(stored.shape[2], CHANNELS, generator=generator) / stored.shape[2] ** 0.5
        self.maps = nn.Parameter(torch.stack([first, first]))
        self.neck = PartNeck(stored.shape[1], CHANNELS)
        self.classifier = nn.Parameter(
            0.001 * torch.randn(stored.shape[1], num_identities, CHANNELS, generator=generator)
        )

    def forward(self, images: Tensor, modality: Int[np.ndarray, " B"], classify: bool = True) -> Features:
        """Of the features in ``rows``; what ``images`` holds does not matter."""
        pooled = torch.einsum("npk,nkd->npd", self.stored[self.rows], self.maps[torch.from_numpy(modality)])
        embeddings = self.neck(pooled)
        return Features(pooled, embeddings, prototype_logits(embeddings, self.classifier))


class FrozenFeatures:
    """The stored features of a run's people, and a head that learns on those of the training people.

    Args:
        run: finished, with validation people.
        seed: of head, prototypes and batches.

    Attributes:
        rows: the losses and weights of each step, and the results of `measure` at some.

    Raises:
        ValueError: the run held no identities back for validation.
    """

    def __init__(self, run: Run, seed: int = 0) -> None:
        self.known, self.held = run.training_embeddings, embed_validation(run, progress=False)
        self.rows: list[LogRow] = []
        kept = [torch.from_numpy(np.asarray(one.part_features, dtype=np.float32)) for one in (self.known, self.held)]
        flat = kept[0].flatten(0, 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            directions = torch.pca_lowrank(flat, min(COMPONENTS, *flat.shape))[2]
            middle = flat.mean(0)
            scale = ((flat - middle) @ directions).std()
            stored = [(one - middle) @ directions / scale for one in kept]
            people, labels = np.unique(self.known.person_ids, return_inverse=True)
            head = Head(stored[0], len(people), torch.Generator().manual_seed(seed))
            criterion = SASoftmaxLoss(len(people), CHANNELS, head.stored.shape[1])
        self._stored, self._people, self._labels = stored, people, torch.from_numpy(labels)
        self.learner = Learner(
            fabric=Fabric(accelerator="cpu", devices=1), model=head, criterion=criterion,
            feature_optimizer=torch.optim.AdamW(head.parameters(), NETWORK_LR, weight_decay=5e-4),
            prototype_optimizer=torch.optim.AdamW(criterion.parameters(), PROTOTYPE_LR, weight_decay=5e-4),
        )  # fmt: skip
        sampler = CrossModalityIdentitySampler(
            self.known.person_ids, self.known.modality, min(32, len(people)), 1, seed, 40
        )
        self._batches = iter(index for _ in range(10**6) for index in sampler)
        self.head = head

    def step(self, loss: LossConfig) -> LogRow:
        """One iteration of the library on a batch.

        Raises:
            NonFiniteLossError: no row is logged.
        """
        index = torch.as_tensor(np.asarray(next(self._batches)))
        self.head.rows = index
        self.head.train()
        batch = Batch(torch.zeros(len(index), 3, 1, 1), self._labels[index], self.known.modality[index.numpy()])
        self.rows.append({"step": len(self.rows), **steps.iteration(self.learner, batch, loss, len(self.rows)).row()})
        return self.rows[-1]

    def measure(self) -> dict[str, float]:
        """Rank-1 and mAP of the validation people, their modality gap, and the cosine of the prototypes."""
        found = self.embed(self.held, self._stored[1])
        measures = evaluate(found, protocols_of(found.dataset, found.split)[0], draws=1).measures
        gap = analysis.modality_gap(found.embeddings.reshape(len(found), -1), found.person_ids, found.modality)
        prototypes = self.learner.criterion.prototypes.detach().numpy()
        return {
            "rank_1": measures["rank_1"].mean, "mean_ap": measures["mean_ap"].mean,
            "stranger_ratio": float(gap.stranger_ratio.mean()),
            "prototype_alignment": float(analysis.prototype_alignment(prototypes).mean()),
        }  # fmt: skip

    @torch.no_grad()
    def embed(self, these: Embeddings, stored: Float[Tensor, "N P K"]) -> Embeddings:
        """Descriptors by the head, for people whose features are ``stored``."""
        before, self.head.stored, self.head.rows = self.head.stored, stored, torch.arange(len(stored))
        self.head.eval()
        found = self.head(torch.zeros(len(stored), 3, 1, 1), these.modality)
        self.head.stored = before
        parts = [unit_parts(one).numpy() for one in (found.part_features, found.embeddings)]
        return replace(these, part_features=parts[0], embeddings=parts[1], prototypes=None, prototype_ids=None)

    def trained(self, people: int = 8) -> tuple[Embeddings, Float[np.ndarray, "P C2 D"], Int[np.ndarray, " C"]]:
        """Descriptors of the first training people, with their prototypes and who these are."""
        people = min(people, len(self._people))
        chosen = np.flatnonzero(np.isin(self.known.person_ids, self._people[:people]))
        prototypes = self.learner.criterion.prototypes.detach().numpy()
        rows = [*range(people), *range(len(self._people), len(self._people) + people)]
        found = self.embed(self.known.subset(chosen), self._stored[0][torch.from_numpy(chosen)])
        return found, prototypes[:, rows], self._people[:people]
