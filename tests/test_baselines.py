"""Losses of the field: by hand on tiny inputs, by property, and against pytorch-metric-learning where that has them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor

from sa_lab import baselines

# four points of a line, in one part: persons 0 and 1, each once in each spectrum
LINE = torch.tensor([0.0, 5.0, 1.0, 3.0])[:, None, None]
PERSON = torch.tensor([0, 1, 0, 1])
SPECTRUM = torch.tensor([0, 0, 1, 1])


def weighted(positive: float, negatives: tuple[float, float]) -> float:
    distances = torch.tensor(negatives, dtype=torch.float64)
    return math.log1p(math.exp(positive - float(((-distances).softmax(0) * distances).sum())))


def contrast(own: float, other: float, temperature: float) -> float:
    return math.log1p(math.exp((other - own) / temperature))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # 0: positive 1, nearest negative 3; 1: 2 and 4; 0': 1 and 2; 1': 2 and 2
        (lambda: baselines.batch_hard_triplet(LINE, PERSON, 1.5), (0 + 0 + 0.5 + 1.5) / 4),
        # across: 0: 1 and 3; 1: 2 and 4; 0': 1 and 4; 1': 2 and 3
        (lambda: baselines.cross_modality_triplet(LINE, PERSON, SPECTRUM, 1.5), (0 + 0 + 0 + 0.5) / 4),
        (
            lambda: baselines.weighted_regularised_triplet(LINE, PERSON),
            (weighted(1, (5, 3)) + weighted(2, (5, 4)) + weighted(1, (4, 2)) + weighted(2, (3, 2))) / 4,
        ),
        (lambda: baselines.hetero_center(LINE, PERSON, SPECTRUM), (1 + 4) / 2),
        # centres are the points: 0: partner 1, nearest other 3; 1: 2, 4; 0': 1, 2; 1': 2, 2
        (lambda: baselines.hetero_center_triplet(LINE, PERSON, SPECTRUM, 1.5), (0 + 0 + 0.5 + 1.5) / 4),
    ],
    ids=["batch hard", "cross-modality", "weighted", "hetero-center", "hetero-center triplet"],
)
def test_by_hand(loss: Callable[[], Tensor], expected: float) -> None:
    torch.testing.assert_close(loss(), torch.tensor(expected))


def test_centres_are_means_and_each_counts_once() -> None:
    """Person 0 has two visible images, at 0 and 2: the centre is 1; its infrared one is at 4, person 1 at 10 and 12."""
    points = torch.tensor([0.0, 2.0, 4.0, 10.0, 12.0])[:, None, None]
    person, spectrum = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 0, 1])
    torch.testing.assert_close(baselines.hetero_center(points, person, spectrum), torch.tensor((9.0 + 4.0) / 2))
    # partner 3, nearest 9; 3, 6; 2, 6; 2, 8; margin 4
    torch.testing.assert_close(
        baselines.hetero_center_triplet(points, person, spectrum, 4.0), torch.tensor((0 + 1 + 0 + 0) / 4)
    )


def test_contrast_is_a_choice_among_the_other_spectrum() -> None:
    units = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, 1.0]])[:, None]
    cosines = [(0.6, 0.0), (1.0, 0.8), (0.6, 0.8), (1.0, 0.0)]  # with the own person, with the other one
    expected = sum(contrast(own, other, 0.5) for own, other in cosines) / 4
    torch.testing.assert_close(
        baselines.supervised_contrastive(3 * units, PERSON, SPECTRUM, 0.5), torch.tensor(expected)
    )


def test_discrepancy_of_two_points_and_of_one_distribution() -> None:
    """Two points at a distance d: the median is d^2, so that the kernel is exp(-1 / 2s)."""
    kernel = sum(math.exp(-1 / (2 * s)) for s in (0.25, 0.5, 1, 2, 4)) / 5
    pair = torch.tensor([0.0, 7.0])[:, None, None]
    torch.testing.assert_close(baselines.mmd(pair, torch.tensor([0, 1])), torch.tensor(2 - 2 * kernel))
    assert baselines.mmd(pair.repeat(2, 1, 1), torch.tensor([0, 0, 1, 1])) < 1e-6


def test_center_loss_its_gradient_and_how_centres_move() -> None:
    loss = baselines.CenterLoss(3, 2, rate=0.5)
    loss.centres[0, 1] = torch.tensor([1.0, 0.0])
    features = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]], [[4.0, 2.0]]], requires_grad=True)
    value = loss(features, torch.tensor([1, 0, 1]))
    torch.testing.assert_close(value.detach(), torch.tensor((4.0 + 0.0 + 13.0) / 2 / 3))
    value.backward()
    torch.testing.assert_close(features.grad[:, 0], torch.tensor([[0.0, 2.0], [0.0, 0.0], [3.0, 2.0]]) / 3)
    # by equation 4: 0.5 * ((0, 2) + (3, 2)) / (1 + 2)
    torch.testing.assert_close(loss.centres[0, 1], torch.tensor([1.5, 2.0 / 3]))
    assert not loss.centres[0, [0, 2]].any()
    loss.eval()(features, torch.tensor([1, 0, 1]))
    torch.testing.assert_close(loss.centres[0, 1], torch.tensor([1.5, 2.0 / 3]))


def test_centres_reach_their_features_whatever_the_weight() -> None:
    loss = baselines.CenterLoss(2, 3)
    features = 20 * torch.ones(4, 1, 3)
    for _ in range(30):
        loss(features, torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(loss.centres, 20 * torch.ones(1, 2, 3), rtol=1e-3, atol=0)


def sample(batch: int = 12, parts: int = 1, dim: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Features of three persons, alternately visible and infrared."""
    features = torch.randn(batch, parts, dim, dtype=torch.float64)
    return features, torch.arange(batch) // 2 % 3, torch.arange(batch) % 2


