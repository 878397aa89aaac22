"""Losses of the field beside SA-Softmax, as terms of an objective: pure functions, and modules where they learn.

Each is a mean over the batch, summed over the P parts, of float32 at least; distances d are Euclidean. ``features`` are
those before the neck, as their papers have it, or embeddings after it when compared with a classifier's weights:
`sa_lab.training.objective` says which term sees which. Each of several processes looks at its own share of the batch.

A sample has positives, other samples of its identity, and negatives, samples of other identities; its partners are
those of the other spectrum. A sample without positives, or without negatives, adds nothing.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributed, nn
from torch.nn import functional

from sa_lab.losses import cross_entropy, single


def batch_hard_triplet(features: Float[Tensor, "B P D"], labels: Tensor, margin: float = 0.3) -> Float[Tensor, ""]:
    """Mean of [margin + max d(positive) - min d(negative)]_+ in [0, inf).

    Source: Hermans et al., In Defense of the Triplet Loss for Person Re-Identification, arXiv:1703.07737 (2017).

    Args:
        features: before the neck.
        labels: identity, (B,) integers.
        margin: at least 0, in units of the features.
    """
    same = _same(labels, labels)
    return _hardest(_distances(features), same & ~_itself(same), ~same, margin).mean(1).sum()


def cross_modality_triplet(
    features: Float[Tensor, "B P D"], labels: Tensor, modality: Tensor, margin: float = 0.3
) -> Float[Tensor, ""]:
    """As `batch_hard_triplet` with partners alone: visible samples search among infrared ones, and the reverse.

    Source: the bi-directional ranking of Ye et al., Visible Thermal Person Re-Identification via Dual-Constrained
    Top-Ranking, IJCAI 2018, with the hardest pair of Hermans et al. (2017) in either direction.
    """
    same, across = _same(labels, labels), ~_same(modality, modality)
    return _hardest(_distances(features), same & across, ~same & across, margin).mean(1).sum()


def weighted_regularised_triplet(features: Float[Tensor, "B P D"], labels: Tensor) -> Float[Tensor, ""]:
    """Mean of log(1 + exp(sum_p w_p d_p - sum_n w_n d_n)) in (0, inf), without a margin.

    The weights are softmaxes over the positives (of d) and over the negatives (of -d): far positives and near negatives
    count most.

    Source: Ye et al., Deep Learning for Person Re-Identification: A Survey and Outlook (AGW), arXiv:2001.04193 (2021).
    """
    distances, same = _distances(features), _same(labels, labels)
    positive, negative = same & ~_itself(same), ~same
    near = _weighted(distances, distances, positive) - _weighted(distances, -distances, negative)
    valid = positive.any(1) & negative.any(1)
    return (functional.softplus(near) * valid).mean(1).sum()


def hetero_center(features: Float[Tensor, "B P D"], labels: Tensor, modality: Tensor) -> Float[Tensor, ""]:
    """Mean over the identities of the batch of ||c_visible - c_infrared||^2 in [0, inf), c means of their features.

    Source: Zhu et al., Hetero-Center Loss for Cross-Modality Person Re-Identification, Neurocomputing 386 (2020), where
    it is the sum over the identities: their weight 0.5 with 8 identities a batch is 4 here.
    """
    features = single(features)
    same, alike = _same(labels, labels), _same(modality, modality)
    gap = _means(features, same & alike) - _means(features, same & ~alike)
    weight = 1 / same.sum(1).to(features)  # so that each identity counts once
    complete = (same & ~alike).any(1)
    return (gap.square().sum(2) * (weight * complete)[:, None]).sum() / weight.sum()


def hetero_center_triplet(
    features: Float[Tensor, "B P D"], labels: Tensor, modality: Tensor, margin: float = 0.3
) -> Float[Tensor, ""]:
    """Mean over all centres of [margin + d(centre, partner) - min d(centre, centre of another identity)]_+ in [0, inf).

    An identity has a centre in each spectrum, the mean of its features; these two are partners.

    Source: Liu et al., Parameter Sharing Exploration and Hetero-Center Triplet Loss for Visible-Thermal Person
    Re-Identification, arXiv:2008.06223 (2020), where it is the sum.
    """
    same, alike = _same(labels, labels), _same(modality, modality)
    centres = _means(single(features), same & alike)
    hinges = _hardest(_distances(centres), same & ~alike, ~same, margin)
    weight = 1 / (same & alike).sum(1).to(centres)  # so that each centre counts once
    return (hinges * weight).sum() / weight.sum()


def supervised_contrastive(
    features: Float[Tensor, "B P D"], labels: Tensor, modality: Tensor, temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Cross-entropy of picking the positives among all partners by cosine similarity over ``temperature``, in [0, inf).

    Source: Khosla et al., Supervised Contrastive Learning, arXiv:2004.11362 (2020), equation 2, with partners alone as
    candidates, so that every comparison is one across the spectra.

    Args:
        features: of any length.
        labels, modality: (B,) integers.
        temperature: above 0.
    """
    units = functional.normalize(single(features), dim=2).transpose(0, 1)  # (P,B,D)
    across = ~_same(modality, modality)
    positive = _same(labels, labels) & across
    similarity = (units @ units.transpose(1, 2) / temperature).masked_fill(~across, _LEAST)
    likelihood = functional.log_softmax(similarity, dim=2).masked_fill(~positive, 0.0)
    return -(likelihood.sum(2) / positive.sum(1).clamp_min(1)).mean(1).sum()


