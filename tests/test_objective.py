"""The algebra of terms: named ones with weights, losses of the field in a training, and losses of one's own."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from pytorch_metric_learning import losses as metric_losses
from pytorch_metric_learning import miners
from test_train import config_of, first_batch, same
from torch import Tensor, nn
from torch.nn import functional

from sa_lab import baselines
from sa_lab.config import TERMS, VARIANTS, ExperimentConfig, LossConfig, variant
from sa_lab.data.store import ImageStore
from sa_lab.provenance import function_name
from sa_lab.runs import loss_name
from sa_lab.training import objective
from sa_lab.training.learner import LogRow
from sa_lab.training.loop import Training, iterate, start
from sa_lab.training.objective import check_own, sees_prototypes
from sa_lab.training.steps import loss_at

FIELD = [name for name, change in VARIANTS.items() if "terms" in change]


def steps_of(training: Training, count: int) -> list[LogRow]:
    return [row for _, row in zip(range(count), iterate(training), strict=False)]


def test_every_term_has_a_room() -> None:
    assert {*objective.TERMS, "sa_softmax", "absolute", "own"} == set(TERMS)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("identity", {"identity": 1.0}),
        ("identity 1 + triplet 0.5", {"identity": 1.0, "triplet": 0.5}),
        (" identity 0 +mmd 1e-2 ", {"identity": 0.0, "mmd": 0.01}),
    ],
)
def test_terms_are_read(text: str, weights: dict[str, float]) -> None:
    assert LossConfig(terms=text).weights() == weights


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("identity 1 + triplets 1", "loss.terms has 'triplets 1', expected a name"),
        ("identity 1 +", "loss.terms has '', expected"),
        ("identity 1 + identity 1", "loss.terms has 'identity 1', expected a name, once"),
        ("identity -1", "loss.terms has 'identity -1', expected .* a weight of at least 0"),
        ("identity nan", "loss.terms has 'identity nan'"),
        ("identity 1 2", "loss.terms has 'identity 1 2'"),
        ("identity one", "loss.terms has 'identity one'"),
        ("identity 0", "loss.terms is 'identity 0', expected at least one weight above 0"),
    ],
)
def test_other_terms_are_told(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LossConfig(terms=text)


def test_an_angle_has_an_end() -> None:
    with pytest.raises(ValueError, match=r"loss.margin is 3.2, expected an angle below pi for arcface"):
        LossConfig(terms="arcface 1", margin=3.2)
    LossConfig(terms="triplet 1", margin=3.2)


def test_the_paper_is_a_sum_of_terms(micro_store: ImageStore) -> None:
    """Bit for bit: the same training with three weights and with three named terms."""
    named = LossConfig(terms="identity 0.3 + sa_softmax 0.7 + absolute 1", warmup_steps=1)
    paper, terms = (start(config_of(loss), micro_store) for loss in (LossConfig(warmup_steps=1), named))
    assert [row["total"] for row in steps_of(paper, 4)] == [row["total"] for row in steps_of(terms, 4)]
    assert same(paper.network.state_dict(), terms.network.state_dict())


@pytest.mark.parametrize("name", FIELD)
def test_losses_of_the_field_train(micro_store: ImageStore, name: str) -> None:
    """Their terms are logged and add up; what they learn moves; the prototypes learn as ever, to be measured."""
    training = start(variant(config_of(), name), micro_store)
    before = [value.clone() for value in training.learned.state_dict().values()]
    prototypes = training.criterion.prototypes.detach().clone()
    weights = training.config.loss.weights()
    for row in steps_of(training, 3):
        total = sum(weight * row[term] for term, weight in weights.items())
        assert row["total"] == pytest.approx(total, rel=1e-5)
        assert row["prototype"] > 0
    assert [type(module) for module in training.learned.values()] == (
        [baselines.CenterLoss] if name == "center" else [baselines.MarginHead] if name in ("cosface", "arcface") else []
    )
    for old, new in zip(before, training.learned.state_dict().values(), strict=True):
        assert not torch.equal(old, new)
    assert not torch.equal(prototypes, training.criterion.prototypes)


def test_a_margin_and_a_weight_decide_the_training(micro_store: ImageStore) -> None:
    base = variant(config_of(), "triplet")
    loss = base.loss
    others = [loss, replace(loss, margin=0.6), replace(loss, terms="identity 1 + triplet 0.5")]
    totals = [steps_of(start(replace(base, loss=one), micro_store), 2)[-1]["total"] for one in others]
    assert len(set(totals)) == 3


def test_what_terms_learn_is_resumed(micro_store: ImageStore) -> None:
    """Stopped after two steps and gone on with elsewhere, bit for bit."""
    config = config_of(LossConfig(terms="identity 1 + center 1 + cosface 0.5", margin=0.35))
    whole, first, second = (start(config, micro_store) for _ in range(3))
    steps_of(whole, 6)
    steps_of(first, 2)
    second.load_state_dict(first.state_dict())
    assert len(second.learned) == 2
    steps_of(second, 4)
    assert same(whole.state_dict()["learned"], second.state_dict()["learned"])
    assert same(whole.state_dict()["model"], second.state_dict()["model"])


# ---- towards the own prototype


def test_towards_the_own_prototype_it_is_a_classifier_of_both_halves(micro_store: ImageStore) -> None:
    training = start(config_of(), micro_store)
    batch, criterion = first_batch(training), training.criterion
    features = training.model(batch.images, batch.modality)
    loss = variant(ExperimentConfig(), "own_target").loss
    terms = objective.objective(criterion, features, batch.labels, batch.spectra, loss)
    own = batch.labels + batch.spectra * len(training.train_ids)
    logits = torch.einsum("bpd,pkd->pbk", features.embeddings, criterion.prototypes.detach())
    expected = sum(functional.cross_entropy(part, own) for part in logits)
    torch.testing.assert_close(terms["sa_softmax"], expected)
    rows = criterion.prototypes.detach()[:, own].transpose(0, 1)
    cosine = functional.cosine_similarity(features.embeddings, rows, dim=2)
    torch.testing.assert_close(terms["absolute"], (1 - cosine).square().sum(1).mean())


# ---- dials that a loss uses, and its name


def test_dials_that_change_nothing_are_known() -> None:
    unused = {name: set(variant(ExperimentConfig(), name).loss.unused()) for name in VARIANTS}
    assert unused["complete"] == {"margin", "temperature", "scale"}
    idle = {"mask_value", "temperature", "scale", "warmup_steps", "prototypes", "target"}
    assert unused["softmax"] == {*idle, "margin"}
    assert unused["triplet"] == {*idle, "sas_weight", "similarity_weight"}
    assert unused["running_mean"] == {"margin", "temperature"}
    assert "temperature" not in unused["contrastive"]
    assert not {"scale", "margin"} & unused["arcface"]


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (LossConfig(terms="identity 1 + triplet 1"), "triplet"),
        (LossConfig(terms="identity 1 + triplet 1", margin=0.5, mask_value=3.0), "triplet, margin 0.5"),
        (LossConfig(terms="identity 1 + triplet 0.5"), "triplet, terms identity 1 + triplet 0.5"),
        (LossConfig(terms="triplet 1 + mmd 2", margin=0.5), "triplet 1 + mmd 2, margin 0.5"),
        (LossConfig(mask_value=5.0, margin=2.0), "complete, mask_value 5"),
        (LossConfig(own="mine-1", terms="identity 1 + own 1"), "mine-1"),
        (LossConfig(own="mine-1", terms="own 2"), "mine-1, own 2"),
    ],
)
def test_losses_have_readable_names(loss: LossConfig, name: str) -> None:
    assert loss_name(ExperimentConfig(loss=loss)) == name


def test_a_loss_of_one_name_is_asked_for_after_another() -> None:
    """Whatever loss the config had."""
    triplet = variant(ExperimentConfig(), "triplet")
    assert variant(triplet, "softmax").loss.weights() == LossConfig(0.0, 0.0).weights()
    assert loss_name(variant(triplet, "cosface")) == "cosface"


# ---- a loss of one's own


def with_own(own, micro_store: ImageStore, terms: str = "identity 1 + own 1", **dials) -> Training:
    loss = LossConfig(own=function_name(own), terms=terms, warmup_steps=0)
    return start(config_of(loss, **dials), micro_store, own)


SEEN: dict[str, object] = {}


def everything(part_features, embeddings, identity_logits, prototypes, labels, modality, cameras, step):
    SEEN.update(locals())
    return functional.relu(part_features).mean() + embeddings.square().mean()


def test_it_sees_what_it_names(micro_store: ImageStore) -> None:
    training = with_own(everything, micro_store)
    steps_of(training, 2)
    identities = len(training.train_ids)
    shapes = {name: tuple(value.shape) for name, value in SEEN.items() if isinstance(value, Tensor)}
    parts, dim = training.network.num_parts, training.network.embedding_dim
    assert shapes == {
        "part_features": (12, parts, dim), "embeddings": (12, parts, dim), "identity_logits": (12, parts, identities),
        "prototypes": (parts, 2 * identities, dim), "labels": (12,), "modality": (12,), "cameras": (12,),
    }  # fmt: skip
    assert SEEN["step"] == 1
    assert not SEEN["prototypes"].requires_grad
    assert torch.equal(SEEN["cameras"], SEEN["modality"] + 1), "of this store: camera 1 is visible, 2 infrared"


def scaled(embeddings, factor, modality=None):
    return factor * embeddings.square().mean() * modality.float().mean()


def two_terms(embeddings, prototypes):
    return {"length": embeddings.square().mean(), "side": embeddings.mean()}


class Offset(nn.Module):
    """Squared distance from a point that is learned."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.zeros(dim))
        self.still = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, embeddings: Tensor) -> Tensor:
        return (embeddings - self.point).square().mean()


