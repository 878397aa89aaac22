"""A world small enough to be drawn: samples on a circle or a sphere, moved by the library's own losses and steps.

The network is a table with one point per sample, which shows what a step does to a sample; everything else is as in a
training: `sa_lab.losses`, `sa_lab.training.steps`, a warm-up, two optimisers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from sa_lab import analysis
from sa_lab.config import LossConfig
from sa_lab.losses import SASoftmaxLoss, prototype_logits
from sa_lab.model import Features
from sa_lab.training import objective, steps
from sa_lab.training.learner import Batch, Learner, LogRow
from sa_lab.training.objective import OwnLoss

PRESETS: dict[str, LossConfig] = {
    "complete": LossConfig(),
    "plain softmax": LossConfig(sas_weight=0.0, similarity_weight=0.0),
    "no mask": LossConfig(mask_value=0.0),
    "no absolute term": LossConfig(similarity_weight=0.0),
    "synchronous": LossConfig(asynchronous=False),
}
"""The losses that are worth comparing; the playground gives each a warm-up of its own."""


@dataclass(frozen=True)
class World:
    """What the toy world looks like before anything moves.

    Attributes:
        num_identities: C, 2..24.
        images_per_id: samples of an identity in each spectrum, 2..32.
        dimensions: 2, a circle, or 3, a sphere.
        gap: how far the two spectra of an identity lie apart at the start, as a share of the distance to the next
            identity, 0..1.
        spread: standard deviation of the samples round their centre, 0.1..45 degrees.
        radius: length of every embedding.
        seed: of the samples and of the first prototypes.
    """

    num_identities: int = 4
    images_per_id: int = 4
    dimensions: int = 2
    gap: float = 0.6
    spread: float = 4.0
    radius: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("num_identities", 2, 24), ("images_per_id", 2, 32), ("dimensions", 2, 3), ("gap", 0, 1),
            ("spread", 0.1, 45),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {low}..{high}")
        if not self.radius > 0:
            raise ValueError(f"radius is {self.radius}, expected a number above 0")


@dataclass(frozen=True)
class Scene:
    """Where everything stands, to be drawn; D is 2 or 3.

    Attributes:
        samples: (N,D).
        labels, modality: (N,) of the samples.
        prototypes: (2C,D), visible half first.
        centres: (2C,D) mean of the samples of each identity and spectrum, visible half first.
        pulls: for each term the mean direction (2C,D) in which its weighted gradient moves the samples at a centre.
    """

    samples: Float[np.ndarray, "N D"]
    labels: Int[np.ndarray, " N"]
    modality: Int[np.ndarray, " N"]
    prototypes: Float[np.ndarray, "C2 D"]
    centres: Float[np.ndarray, "C2 D"]
    pulls: dict[str, Float[np.ndarray, "C2 D"]]


class Table(nn.Module):
    """A network that has learnt its samples by heart: ``points`` (N,D), scaled to length ``radius``."""

    def __init__(self, points: Float[Tensor, "N D"], num_identities: int, radius: float) -> None:
        super().__init__()
        self.points = nn.Parameter(points)
        self.classifier = nn.Parameter(torch.randn(1, num_identities, points.shape[1]) * 0.001)
        self.radius = radius

    def forward(self, images: Tensor, modality: Tensor | np.ndarray, classify: bool = True) -> Features:
        """The table; which images are asked for does not matter."""
        embeddings = self.radius * functional.normalize(self.points, dim=1)[:, None]
        return Features(embeddings, embeddings, prototype_logits(embeddings, self.classifier))


class Toy:
    """A toy world and how far its training has come.

    Args:
        world: the start.
        network_lr: how far a sample moves per unit of its own gradient.
        prototype_lr: how far a prototype moves per unit of the mean gradient of its own samples. Both rates are
            scaled with the number of samples and prototypes, so that the pace does not depend on how many there are.
        own_loss: a loss of your own, for the term own of a `sa_lab.config.LossConfig`.

    Attributes:
        rows: the losses, weights and overlap measures of each step.
    """

    def __init__(
        self,
        world: World | None = None,
        network_lr: float = 0.03,
        prototype_lr: float = 0.1,
        own_loss: OwnLoss | None = None,
    ) -> None:
        self.world = world = world or World()
        points, labels, modality = _start(world)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(world.seed)
            table = Table(points, world.num_identities, world.radius)
            criterion = SASoftmaxLoss(world.num_identities, world.dimensions)
        self.learner = Learner(
            fabric=Fabric(accelerator="cpu", devices=1), model=table, criterion=criterion,
            feature_optimizer=torch.optim.SGD([{"params": [table.points]}, {"params": [table.classifier]}]),
            prototype_optimizer=torch.optim.SGD(criterion.parameters(), weight_decay=1e-3), own_loss=own_loss,
        )  # fmt: skip
        self.batch = Batch(torch.zeros(len(labels), 3, 1, 1), labels, modality.numpy())
        self.rows: list[LogRow] = []
        self.set_rates(network_lr, prototype_lr)

    def set_rates(self, network_lr: float, prototype_lr: float) -> None:
        """Change the learning rates; see `Toy`."""
        points, classifier = self.learner.feature_optimizer.param_groups
        points["lr"] = network_lr * len(self.batch.labels)
        classifier["lr"] = prototype_lr * self.world.num_identities
        self.learner.prototype_optimizer.param_groups[0]["lr"] = prototype_lr * 2 * self.world.num_identities

    def step(self, loss: LossConfig) -> LogRow:
        """One iteration of the library on all samples; the row has its losses and the overlap before it.

        Raises:
            NonFiniteLossError: the learning rates are too high; no row is logged.
        """
        before = self.overlap()
        try:
            row = steps.iteration(self.learner, self.batch, loss, len(self.rows)).row()
        finally:
            with torch.no_grad():
                points = self._table.points
                points.copy_(self.world.radius * functional.normalize(points, dim=1))
        self.rows.append({"step": len(self.rows), **row, **before})
        return self.rows[-1]

    def overlap(self) -> dict[str, float]:
        """How far the spectra overlap: means over identities of `analysis.modality_gap` and `prototype_alignment`."""
        samples, prototypes = self._table.points.detach().numpy(), self.learner.criterion.prototypes.detach().numpy()
        gap = analysis.modality_gap(samples, self.batch.labels.numpy(), self.batch.modality)
        return {
            "stranger_ratio": float(gap.stranger_ratio.mean()),
            "prototype_alignment": float(analysis.prototype_alignment(prototypes).mean()),
        }

    def coincide(self) -> None:
        """Put both prototypes of each identity where its samples are on average: what success would look like."""
        points, labels = self._table.points.detach(), self.batch.labels
        places = torch.stack([points[labels == label].mean(0) for label in range(self.world.num_identities)])
        with torch.no_grad():
            self.learner.criterion.prototypes.copy_(torch.cat([places, places])[None])

    def settle(self) -> None:
        """Put each prototype where its own samples are on average, as a warm-up does."""
        centres = self.scene(LossConfig()).centres
        with torch.no_grad():
            self.learner.criterion.prototypes.copy_(torch.from_numpy(centres)[None])

    def losses(self, loss: LossConfig) -> dict[str, float]:
        """The unweighted terms as things stand, without moving anything."""
        features = self.learner.model(self.batch.images, self.batch.modality)
        terms = objective.objective(
            self.learner.criterion, features, self.batch.labels, self.batch.spectra, loss, self.learner.own_loss
        )
        return {name: float(term.detach()) for name, term in terms.items()}

    def scene(self, loss: LossConfig) -> Scene:
        """Where everything stands, and where each term of ``loss`` pulls in the step that comes next."""
        loss = steps.loss_at(loss, len(self.rows))
        table, (labels, modality) = self._table, (self.batch.labels, self.batch.spectra)
        terms = objective.objective(
            self.learner.criterion, table(self.batch.images, self.batch.modality), labels, modality, loss,
            self.learner.own_loss,
        )  # fmt: skip
        pulls = {name: -len(labels) * pull for name, pull in objective.gradients(terms, loss, table.points).items()}
        group = functional.one_hot(labels + modality * self.world.num_identities, 2 * self.world.num_identities)
        mean = (group / group.sum(0)).T.float()  # (2C,N)
        samples = table.points.detach()
        return Scene(
            samples=samples.numpy().copy(), labels=labels.numpy(), modality=modality.numpy(),
            prototypes=self.learner.criterion.prototypes.detach()[0].numpy().copy(),
            centres=(mean @ samples).numpy(), pulls={name: (mean @ pull).numpy() for name, pull in pulls.items()},
        )  # fmt: skip

    @property
    def _table(self) -> Table:
        table = self.learner.model
        assert isinstance(table, Table)
        return table


def _start(world: World) -> tuple[Float[Tensor, "N D"], Int[Tensor, " N"], Int[Tensor, " N"]]:
    """Points, labels and modality: identities spread evenly, each with its two spectra apart along one direction."""
    rng = np.random.default_rng(world.seed)
    count, each = world.num_identities, world.images_per_id
    labels = np.tile(np.repeat(np.arange(count), each), 2)
    modality = np.repeat([0, 1], count * each)
    side = np.where(modality == 0, 0.5, -0.5) * world.gap
    noise = np.deg2rad(world.spread) * rng.standard_normal((len(labels), 2))
    if world.dimensions == 2:
        angle = (labels + side) * 2 * np.pi / count + noise[:, 0]
        points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    else:  # a spiral of equal areas; the spectra lie apart along the meridian
        height = 1 - (2 * labels + 1) / count
        room = np.sqrt(4 * np.pi / count)
        turn = np.pi * (3 - np.sqrt(5)) * labels + noise[:, 0]
        tilt = np.arcsin(height) + side * room + noise[:, 1]
        points = np.stack([np.cos(tilt) * np.cos(turn), np.cos(tilt) * np.sin(turn), np.sin(tilt)], axis=1)
    return (
        torch.from_numpy(world.radius * points).float(), torch.from_numpy(labels), torch.from_numpy(modality),
    )  # fmt: skip
