"""What the loss does to single samples of a trained run: logits, probabilities, gradients, under any weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from sa_lab import experiment, transforms
from sa_lab.config import LossConfig
from sa_lab.data.store import ImageStore
from sa_lab.evaluation.validation import first_people
from sa_lab.losses import SASoftmaxLoss, cross_prototype, own_prototype, prototype_logits
from sa_lab.model import Features
from sa_lab.plots import SPECTRA
from sa_lab.training import objective


@dataclass(frozen=True)
class Reading:
    """One sample under one loss; logits and probabilities are means over the parts.

    Attributes:
        rows: (K,) rows of the prototypes: own, cross, then the likeliest others.
        logits: (K,) f.W before the mask.
        probabilities: (K,) after the mask, in [0,1].
        losses: the unweighted terms in nats, summed over the parts.
        gradients: length of the gradient of each weighted term with respect to the sample's embedding.
    """

    rows: Int[np.ndarray, " K"]
    logits: Float[np.ndarray, " K"]
    probabilities: Float[np.ndarray, " K"]
    losses: dict[str, float]
    gradients: dict[str, float]


@dataclass(frozen=True)
class Lens:
    """Training samples as the loss sees them, with the prototypes and the classifier they were trained with.

    Embeddings are those of the network in evaluation mode and without augmentation, before any normalisation.

    Attributes:
        images: (N,3,H,W).
        embeddings: (N,P,D).
        classifier: V (P,C,D).
        prototypes: W (P,2C,D), visible half first.
        labels, modality: (N,).
        person_ids: (C,) the raw identity of each label.
        paths: of the images.
    """

    images: UInt8[np.ndarray, "N 3 H W"]
    embeddings: Float[Tensor, "N P D"]
    classifier: Float[Tensor, "P C D"]
    prototypes: Float[Tensor, "P C2 D"]
    labels: Int[Tensor, " N"]
    modality: Int[Tensor, " N"]
    person_ids: Int[np.ndarray, " C"]
    paths: tuple[str, ...] = ()

    @classmethod
    def of_run(cls, folder: Path, store: ImageStore | None = None, most: int = 240) -> Lens:
        """Embed the first training identities of a run, as many as ``most`` images hold.

        Args:
            folder: of the run.
            store: its images; by default opened from where the run's config points.
            most: images at most.

        Raises:
            FileNotFoundError, DataError: the run has no model yet, or its images are not where they were.
        """
        model, prototypes, train_ids = experiment.load_model(folder)
        store = store or experiment.images_of(folder)
        index = first_people(store, train_ids, most)
        images = store.gather(torch.from_numpy(index))
        modality = torch.from_numpy(store.modality[index].astype(np.int64))
        with torch.no_grad():
            seen = model.eval()(transforms.normalize(transforms.to_float(images, torch.float32)), modality)
        return cls(
            images=images.numpy(), embeddings=seen.embeddings.float(), classifier=model.classifier.detach().float(),
            prototypes=prototypes.float(), modality=modality, person_ids=train_ids,
            labels=torch.from_numpy(np.searchsorted(train_ids, store.person_ids[index])),
            paths=tuple(store.paths[i] for i in index),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.labels)

    def gradients(self, loss: LossConfig) -> dict[str, Float[np.ndarray, " N"]]:
        """Length of the gradient of each weighted term of a sample's own loss with respect to its embedding."""
        _, pulls = self._look(loss, slice(None))
        return {name: pull.flatten(1).norm(dim=1).numpy() for name, pull in pulls.items()}

    def losses(self, loss: LossConfig) -> Float[np.ndarray, " N"]:
        """The feature objective on each sample alone, in nats, summed over the parts."""
        weights, values = loss.weights(), []
        for i in range(len(self)):
            terms, _ = self._look(loss, slice(i, i + 1))
            values.append(sum(weight * float(terms[name].detach()) for name, weight in weights.items()))
        return np.array(values)

    def names(self, reading: Reading) -> list[str]:
        """What each prototype of a reading is: own, cross or another identity, and its spectrum."""
        count = len(self.person_ids)
        kinds = ["own", "cross", *(f"id {self.person_ids[row % count]}" for row in reading.rows[2:])]
        return [f"{kind}, {SPECTRA[row // count]}" for kind, row in zip(kinds, reading.rows, strict=True)]

    def read(self, sample: int, loss: LossConfig, num_others: int = 4) -> Reading:
        """Look at one sample.

        Raises:
            ValueError: no such sample.
        """
        if not 0 <= sample < len(self):
            raise ValueError(f"sample is {sample}, expected 0..{len(self) - 1}")
        one = slice(sample, sample + 1)
        terms, pulls = self._look(loss, one)
        count = len(self.person_ids)
        own = int(own_prototype(self.labels[one], self.modality[one], count))
        cross = int(cross_prototype(self.labels[one], self.modality[one], count))
        logits = prototype_logits(self.embeddings[one], self.prototypes)[0]  # (P,2C)
        masked = logits.clone()
        masked[:, own] -= loss.mask_value
        likely = masked.softmax(1).mean(0)
        others = [int(row) for row in likely.argsort(descending=True) if row not in (own, cross)]
        rows = np.array([own, cross, *others[:num_others]])
        return Reading(
            rows=rows, logits=logits.mean(0).numpy()[rows], probabilities=likely.numpy()[rows],
            losses={name: float(term.detach()) for name, term in terms.items()},
            gradients={name: float(pull.norm()) for name, pull in pulls.items()},
        )  # fmt: skip

    def _look(self, loss: LossConfig, which: slice) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Terms on some samples, and the gradient of each sample's own weighted terms with respect to it."""
        embeddings = self.embeddings[which].detach().requires_grad_()
        labels, modality = self.labels[which], self.modality[which]
        features = Features(embeddings, embeddings, prototype_logits(embeddings, self.classifier))
        terms = objective.objective(self._criterion, features, labels, modality, loss)
        return terms, {name: len(labels) * pull for name, pull in objective.gradients(terms, loss, embeddings).items()}

    @cached_property
    def _criterion(self) -> SASoftmaxLoss:
        """The library's own, with these prototypes."""
        parts, rows, channels = self.prototypes.shape
        criterion = SASoftmaxLoss(rows // 2, channels, parts)
        criterion.prototypes = nn.Parameter(self.prototypes, requires_grad=False)
        return criterion
