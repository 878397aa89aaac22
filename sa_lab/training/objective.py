"""The feature objective L = sum of weight * term: which term sees what of a batch, and a loss of one's own among them.

`sa_lab.config.LossConfig.weights` has the weights. SA-Softmax's own terms stand in one table with those of the field.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sa_lab import baselines
from sa_lab.config import LossConfig
from sa_lab.losses import SASoftmaxLoss, identity_loss
from sa_lab.model import Features
from sa_lab.provenance import function_in

OwnLoss = Callable[..., Any]
"""A loss of your own: it gets what its parameters name, see `Seen.given`, and returns a scalar, or several by name,
whose sum is followed. The parameters of a module are trained with the network, at the rate of its head."""


@dataclass(frozen=True)
class Seen:
    """What terms are measured on.

    Attributes:
        features: what the network says of the batch.
        criterion: SA-Softmax with its prototypes.
        labels: in 0..C-1.
        modality: 0 visible, 1 infrared.
        loss: margins, temperatures and the mask.
        learned: what terms learn besides, by term, see `learned_of`.
        cameras: number of each image's camera, where it is known.
        step: number of the iteration, from 0.
    """

    features: Features
    criterion: SASoftmaxLoss
    labels: Int[Tensor, " B"]
    modality: Int[Tensor, " B"]
    loss: LossConfig
    learned: nn.ModuleDict
    cameras: Int[Tensor, " B"] | None = None
    step: int = 0

    def given(self) -> dict[str, Any]:
        """By the name of a parameter: part_features (B,P,D) before the neck, embeddings (B,P,D) after it, prototypes
        (P,2C,D) held fixed, identity_logits (B,P,C), labels, modality and cameras (B,), step."""
        return {
            **self.features._asdict(), "prototypes": self.criterion.prototypes.detach(), "labels": self.labels,
            "modality": self.modality, "cameras": self.cameras, "step": self.step,
        }  # fmt: skip


_GIVEN = ("part_features", "embeddings", "identity_logits", "prototypes", "labels", "modality", "cameras", "step")
_PLACES = ("embeddings", "prototypes", "labels", "modality")

TERMS: dict[str, Callable[[Seen], Tensor]] = {
    "identity": lambda s: identity_loss(s.features.identity_logits, s.labels),
    "triplet": lambda s: baselines.batch_hard_triplet(s.features.part_features, s.labels, s.loss.margin_of("triplet")),
    "cross_triplet": lambda s: baselines.cross_modality_triplet(
        s.features.part_features, s.labels, s.modality, s.loss.margin_of("cross_triplet")
    ),
    "weighted_triplet": lambda s: baselines.weighted_regularised_triplet(s.features.part_features, s.labels),
    "hetero_center": lambda s: baselines.hetero_center(s.features.part_features, s.labels, s.modality),
    "hetero_center_triplet": lambda s: baselines.hetero_center_triplet(
        s.features.part_features, s.labels, s.modality, s.loss.margin_of("hetero_center_triplet")
    ),
    "contrastive": lambda s: baselines.supervised_contrastive(
        s.features.part_features, s.labels, s.modality, s.loss.temperature
    ),
    "mmd": lambda s: baselines.mmd(s.features.part_features, s.modality),
    "center": lambda s: s.learned["center"](s.features.part_features, s.labels),
    "cosface": lambda s: s.learned["cosface"](s.features.embeddings, s.labels),
    "arcface": lambda s: s.learned["arcface"](s.features.embeddings, s.labels),
}  # fmt: skip
"""Each term but SA-Softmax's two, which share their logits, and one's own. Metric losses look at the features before
the neck, as their papers do, heads in place of the softmax at the embeddings after it."""


def learned_of(
    loss: LossConfig, num_identities: int, embedding_dim: int, num_parts: int, own_loss: OwnLoss | None = None
) -> nn.ModuleDict:
    """What the terms of a loss learn besides network and prototypes, by term; an own module goes in as it is."""
    shape, weights = (num_identities, embedding_dim, num_parts), loss.weights()
    modules: dict[str, nn.Module] = {}
    if weights.get("center"):
        modules["center"] = baselines.CenterLoss(*shape)
    for kind in ("cosface", "arcface"):
        if weights.get(kind):
            modules[kind] = baselines.MarginHead(*shape, kind, loss.margin_of(kind), loss.scale)
    if (module := module_of(own_loss)) is not None:
        modules["own"] = module
    return nn.ModuleDict(modules)


def module_of(own_loss: OwnLoss | None) -> nn.Module | None:
    """The module whose parameters a loss of one's own has: itself, or what a partial calls."""
    while isinstance(own_loss, functools.partial):
        own_loss = own_loss.func
    return own_loss if isinstance(own_loss, nn.Module) else None