def test_a_partial_function_gets_what_is_left(micro_store: ImageStore) -> None:
    small, large = (functools.partial(scaled, factor=factor) for factor in (1.0, 3.0))
    rows = [steps_of(with_own(own, micro_store), 1)[0] for own in (small, large)]
    assert rows[1]["own"] == pytest.approx(3 * rows[0]["own"])
    assert function_name(small) != function_name(large)


def test_named_terms_are_logged_each(micro_store: ImageStore) -> None:
    (row,) = steps_of(with_own(two_terms, micro_store, "identity 0.5 + own 2"), 1)
    assert row["own"] == pytest.approx(row["own_length"] + row["own_side"], rel=1e-5)
    assert row["total"] == pytest.approx(0.5 * row["identity"] + 2 * row["own"], rel=1e-5)


def test_its_parameters_are_trained_kept_and_resumed_and_the_users_module_stays(micro_store: ImageStore) -> None:
    own = Offset(1280)
    config = config_of(LossConfig(own=function_name(own), terms="identity 1 + own 1", warmup_steps=0))
    whole, first, second = (start(config, micro_store, own) for _ in range(3))
    steps_of(whole, 4)
    steps_of(first, 2)
    second.load_state_dict(first.state_dict())
    steps_of(second, 2)
    assert same(whole.state_dict()["learned"], second.state_dict()["learned"])
    assert whole.learned["own"].point.abs().max() > 0
    assert whole.learned["own"].still == 0
    assert not own.point.any(), "another run starts anew"


