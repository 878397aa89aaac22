"""The prototype head as the identities become very many: memory and time, of all prototypes or of a sample."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn

from sa_lab import steps
from sa_lab.benchmarks.timing import apart, seconds
from sa_lab.config import LossConfig
from sa_lab.learner import Batch, Learner
from sa_lab.losses import SASoftmaxLoss, sample_identities
from sa_lab.model import Features

BATCH, CHANNELS = 64, 512
IDENTITIES = (100, 1_000, 10_000, 100_000)
RATES = (1.0, 0.1)
LOSS = LossConfig(sas_weight=1.0, warmup_steps=0)


def measure(device: torch.device) -> dict[str, Any]:
    """One asynchronous iteration of the losses at C = 100 to 100,000 (P=1, D=512, B=64, AdamW).

    Returns:
        ``measured``: for each C and ``rate`` the median ``ms`` of an iteration and ``gb``, the largest memory of a
        process that does nothing else, its libraries included; ``on_paper``: see `on_paper`.
    """
    measured = []
    for count in IDENTITIES:
        for rate in RATES:
            ms, gb = apart(iterations, count, rate, device.type, device=device)
            measured.append({"identities": count, "rate": rate, "ms": ms, "gb": gb})
    return {"measured": measured, "on_paper": [on_paper(10**power, rate) for power in range(2, 7) for rate in RATES]}


def on_paper(identities: int, rate: float, batch: int = 128, parts: int = 12, channels: int = 2048) -> dict[str, float]:
    """GB (1e9 bytes) that the prototypes need in float32 with AdamW, by formula.

    Args:
        identities: C.
        rate: share of them that takes part in an iteration.
        batch, parts, channels: B, P, D; by default the paper's.

    Returns:
        Of the prototypes (P,2C,D) and AdamW's two moments; of the gradient and of the logits (B,P,2C) and their
        gradient, whose rows are a sample's when there is one; of the copies that a sample needs, of its rows in both
        steps and of their moments; of all together.
    """
    prototypes = 4 * parts * 2 * identities * channels / 1e9
    logits = 2 * 4 * batch * parts * 2 * identities / 1e9
    found = {
        "prototypes": prototypes, "moments": 2 * prototypes, "gradient": rate * prototypes, "logits": rate * logits,
        "copies": 4 * rate * prototypes if rate < 1 else 0.0,
    }  # fmt: skip
    return {"identities": float(identities), "rate": rate, **found, "all": sum(found.values())}


class _Given(nn.Module):
    """Embeddings that are given, with a factor to learn; without an identity classifier, whose logits are all 0."""

    def __init__(self, embeddings: Tensor, identities: int) -> None:
        super().__init__()
        self.embeddings, self.identities = nn.Parameter(embeddings), identities

    def forward(self, images: Tensor, modality: Tensor | np.ndarray, classify: bool = True) -> Features:
        none = self.embeddings.detach().new_zeros(()).expand(*self.embeddings.shape[:2], self.identities)
        return Features(self.embeddings, self.embeddings, none)


def learner_of(identities: int, rate: float, device: torch.device) -> tuple[Learner, Batch]:
    """What an iteration of the library needs, with nothing in front of the losses.

    Args:
        identities: C.
        rate: share of them that takes part, see `sa_lab.config.TrainConfig.sample_rate`.
        device: where to compute.
    """
    generator = Generator().manual_seed(0)
    labels = torch.randint(identities, (BATCH,), generator=generator)
    modality = torch.arange(BATCH) % 2
    model = _Given(torch.randn(BATCH, 1, CHANNELS, generator=generator), identities).to(device)
    criterion = SASoftmaxLoss(identities, CHANNELS).to(device)
    lots = Generator(device).manual_seed(0)

    def sampled(labels: Tensor) -> Int[Tensor, " S"]:
        return sample_identities(labels, identities, rate, lots, BATCH)

    learner = Learner(
        fabric=Fabric(accelerator=device.type, devices=1), model=model, criterion=criterion,
        feature_optimizer=torch.optim.AdamW(model.parameters(), fused=True),
        prototype_optimizer=torch.optim.AdamW(criterion.parameters(), fused=True),
        sampling=sampled if rate < 1 else None,
    )  # fmt: skip
    return learner, Batch(torch.zeros(BATCH, 3, 1, 1, device=device), labels.to(device), modality)


def iterations(identities: int, rate: float, device: str, rounds: int = 5) -> float:
    """Median milliseconds of an iteration; arguments as of `learner_of`."""
    place = torch.device(device)
    learner, batch = learner_of(identities, rate, place)
    times = [seconds(lambda: steps.iteration(learner, batch, LOSS, 0), place) for _ in range(rounds + 2)]
    return 1e3 * statistics.median(times[2:])