def mmd(features: Float[Tensor, "B P D"], modality: Tensor) -> Float[Tensor, ""]:
    """Squared maximum mean discrepancy between the two spectra in [0, 2]: how far apart their distributions are.

    The kernel is the mean of five Gaussians exp(-d^2 / (2 s m)), s in 1/4, 1/2, 1, 2, 4 and m the median squared
    distance of the batch, through which no gradient goes.

    Source: Gretton et al., A Kernel Two-Sample Test, JMLR 13 (2012), the biased estimate, which is never negative.

    Args:
        features: before the neck.
        modality: 0 visible, 1 infrared, (B,); both have to occur.
    """
    squared = _distances(features).square()
    pairs = squared.detach().masked_fill(_itself(modality), torch.nan).flatten(1)
    median = pairs.nanmedian(1).values.clamp_min(_TINY)[:, None, None]
    kernel = torch.stack([torch.exp(-squared / (2 * scale * median)) for scale in (0.25, 0.5, 1, 2, 4)]).mean(0)
    visible = (modality == 0).to(squared)
    signed = visible / visible.sum() - (1 - visible) / (1 - visible).sum()  # mean of the one less mean of the other
    return (signed @ kernel @ signed).sum().clamp_min(0)


class CenterLoss(nn.Module):
    """Half the squared distance to the identity's centre, in [0, inf).

    Source: Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV 2016. In training,
    each centre moves by the paper's equation 4, whatever the weight of the loss: by `rate` times sum(x - centre) over
    the batch's n images of its identity, divided by 1 + n. With several processes, the images of all of them count.

    Args:
        num_identities: C.
        embedding_dim: D.
        num_parts: P.
        rate: the paper's alpha, in [0,1].

    Attributes:
        centres: (P,C,D), initially at the origin; saved with the module, but not a parameter of an optimiser.
    """

    centres: Tensor

    def __init__(self, num_identities: int, embedding_dim: int, num_parts: int = 1, rate: float = 0.5) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("centres", torch.zeros(num_parts, num_identities, embedding_dim))

    def forward(self, features: Float[Tensor, "B P D"], labels: Tensor) -> Float[Tensor, ""]:
        away = single(features) - single(self.centres)[:, labels].transpose(0, 1)  # (B,P,D)
        if self.training:
            self._move(away.detach(), labels)
        return away.square().sum(2).mean(0).sum() / 2

    @torch.no_grad()
    def _move(self, away: Float[Tensor, "B P D"], labels: Tensor) -> None:
        pulls = torch.zeros_like(self.centres, dtype=away.dtype).index_add_(1, labels, away.transpose(0, 1))
        counts = torch.bincount(labels, minlength=self.centres.shape[1]).to(away)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(pulls)
            distributed.all_reduce(counts)
        self.centres += self.rate * pulls / (1 + counts)[:, None]


