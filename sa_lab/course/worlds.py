"""Toy worlds that differ in mask and weights, side by side as the parts of one network: every loss is a sum over the
parts, so the worlds do not affect each other, and one iteration of the library moves them all.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional

from sa_lab import analysis, losses
from sa_lab.config import LossConfig
from sa_lab.course import toy
from sa_lab.losses import SASoftmaxLoss, own_prototype, prototype_logits
from sa_lab.model import Features
from sa_lab.training import steps

TERMS = ("identity", "sa_softmax", "absolute")
"""Of the loss that samples follow."""
CURVES = (*TERMS, "prototype", "stranger_ratio", "prototype_alignment")
"""Recorded at each step: the unweighted losses in nats, modality gap and cosine of an identity's two prototypes."""
LONGEST, HIGHEST = 3.0, 50.0
"""Longer pulls are cut to this length and higher losses to this many nats: no arrow and no axis is as long."""
_FRAME = ("samples", "prototypes", "lengths", "pulls", "curves")


class _Tables(nn.Module):
    """Copies of a `toy.Table` as the parts of one network."""

    def __init__(self, table: toy.Table, parts: int) -> None:
        super().__init__()
        self.points = nn.Parameter(table.points.detach()[:, None].repeat(1, parts, 1))  # (N,P,D)
        self.classifier = nn.Parameter(table.classifier.detach().repeat(parts, 1, 1))  # (P,C,D)
        self.radius = table.radius

    def forward(self, images: Tensor, modality: Tensor | np.ndarray, classify: bool = True) -> Features:
        embeddings = self.radius * functional.normalize(self.points, dim=2)
        return Features(embeddings, embeddings, prototype_logits(embeddings, self.classifier))