def objective(
    criterion: SASoftmaxLoss,
    features: Features,
    labels: Int[Tensor, " B"],
    modality: Int[Tensor, " B"],
    loss: LossConfig,
    own_loss: OwnLoss | None = None,
    learned: nn.ModuleDict | None = None,
    cameras: Int[Tensor, " B"] | None = None,
    step: int = 0,
) -> dict[str, Float[Tensor, ""]]:
    """The unweighted terms on what the network says of a batch; arguments as of `Seen`.

    Returns:
        L_id, L_sa and L_as whatever their weight, so that losses can be compared; the other terms that have a weight;
        for an own loss with several values, also each of them, as own_<its name>.

    Raises:
        ValueError: the own loss is missing, asks for something unknown, or returns no scalar that can be followed.
    """
    seen = Seen(features, criterion, labels, modality, loss, learned or nn.ModuleDict(), cameras, step)
    criterion.mask_value = loss.mask_value
    drawn_from = modality if loss.target == "cross" else 1 - modality  # the cross prototype of the other spectrum: own
    sa_softmax, absolute = criterion.feature_terms(
        features.embeddings, labels, drawn_from, hold_prototypes=loss.asynchronous
    )
    terms = {"identity": TERMS["identity"](seen), "sa_softmax": sa_softmax, "absolute": absolute}
    for name, weight in loss.weights().items():
        if name == "own":
            terms |= _own(own_loss, seen)
        elif weight and name not in terms:
            terms[name] = TERMS[name](seen)
    return terms


def gradients(terms: Mapping[str, Tensor], loss: LossConfig, inputs: Tensor) -> dict[str, Tensor]:
    """The gradient of each weighted term of `objective` with respect to ``inputs``."""
    return {
        name: weight * torch.autograd.grad(terms[name], inputs, retain_graph=True)[0]
        for name, weight in loss.weights().items()
    }


def from_file(place: str) -> OwnLoss:
    """A loss of one's own from a Python file; modules in it start from the same weights each time.

    Args:
        place: as in losses.py:closeness.

    Raises:
        ValueError: no such file or name, or the file cannot be run.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        own_loss: OwnLoss = function_in(place, "own_loss")
    return own_loss


def check_own(own_loss: OwnLoss) -> None:
    """Raise ValueError if a loss of one's own asks for something unknown, or uses a module whose parameters nobody
    would step."""
    _asked(own_loss)
    for name, module in _reached(own_loss):
        if any(parameter.requires_grad for parameter in module.parameters()):
            raise ValueError(
                f"own_loss uses {name}, a module whose parameters would never move; expected a module that has it, "
                "or parameters without gradient"
            )


def _reached(own_loss: OwnLoss) -> Iterator[tuple[str, nn.Module]]:
    """Modules that a function reads from around it, or that are bound to it."""
    found: dict[str, Any] = {}
    while isinstance(own_loss, functools.partial):
        found |= {f"argument {i}": value for i, value in enumerate(own_loss.args)} | own_loss.keywords
        own_loss = own_loss.func
    if inspect.isfunction(own_loss):
        around = inspect.getclosurevars(own_loss)
        found |= {**around.globals, **around.nonlocals}
    yield from ((name, value) for name, value in found.items() if isinstance(value, nn.Module))


def sees_prototypes(own_loss: OwnLoss | None) -> bool:
    """Whether a loss of one's own asks for the prototypes, which have to be warm then."""
    return own_loss is not None and "prototypes" in _asked(own_loss)[0]


def _own(own_loss: OwnLoss | None, seen: Seen) -> dict[str, Tensor]:
    if own_loss is None:
        raise ValueError(f"loss.own is {seen.loss.own!r}, but there is no own_loss; expected the loss of that name")
    given = seen.given()
    if _is_of_metric_learning(own_loss):
        value = own_loss(seen.features.embeddings.flatten(1), seen.labels)
    else:
        names, by_place = _asked(own_loss)
        value = own_loss(*(given[name] for name in names)) if by_place else own_loss(**{n: given[n] for n in names})
    named = dict(value) if isinstance(value, Mapping) else {"": value}
    for name, one in named.items():
        if not isinstance(one, Tensor) or one.ndim or not (one.requires_grad or isinstance(value, Mapping)):
            what = f" as {name!r}" if name else ""
            shown = f"shape {tuple(one.shape)}" if isinstance(one, Tensor) else repr(one)
            raise ValueError(f"own_loss gave {shown}{what}, expected a scalar tensor that follows from the embeddings")
    total = torch.stack([*named.values()]).sum() if named else torch.zeros(())
    if not total.requires_grad:
        raise ValueError(f"own_loss gave {sorted(named)}, of which none follows from the embeddings; expected one")
    return {"own": total} | {f"own_{name}": one for name, one in named.items() if name}


def _asked(own_loss: OwnLoss) -> tuple[tuple[str, ...], bool]:
    """The names of what a loss of one's own is given, and whether it is given by place.

    Raises:
        ValueError: it asks for something else.
    """
    if _is_of_metric_learning(own_loss):
        return ("embeddings", "labels"), True
    parameters = inspect.signature(_body(own_loss)).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if all(p.name in _GIVEN and p.kind != p.POSITIONAL_ONLY for p in needed) and needed:
        return tuple(p.name for p in parameters if p.name in _GIVEN), False
    if len(needed) == len(_PLACES) or any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return _PLACES, True
    names = ", ".join(p.name for p in needed) or "nothing"
    raise ValueError(f"own_loss asks for {names}, expected parameters among {', '.join(_GIVEN)}")


def _body(own_loss: OwnLoss) -> Callable[..., Any]:
    """What is called in the end, with what is bound to it: `torch.nn.Module` hides its own."""
    if isinstance(own_loss, nn.Module):
        return own_loss.forward
    if isinstance(own_loss, functools.partial):
        return functools.partial(_body(own_loss.func), *own_loss.args, **own_loss.keywords)
    return own_loss


def _is_of_metric_learning(own_loss: OwnLoss) -> bool:
    """Whether it takes descriptors and labels, as the losses of pytorch-metric-learning do."""
    return any(kind.__module__.startswith("pytorch_metric_learning.") for kind in type(own_loss).__mro__)