class MarginHead(nn.Module):
    """Softmax over cosines of embeddings and class weights, with a margin for the own class: CosFace or ArcFace.

    Cross-entropy of scale * cos(theta), where the own class has cos(theta) - margin (`kind` cosface, Wang et al.,
    arXiv:1801.09414, 2018) or cos(theta + margin) (arcface, Deng et al., arXiv:1801.07698, 2019). Beyond theta =
    pi - margin, where the cosine would rise again, ArcFace takes cos(theta) - margin sin(margin), as its authors do.

    Args:
        num_identities: C.
        embedding_dim: D.
        num_parts: P.
        kind: cosface or arcface.
        margin: at least 0; an angle in radians, below pi, for arcface.
        scale: length that embeddings are brought to, above 0.

    Attributes:
        weights: parameter (P,C,D), one row per class.
    """

    def __init__(
        self, num_identities: int, embedding_dim: int, num_parts: int, kind: str, margin: float, scale: float
    ) -> None:
        super().__init__()
        if kind not in ("cosface", "arcface"):
            raise ValueError(f"kind is {kind!r}, expected cosface or arcface")
        self.kind, self.margin, self.scale = kind, margin, scale
        self.weights = nn.Parameter(torch.randn(num_parts, num_identities, embedding_dim) * 0.01)

    def forward(self, embeddings: Float[Tensor, "B P D"], labels: Tensor) -> Float[Tensor, ""]:
        units = functional.normalize(single(embeddings), dim=2)
        cosines = torch.einsum("bpd,pkd->bpk", units, functional.normalize(single(self.weights), dim=2))
        own = labels[:, None, None].expand(-1, cosines.shape[1], 1)
        cosine = cosines.gather(2, own)
        return cross_entropy(self.scale * cosines.scatter(2, own, self._with_margin(cosine)), labels)

    def _with_margin(self, cosine: Tensor) -> Tensor:
        if self.kind == "cosface":
            return cosine - self.margin
        sine = (1 - cosine.square()).clamp_min(_TINY).sqrt()
        turned = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        return torch.where(cosine > -math.cos(self.margin), turned, cosine - self.margin * math.sin(self.margin))


_LEAST = torch.finfo(torch.float32).min
_TINY = 1e-12


def _same(one: Tensor, other: Tensor) -> Bool[Tensor, "B B"]:
    return one[:, None] == other[None, :]


def _itself(like: Tensor) -> Bool[Tensor, "B B"]:
    return torch.eye(len(like), dtype=torch.bool, device=like.device)


def _distances(features: Float[Tensor, "B P D"]) -> Float[Tensor, "P B B"]:
    """Euclidean distance of each two samples; where it is 0, its gradient is 0."""
    rows = single(features).transpose(0, 1)
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def _means(rows: Float[Tensor, "B P D"], members: Bool[Tensor, "B B"]) -> Float[Tensor, "B P D"]:
    """For each sample the mean of the rows that are its members; 0 where it has none."""
    weights = members.to(rows) / members.sum(1, keepdim=True).clamp_min(1)
    return torch.einsum("ij,jpd->ipd", weights, rows)


def _hardest(
    distances: Float[Tensor, "P B B"], positive: Bool[Tensor, "B B"], negative: Bool[Tensor, "B B"], margin: float
) -> Float[Tensor, "P B"]:
    """[margin + farthest positive - nearest negative]_+ of each sample; 0 where one of the two is missing."""
    farthest = distances.masked_fill(~positive, _LEAST).amax(2)
    nearest = distances.masked_fill(~negative, -_LEAST).amin(2)
    valid = positive.any(1) & negative.any(1)
    return torch.where(valid, margin + farthest - nearest, 0.0).clamp_min(0)


def _weighted(
    distances: Float[Tensor, "P B B"], scores: Float[Tensor, "P B B"], mask: Bool[Tensor, "B B"]
) -> Float[Tensor, "P B"]:
    """Mean distance to the samples of ``mask``, weighted by a softmax of ``scores``; 0 where there is none."""
    weights = scores.masked_fill(~mask, _LEAST).softmax(2) * mask
    return (weights * distances).sum(2)