class Worlds:
    """One toy world for each of some losses, all with the same start.

    Args:
        world: the start.
        configs: P of them, alike in warm-up, scheme and whether they follow prototypes; those with the same mask stand
            side by side.
    """

    def __init__(self, world: toy.World, configs: list[LossConfig]) -> None:
        start, parts, count = toy.Toy(world), len(configs), world.num_identities
        table, self.learner, self.batch = start.learner.model, start.learner, start.batch
        assert isinstance(table, toy.Table)
        criterion = SASoftmaxLoss(count, world.dimensions, parts)
        with torch.no_grad():
            criterion.prototypes.copy_(self.learner.criterion.prototypes.expand(parts, -1, -1))
        self.tables, self.done = _Tables(table, parts), 0
        self.learner.model, self.learner.criterion, self.learner.own_loss = self.tables, criterion, self._mixed
        moved = (self.tables.points, self.tables.classifier, criterion.prototypes)
        groups = (*self.learner.feature_optimizer.param_groups, *self.learner.prototype_optimizer.param_groups)
        for group, parameter in zip(groups, moved, strict=True):  # at the rates of `toy.Toy`
            group["params"] = [parameter]
        warmup = configs[0].warmup_steps if configs[0].follows_prototypes() else 0  # there is nothing to wait for
        turns = configs[0].asynchronous
        self.loss = LossConfig(warmup_steps=warmup, asynchronous=turns, terms="own 1", own="mixed")
        self.weights = torch.tensor([[one.weights()[term] for one in configs] for term in TERMS])  # (3,P)
        self._masks = {mask: len(list(same)) for mask, same in itertools.groupby(one.mask_value for one in configs)}
        group_of = functional.one_hot(own_prototype(self.batch.labels, self.batch.spectra, count), 2 * count)
        self._mean = (group_of / group_of.sum(0)).T.float()  # (2C,N)

    def step(self) -> None:
        """One iteration of the library in each world."""
        steps.iteration(self.learner, self.batch, self.loss, self.done).row()
        self.done += 1
        with torch.no_grad():
            points = self.tables.points
            points.copy_(self.tables.radius * functional.normalize(points, dim=2))

    def terms(
        self, embeddings: Float[Tensor, "N P D"], identity_logits: Float[Tensor, "N P C"],
        prototypes: Float[Tensor, "P C2 D"],
    ) -> Float[Tensor, "3 P"]:  # fmt: skip
        """The unweighted losses of each world."""
        who = self.batch.labels, self.batch.spectra
        identity = vmap(lambda one: losses.identity_loss(one[:, None], who[0]), 1)(identity_logits)
        blocks = prototype_logits(embeddings, prototypes).split([*self._masks.values()], 1)  # type: ignore[no-untyped-call]
        sa_softmax = [
            vmap(lambda one, mask=mask: losses.sa_softmax_loss(one[:, None], *who, mask), 1)(block)
            for mask, block in zip(self._masks, blocks, strict=True)
        ]
        absolute = vmap(lambda f, w: losses.absolute_similarity_loss(f[:, None], w[None], *who), (1, 0))
        return torch.stack([identity, torch.cat(sa_softmax), absolute(embeddings, prototypes)])

    def _mixed(self, embeddings: Tensor, prototypes: Tensor, identity_logits: Tensor) -> Float[Tensor, ""]:
        """What the network follows once it is warm: each world its own weights."""
        if not self.loss.asynchronous:  # then prototypes follow it, too
            prototypes = self.learner.criterion.prototypes
        return (self.weights * self.terms(embeddings, identity_logits, prototypes)).sum()

    def frame(self) -> dict[str, np.ndarray]:
        """Where everything stands in each world, and where the terms pull in its next step, as `toy.Scene` has it:
        directions of ``samples`` (P,N) and ``prototypes`` (P,2C) in full turns, logarithms of the ``lengths`` of the
        latter, ``pulls`` (P,3,2C,2), ``curves`` (P,6) as in `CURVES`."""
        features, points = self.tables(self.batch.images, self.batch.spectra), self.tables.points
        prototypes, spectra = self.learner.criterion.prototypes, self.batch.spectra
        terms = self.terms(features.embeddings, features.identity_logits, prototypes)
        warm = self.done < self.loss.warmup_steps
        weights = torch.eye(3)[:1].T.expand_as(self.weights) if warm else self.weights
        pulls = [-len(points) * torch.autograd.grad((w * term).sum(), points, retain_graph=True)[0]
                 for w, term in zip(weights, terms, strict=True)]  # fmt: skip
        own = vmap(lambda one: losses.prototype_loss(one[:, None], self.batch.labels, spectra), 1)(
            prototype_logits(features.embeddings, prototypes)
        )
        samples, labels = points.detach().numpy(), self.batch.labels.numpy()
        gaps = [analysis.modality_gap(samples[:, i], labels, self.batch.modality) for i in range(samples.shape[1])]
        gap = [one.stranger_ratio.mean() for one in gaps]
        rows = prototypes.detach().numpy()
        pull = torch.einsum("gn,tnpd->ptgd", self._mean, torch.stack(pulls)).numpy()
        aligned = analysis.prototype_alignment(rows).mean(1)
        return {
            "samples": _turns(samples).T, "prototypes": _turns(rows),
            "lengths": np.log(np.linalg.norm(rows, axis=2).clip(1e-9)),
            "pulls": pull * (LONGEST / np.linalg.norm(pull, axis=-1, keepdims=True).clip(LONGEST)),
            "curves": np.stack([*torch.stack([*terms, own]).detach().numpy(), gap, aligned], axis=1).clip(max=HIGHEST),
        }  # fmt: skip


def trajectories(world: toy.World, configs: list[LossConfig], kept: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The frames of `Worlds` after each of the ``kept`` steps, their last axis; angles go on beyond a turn."""
    together = [_frames(Worlds(world, list(some)), kept)
                for _, some in itertools.groupby(configs, LossConfig.follows_prototypes)]  # fmt: skip
    found = {name: np.concatenate([one[name] for one in together]) for name in _FRAME}
    return found | {name: np.unwrap(found[name], period=1.0) for name in ("samples", "prototypes")}


def _frames(worlds: Worlds, kept: tuple[int, ...]) -> dict[str, np.ndarray]:
    frames = []
    for number in range(kept[-1] + 1):
        if number in kept:
            frames.append(worlds.frame())
        if number < kept[-1]:
            worlds.step()
    return {name: np.stack([frame[name] for frame in frames], axis=-1) for name in _FRAME}


def _turns(points: Float[np.ndarray, "*N 2"]) -> Float[np.ndarray, "*N"]:
    """Their directions as shares of a full turn."""
    found: np.ndarray = np.arctan2(points[..., 1], points[..., 0]) / (2 * np.pi)
    return found
