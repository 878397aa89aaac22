"""Seeded inputs of the checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot


def problem(seed: int, batch: int, parts: int, identities: int, channels: int) -> dict[str, Any]:
    """embeddings (B,P,D), prototypes (P,2C,D), labels and modality (B,), as many images of either spectrum."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "embeddings": torch.randn(batch, parts, channels, generator=generator),
        "prototypes": torch.randn(parts, 2 * identities, channels, generator=generator),
        "labels": torch.randint(identities, (batch,), generator=generator),
        "modality": torch.randperm(batch, generator=generator) % 2,
    }


def some_people(seed: int, identities: int, least: int, most: int) -> dict[str, Any]:
    """person_ids and modality (N,) of images in no order: least..most images of each person in each spectrum."""
    generator = np.random.default_rng(seed)
    ids = np.sort(generator.permutation(100)[:identities] + 1)
    groups = np.stack([np.repeat(ids, 2), np.tile([0, 1], identities)])
    counts = generator.integers(least, most + 1, 2 * identities)
    counts[:2] = least, most
    person_ids, modality = generator.permutation(np.repeat(groups, counts, axis=1), axis=1)
    return {"person_ids": person_ids, "modality": modality}


def masked(logits: Tensor, rows: Tensor, amount: float) -> Tensor:
    """(B,P,K) logits, with an amount taken off the row of each sample."""
    return logits - amount * one_hot(rows, logits.shape[2])[:, None]


def entropies(logits: Tensor, rows: Tensor) -> Tensor:
    """(B,P), the cross-entropy of each sample and part; the target is the row of the sample."""
    return cross_entropy(logits.transpose(1, 2), rows[:, None].expand(logits.shape[:2]), reduction="none")
