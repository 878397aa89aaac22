"""The toy world at every setting of its dials, computed beforehand by the library's own steps, for pages to look up.

Worlds that differ in mask and weights run side by side as the parts of one network: every loss is a sum over the parts,
so that none feels another.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional
from tqdm.auto import tqdm

from sa_lab import analysis, losses
from sa_lab.config import LossConfig
from sa_lab.course import toy
from sa_lab.disk import home, kept_where_possible, write_text
from sa_lab.losses import SASoftmaxLoss, own_prototype, prototype_logits
from sa_lab.model import Features
from sa_lab.plots.style import COLOURS
from sa_lab.plots.style import TERMS as STYLES
from sa_lab.provenance import ANALYSIS, TRAINING, code_digest
from sa_lab.training import steps

TERMS = ("identity", "sa_softmax", "absolute")
"""Of the loss that samples follow."""
CURVES = (*TERMS, "prototype", "stranger_ratio", "prototype_alignment")
"""Kept of each step: the unweighted losses in nats, modality gap and cosine of an identity's two prototypes."""
GRAIN = {"samples": 1 / 4096, "prototypes": 1 / 4096, "lengths": 1 / 128, "pulls": 1 / 64, "curves": 1 / 400}
"""How finely each is kept: directions in full turns, the logarithm of a prototype's length, pulls, curves."""

MOST_BYTES = 4_000_000
"""Of all files together."""
LONGEST, HIGHEST = 3.0, 50.0
"""A longer pull is kept with this length, a higher loss as this many nats: no arrow and no axis is as long."""


@dataclass(frozen=True)
class Grid:
    """The values of each dial, ascending, and the steps that are kept, from 0 on.

    Attributes:
        num_identities, warmup_steps: see `toy.World` and `LossConfig`; a file for each pair and each scheme.
        mask_value, sas_weight, similarity_weight: see `LossConfig`.
        steps: numbers of steps after which everything is kept.
    """

    num_identities: tuple[int, ...] = (2, 3, 4, 5, 6)
    warmup_steps: tuple[int, ...] = (0, 20, 60)
    mask_value: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0, 50.0)
    sas_weight: tuple[float, ...] = (0.0, 0.35, 0.7, 1.0)
    similarity_weight: tuple[float, ...] = (0.0, 0.3, 1.0, 3.0)
    steps: tuple[int, ...] = tuple(range(0, 241, 4))

    def losses(self, warmup_steps: int, asynchronous: bool) -> list[LossConfig]:
        """Those of one file, plain softmax last. Where nothing follows L_sa the mask moves nothing: the last one stands
        for all."""
        dials = itertools.product(self.mask_value, self.sas_weight, self.similarity_weight)
        found = [
            LossConfig(share, weight, mask, warmup_steps, asynchronous)
            for mask, share, weight in dials
            if share or mask == self.mask_value[-1]
        ]
        return sorted(found, key=lambda one: not one.follows_prototypes())

    def files(self) -> dict[str, tuple[int, bool, int]]:
        """Identities, scheme and warm-up of each file by its name."""
        dials = itertools.product(self.num_identities, (True, False), self.warmup_steps)
        return {f"toy-{count}-{int(turns)}-{warmup}": (count, turns, warmup) for count, turns, warmup in dials}


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
    found = {name: np.concatenate([one[name] for one in together]) for name in GRAIN}
    return found | {name: np.unwrap(found[name], period=1.0) for name in ("samples", "prototypes")}


def _frames(worlds: Worlds, kept: tuple[int, ...]) -> dict[str, np.ndarray]:
    frames = []
    for number in range(kept[-1] + 1):
        if number in kept:
            frames.append(worlds.frame())
        if number < kept[-1]:
            worlds.step()
    return {name: np.stack([frame[name] for frame in frames], axis=-1) for name in GRAIN}


def _turns(points: Float[np.ndarray, "*N 2"]) -> Float[np.ndarray, "*N"]:
    """Their directions as shares of a full turn."""
    found: np.ndarray = np.arctan2(points[..., 1], points[..., 0]) / (2 * np.pi)
    return found


