"""Batches as the field usually makes them: worker processes, PIL images, one torchvision transform after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as tv

from sa_lab.data.store import ImageStore
from sa_lab.training.loop import Training
from sa_lab.transforms import ERASING_FILL, IMAGENET_MEAN, IMAGENET_STD

Loader = DataLoader[tuple[Tensor, int, int]]
"""Gives batches (images (B,3,H,W), labels (B,), modality (B,)), on the CPU."""


class PlainImages(Dataset[tuple[Tensor, int, int]]):
    """Images of a store, transformed one at a time by torchvision; an item is (image, label, modality).

    In place of channel mixing stands torchvision's random grey; RandomLinear, which it lacks, is left out.

    Args:
        store: the images, copied to (N,H,W,3) as PIL takes them.
        labels: identity in 0..C-1 of each image, (N,).
        recipe: see `sa_lab.config.TrainConfig.augmentation`.
    """

    def __init__(self, store: ImageStore, labels: Int[np.ndarray, " N"], recipe: str) -> None:
        self.images = np.ascontiguousarray(store.images.cpu().numpy().transpose(0, 2, 3, 1))
        self.labels, self.modality = labels.tolist(), store.modality.tolist()
        self.transforms = [_transform(recipe, *store.size, visible) for visible in (True, False)]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Float[Tensor, "3 H W"], int, int]:
        modality = self.modality[i]
        return self.transforms[modality](Image.fromarray(self.images[i])), self.labels[i], modality


def _transform(recipe: str, height: int, width: int, visible: bool) -> tv.Compose:
    steps: list[object] = [] if recipe == "none" else [tv.RandomHorizontalFlip()]
    if recipe in ("light", "channel_mix"):
        reach = (max(1, round(0.06 * width)), max(1, round(0.06 * height)))
        steps += [tv.Pad(reach), tv.RandomCrop((height, width))]
    if recipe == "channel_mix" and visible:
        steps.append(tv.RandomGrayscale(0.5))
    steps.append(tv.ToTensor())
    if recipe in ("channel_mix", "random_linear"):
        steps.append(tv.RandomErasing(0.5, (0.02, 0.4), (0.3, 1 / 0.3), ERASING_FILL))
    return tv.Compose([*steps, tv.Normalize(IMAGENET_MEAN, IMAGENET_STD)])


def loader_of(training: Training, batches: Iterable[Int[np.ndarray, " B"]], workers: int) -> Loader:
    """A training's images as it would see them, made by worker processes.

    Args:
        training: its store, its identities and its augmentation.
        batches: positions within ``train_index`` of each batch.
        workers: worker processes; they live on from one pass to the next. 0: none, the images are made here.
    """
    labels = np.searchsorted(training.train_ids, training.store.person_ids)
    images = PlainImages(training.store, labels, training.config.train.augmentation)
    return DataLoader(
        images, batch_sampler=_Rows(training, batches), num_workers=workers, persistent_workers=workers > 0,
        pin_memory=training.fabric.device.type == "cuda",
    )  # fmt: skip


class _Rows:
    """Batches of rows of the store."""

    def __init__(self, training: Training, batches: Iterable[Int[np.ndarray, " B"]]) -> None:
        self.index, self.batches = training.train_index, batches

    def __iter__(self) -> Iterator[list[int]]:
        return (self.index[batch].tolist() for batch in self.batches)