@pytest.mark.parametrize(
    "own",
    [
        metric_losses.TripletMarginLoss(margin=0.2),
        metric_losses.CosFaceLoss(num_classes=8, embedding_size=2560),
        metric_losses.SupConLoss(),
        metric_losses.ContrastiveLoss(),
    ],
    ids=lambda own: type(own).__name__,
)
def test_losses_of_pytorch_metric_learning_run_unchanged(micro_store: ImageStore, own: nn.Module) -> None:
    training = with_own(own, micro_store)
    before = [p.detach().clone() for p in training.learned.parameters()]
    rows = steps_of(training, 2)
    assert all(row["own"] >= 0 for row in rows)
    assert all(not torch.equal(old, new) for old, new in zip(before, training.learned.parameters(), strict=True))
    assert len(before) == isinstance(own, metric_losses.CosFaceLoss)


MINER, MINED = miners.BatchHardMiner(), metric_losses.TripletMarginLoss()


def with_a_miner(embeddings, labels):
    flat = embeddings.flatten(1)
    return MINED(flat, labels, MINER(flat, labels))


def test_a_miner_goes_into_a_function(micro_store: ImageStore) -> None:
    assert steps_of(with_own(with_a_miner, micro_store), 1)[0]["own"] > 0


def of_other_names(x, w, y, m):
    return (x - w[:, y + (1 - m) * (w.shape[1] // 2)].transpose(0, 1)).square().mean()


def of_whatever(*given):
    return of_other_names(*given)


@pytest.mark.parametrize("own", [of_other_names, of_whatever])
def test_four_of_other_names_are_given_by_place(micro_store: ImageStore, own) -> None:
    assert steps_of(with_own(own, micro_store), 1)[0]["own"] > 0


def asks_too_much(embeddings, weather):
    return embeddings.sum()


def of_nothing() -> float:
    return 0.0


@pytest.mark.parametrize("own", [asks_too_much, of_nothing])
def test_what_cannot_be_given_is_told_before_anything_is_trained(micro_store: ImageStore, own) -> None:
    with pytest.raises(ValueError, match=r"own_loss asks for .*, expected parameters among part_features, embeddings"):
        with_own(own, micro_store)


def named_but_still(embeddings):
    return {"a": embeddings.detach().mean()}


def named_none(embeddings):
    return {}


def named_wrongly(embeddings):
    return {"a": embeddings.mean(0)}


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (named_but_still, r"own_loss gave \['a'\], of which none follows"),
        (named_none, r"own_loss gave \[\], of which none follows"),
        (named_wrongly, r"own_loss gave shape \(2, 1280\) as 'a', expected a scalar"),
    ],
)
def test_named_terms_that_are_none_are_told(micro_store: ImageStore, own, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        steps_of(with_own(own, micro_store), 1)


class Scaled(nn.Module):
    """A loss with one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, embeddings: Tensor, power: int = 2) -> Tensor:
        return (self.scale * embeddings).abs().pow(power).mean()


def test_parameters_behind_a_partial_are_trained(micro_store: ImageStore) -> None:
    own = functools.partial(Scaled(), power=3)
    config = config_of(LossConfig(terms="identity 1 + own 1", own=function_name(own), warmup_steps=0))
    training = start(config, micro_store, own)
    steps_of(training, 2)
    assert training.learned["own"].scale.item() != 0.5
    assert own.func.scale.item() == 0.5, "another run starts anew"
    assert training.own_loss.func is training.learned["own"]


def test_parameters_that_nobody_would_step_are_refused() -> None:
    head = Scaled()

    def around(embeddings: Tensor) -> Tensor:
        return head(embeddings)

    for own in (around, functools.partial(around)):
        with pytest.raises(ValueError, match="own_loss uses head, a module whose parameters would never move"):
            check_own(own)
    head.requires_grad_(False)
    check_own(around)
    with pytest.raises(ValueError, match="own_loss asks for nothing, expected parameters among"):
        check_own(lambda: torch.zeros(()))


def test_only_what_follows_the_prototypes_waits_for_them() -> None:
    mixed = LossConfig(terms="identity 0.5 + triplet 1 + absolute 0.1", warmup_steps=5, asynchronous=False)
    assert loss_at(mixed, 5) == mixed
    assert loss_at(mixed, 4).weights() == {"identity": 1.0, "triplet": 1.0}
    assert loss_at(mixed, 4).asynchronous
    own = LossConfig(terms="identity 0.5 + own 1", own="mine", warmup_steps=5)
    assert loss_at(own, 0, own_is_cold=True).weights()["sa_softmax"] == 0
    assert loss_at(own, 0, own_is_cold=False) == own
    assert sees_prototypes(lambda embeddings, prototypes: 0)
    assert not sees_prototypes(lambda embeddings: 0)
    assert sees_prototypes(lambda a, b, c, d: 0), "by place"
    assert not sees_prototypes(metric_losses.TripletMarginLoss())
    assert not sees_prototypes(None)