def packed(arrays: Mapping[str, np.ndarray], grain: Mapping[str, float]) -> dict[str, Any]:
    """Numbers as text for a page: whole multiples of their grain, each less the one before on the last axis, without
    sign (0, -1, 1, -2, ...), low bytes before high ones, deflated.

    Raises:
        ValueError: a difference of more than 32,767 grains.
    """
    parts, shapes = [], {}
    for name, values in arrays.items():
        grains = np.round(np.asarray(values, dtype=np.float64) / grain[name]).astype(np.int64)
        changes = np.diff(grains, axis=-1, prepend=0)
        if np.abs(changes).max(initial=0) > 32767:
            raise ValueError(
                f"{name} changes by {np.abs(changes).max()} grains of {grain[name]}, expected 32767 at most"
            )
        unsigned = ((changes << 1) ^ (changes >> 63)).astype(np.uint16)
        parts += [(unsigned & 255).astype(np.uint8).tobytes(), (unsigned >> 8).astype(np.uint8).tobytes()]
        shapes[name] = {"shape": list(values.shape), "grain": grain[name]}
    return {"arrays": shapes, "bytes": base64.b64encode(zlib.compress(b"".join(parts), 9)).decode()}


def script(name: str, content: Any) -> str:
    """A file that a page loads where it cannot read one: from a folder."""
    return f"live.add({json.dumps(name)}, {json.dumps(content, separators=(',', ':'))});"


def write(out: Path, grid: Grid | None = None, progress: bool = True) -> None:
    """Write the atlas as scripts, an index toy.js and one for each of `Grid.files`, into ``out``.

    What was computed by this library, on this grid, is kept in the home folder.

    Raises:
        ValueError: the grid is so fine that the files are larger than `MOST_BYTES`.
    """
    grid = grid or Grid()
    code = "".join(Path(file).read_text(encoding="utf-8") for file in (str(toy.__file__), __file__))
    made_of = f"{code_digest((*TRAINING, *ANALYSIS))} {code} {grid} {torch.__version__}"
    kept = home() / "cache" / f"toy-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
    write_text(out / "toy.js", script("toy", _index(grid)))
    missing = [name for name in grid.files() if not (kept / f"{name}.js").is_file()]
    for name in tqdm(missing, "toy worlds", unit="file", disable=not (progress and missing)):
        text = _computed(grid, name)
        write_text(out / f"{name}.js", text)
        with kept_where_possible():
            write_text(kept / f"{name}.js", text)
    for name in set(grid.files()).difference(missing):
        shutil.copyfile(kept / f"{name}.js", out / f"{name}.js")
    size = sum((out / f"{name}.js").stat().st_size for name in ("toy", *grid.files()))
    if size > MOST_BYTES:
        raise ValueError(f"grid takes {size:,} bytes, expected at most {MOST_BYTES:,}: fewer values or steps")


def _computed(grid: Grid, name: str) -> str:
    count, turns, warmup = grid.files()[name]
    configs = grid.losses(warmup, turns)
    found = trajectories(toy.World(count), configs, grid.steps)
    cells = [[one.mask_value, one.sas_weight, one.similarity_weight] for one in configs]
    return script(name, {"cells": cells, **packed(found, GRAIN)})


def _index(grid: Grid) -> dict[str, Any]:
    world, values = toy.World(), asdict(grid)
    return {
        "dials": {one.name: values[one.name] for one in fields(grid) if one.name != "steps"}, "steps": grid.steps,
        "radius": world.radius, "images_per_id": world.images_per_id, "curves": CURVES, "floor": math.log(2),
        "colours": COLOURS[: max(grid.num_identities)],
        "terms": {name: {"name": STYLES[name][0], "colour": STYLES[name][1]} for name in CURVES[:4]},
        "presets": {name: {"mask_value": loss.mask_value, "sas_weight": loss.sas_weight,
                           "similarity_weight": loss.similarity_weight, "asynchronous": loss.asynchronous}
                    for name, loss in toy.PRESETS.items()},
    }  # fmt: skip
