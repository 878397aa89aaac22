"""The sizes that are measured: presets on images of noise, which cost what any images cost."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import torch

from sa_lab.config import PRESETS, ExperimentConfig, TrainConfig
from sa_lab.data.store import ImageStore

IDENTITIES = {"tiny": 160, "small": 160, "paper": 395}
"""C of each preset: synthetic people less those held back; SYSU-MM01's for the paper's."""
SYSU_IMAGES = 43
"""Images of an identity and spectrum that make up as many as SYSU-MM01 trains on, 34,000."""


def config_of(preset: str, device: torch.device, train: dict[str, object] | None = None) -> ExperimentConfig:
    """A preset to be timed: weights drawn at random, no warm-up, nobody held back, all threads, without an end.

    Args:
        preset: tiny, small or paper.
        device: where to compute.
        train: dials of `TrainConfig` to set besides.
    """
    config = PRESETS[preset]()
    dials: dict[str, object] = {"device": device.type, "threads": 0, "num_epochs": 10**6, **(train or {})}
    changed: TrainConfig = replace(config.train, **dials)  # type: ignore[arg-type]
    return replace(
        config, data=replace(config.data, validation_fraction=0.0), model=replace(config.model, weights="random"),
        loss=replace(config.loss, warmup_steps=0), train=changed,
    )  # fmt: skip


def store_of(config: ExperimentConfig, identities: int, images: int) -> ImageStore:
    """A store in memory whose images are noise.

    Args:
        config: their size in pixels.
        identities: C, all for training.
        images: of an identity in each spectrum; fewer where memory, needed twice, would not do.
    """
    size = (3, config.data.height, config.data.width)
    room = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    images = max(1, min(images, room // (2 * identities * int(np.prod(size)))))
    person_ids = np.repeat(np.arange(identities), 2 * images)
    modality = np.tile(np.repeat([0, 1], images), identities)
    pixels = torch.empty((len(person_ids), *size), dtype=torch.uint8)
    pixels.random_(256, generator=torch.Generator().manual_seed(0))
    return ImageStore(
        name="noise", images=pixels, person_ids=person_ids, camera_ids=modality + 1, modality=modality,
        is_train=np.ones(len(person_ids), bool), group_ids=person_ids,
        paths=tuple(f"{i:06}" for i in range(len(person_ids))), digest="noise",
    )  # fmt: skip