def test_batch_hard_triplet_is_that_of_pytorch_metric_learning() -> None:
    features, labels, _ = sample()
    distance = distances.LpDistance(normalize_embeddings=False)
    pairs = miners.BatchHardMiner(distance=distance)(features[:, 0], labels)
    known = losses.TripletMarginLoss(margin=0.7, distance=distance, reducer=reducers.MeanReducer())
    torch.testing.assert_close(
        baselines.batch_hard_triplet(features, labels, 0.7), known(features[:, 0], labels, pairs), rtol=1e-5, atol=1e-5
    )


def test_contrast_is_that_of_pytorch_metric_learning_in_both_directions() -> None:
    features, labels, modality = sample()
    known = losses.SupConLoss(temperature=0.2, reducer=reducers.MeanReducer())
    halves = [(features[modality == m, 0], labels[modality == m]) for m in (0, 1)]
    there, back = (known(*halves[m], ref_emb=halves[1 - m][0], ref_labels=halves[1 - m][1]) for m in (0, 1))
    torch.testing.assert_close(baselines.supervised_contrastive(features, labels, modality, 0.2), (there + back) / 2)


@pytest.mark.parametrize("kind", ["cosface", "arcface"])
def test_margin_heads_are_those_of_pytorch_metric_learning(kind: str) -> None:
    features, labels, _ = sample()
    head = baselines.MarginHead(3, 5, 1, kind, 0.4, 16.0).double()
    known = (
        losses.CosFaceLoss(3, 5, margin=0.4, scale=16)
        if kind == "cosface"
        else losses.ArcFaceLoss(3, 5, margin=math.degrees(0.4), scale=16)
    )
    with torch.no_grad():
        known.W = torch.nn.Parameter(head.weights[0].T.clone())
    torch.testing.assert_close(head(features, labels), known(features[:, 0], labels), rtol=1e-5, atol=1e-5)


def test_the_margin_head_knows_its_kinds() -> None:
    with pytest.raises(ValueError, match="kind is 'sphere', expected cosface or arcface"):
        baselines.MarginHead(3, 5, 1, "sphere", 0.4, 16.0)


def terms(features: Tensor, labels: Tensor, modality: Tensor) -> dict[str, Tensor]:
    parts, dim = features.shape[1:]
    classes = 4
    torch.manual_seed(1)
    return {
        "triplet": baselines.batch_hard_triplet(features, labels),
        "cross_triplet": baselines.cross_modality_triplet(features, labels, modality),
        "weighted_triplet": baselines.weighted_regularised_triplet(features, labels),
        "hetero_center": baselines.hetero_center(features, labels, modality),
        "hetero_center_triplet": baselines.hetero_center_triplet(features, labels, modality),
        "contrastive": baselines.supervised_contrastive(features, labels, modality),
        "mmd": baselines.mmd(features, modality),
        "center": baselines.CenterLoss(classes, dim, parts).to(features)(features, labels),
        "cosface": baselines.MarginHead(classes, dim, parts, "cosface", 0.35, 64.0).to(features)(features, labels),
        "arcface": baselines.MarginHead(classes, dim, parts, "arcface", 0.5, 64.0).to(features)(features, labels),
    }


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.lists(st.integers(0, 3), min_size=4, max_size=10))
def test_every_term_is_finite_not_negative_a_sum_over_parts_and_blind_to_order(
    seed: int, parts: int, people: list[int]
) -> None:
    """Whoever is in the batch, also persons of one image, of one spectrum, and images that coincide."""
    torch.manual_seed(seed)
    labels, modality = torch.tensor(people), torch.arange(len(people)) % 2
    features = torch.randn(len(people), parts, 4, dtype=torch.float64)
    features[-1] = features[0]
    features.requires_grad_()
    found = terms(features, labels, modality)
    for name, value in found.items():
        assert value.isfinite(), name
        assert value >= 0, name
        (gradient,) = torch.autograd.grad(value, features, retain_graph=True, allow_unused=True)
        assert gradient is None or gradient.isfinite().all(), name
    order = torch.randperm(len(people))
    for name, value in terms(features[order], labels[order], modality[order]).items():
        torch.testing.assert_close(value, found[name], msg=name)
    learned = {"cosface", "arcface"}  # their weights differ by part
    by_part = [terms(features[:, p : p + 1], labels, modality) for p in range(parts)]
    for name in found.keys() - learned:
        torch.testing.assert_close(found[name], sum(one[name] for one in by_part), msg=name)


@pytest.mark.parametrize("name", sorted(set(terms(*sample())) - {"mmd"}))
def test_gradients_are_those_of_differences(name: str) -> None:
    features, labels, modality = sample(batch=6, parts=2, dim=3)
    torch.autograd.gradcheck(lambda x: terms(x, labels, modality)[name], features.requires_grad_())


def test_no_gradient_of_the_discrepancy_goes_through_its_median() -> None:
    features, _, modality = sample(batch=6, dim=3)
    upper = torch.triu_indices(6, 6, 1)
    squared = (features[upper[0], 0] - features[upper[1], 0]).square().sum(1)
    median = squared.repeat_interleave(2).median()

    def with_fixed_median(x: Tensor) -> Tensor:
        pairs = (x[:, None, 0] - x[None, :, 0]).square().sum(2)
        kernel = sum(torch.exp(-pairs / (2 * s * median)) for s in (0.25, 0.5, 1, 2, 4)) / 5
        same = modality[:, None] == modality[None, :]
        return (torch.where(same, kernel, -kernel) / 9).sum()

    ours, fixed = features.clone().requires_grad_(), features.clone().requires_grad_()
    torch.testing.assert_close(baselines.mmd(ours, modality), with_fixed_median(fixed))
    baselines.mmd(ours, modality).backward()
    with_fixed_median(fixed).backward()
    torch.testing.assert_close(ours.grad, fixed.grad)


def test_spectra_that_lie_together_cost_least() -> None:
    """Moving the infrared half onto the visible one lowers every loss that asks for it."""
    features, labels, modality = sample(batch=24)
    apart = torch.where(modality[:, None, None] == 1, features + 3, features)
    near = terms(features, labels, modality)
    far = terms(apart, labels, modality)
    for name in ("cross_triplet", "hetero_center", "hetero_center_triplet", "mmd"):
        assert near[name] < far[name], name
