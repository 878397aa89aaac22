"""Weight, margin and learning rate of each loss, chosen on validation identities by the same number of tries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sa_lab.config import PAPER, PIECES, VARIANTS, ExperimentConfig, VariantName, variant
from sa_lab.study.measures import validated
from sa_lab.study.workers import run_all

_WEIGHTS: dict[VariantName, tuple[float, ...]] = {
    "weighted_triplet": (1, 0.3, 0.1, 3),
    "hetero_center": (4, 0.4, 0.04, 0.004),
    "center": (0.003, 0.0003, 0.03, 0.3),
    "mmd": (1, 0.1, 0.3, 3),
}
_WITH_MARGIN: tuple[VariantName, ...] = ("triplet", "cross_triplet", "hetero_center_triplet")
TRIES: dict[VariantName, tuple[dict[str, Any], ...]] = {
    "complete": ({}, {"similarity_weight": 3.0}, {"mask_value": 5.0}, {"similarity_weight": 3.0, "mask_value": 5.0}),
    **{
        name: tuple(
            {"terms": f"identity 1 + {name} {weight:g}", **margin}
            for weight in (1, 0.3)
            for margin in ({}, {"margin": 1.0})
        )
        for name in _WITH_MARGIN
    },
    **{
        name: tuple({"terms": f"identity 1 + {name} {weight:g}"} for weight in weights)
        for name, weights in _WEIGHTS.items()
    },
    "contrastive": tuple(
        {"terms": f"identity 1 + contrastive {weight:g}", "temperature": temperature}
        for weight in (1, 0.3)
        for temperature in (0.1, 0.3)
    ),
    "cosface": ({}, {"scale": 30.0}, {"margin": 0.2}, {"margin": 0.2, "scale": 30.0}),
    "arcface": ({}, {"scale": 30.0}, {"margin": 0.3}, {"margin": 0.3, "scale": 30.0}),
}
"""What is tried for each loss, first as in `VARIANTS`; softmax has none of these dials, and SA-Softmax with one piece
changed takes what is chosen for complete."""
RATES = (1 / 3, 3.0)
"""Then, with the best of these, the backbone's learning rate is tried at these multiples of the preset's."""


def compared(config: ExperimentConfig) -> tuple[VariantName, ...]:
    """The losses that a tuned study compares: all, except centre triplets if a batch has one image of a person in each
    spectrum, because they are then the sample triplets."""
    alike = ("hetero_center_triplet",) if config.train.images_per_id == 1 else ()
    rest = [name for name in PIECES if name not in PAPER]  # see `sa_lab.config.PIECES`: a study of its own
    return tuple(name for name in VARIANTS if name not in (*alike, *rest))


@dataclass(frozen=True)
class Choice:
    """What was chosen for a loss.

    Attributes:
        config: of the best try; among equally good ones, of the first.
        tries: dials of each try, and its mAP in [0,1] on the validation identities as validation_mean_ap.
    """

    config: ExperimentConfig
    tries: tuple[dict[str, Any], ...] = ()


def tune(
    config: ExperimentConfig, losses: Sequence[VariantName], jobs: int = 1, progress: bool = True, scheduler: str = ""
) -> dict[VariantName, Choice]:
    """Train the tries of each loss with the config's seed, and choose by mAP on the validation identities: first among
    `TRIES`, then among `RATES`.

    Test identities are not looked at. Arguments as of `sa_lab.study.study`.

    Raises:
        ValueError: no identities are held back for validation.
    """
    if not config.data.validation_fraction:
        raise ValueError("data.validation_fraction is 0.0, expected a share of people to choose on, above 0")
    tried = list(dict.fromkeys([*(name for name in losses if name not in PIECES), *_tuned_for(losses)]))
    planned = {
        name: [Try(dials, _with(variant(config, name), dials)) for dials in TRIES.get(name, ({},))] for name in tried
    }
    done = _graded(planned, jobs, progress, scheduler)
    for name, best in {name: max(tries, key=_grade) for name, tries in done.items()}.items():
        rates = [float(f"{times * best.config.train.backbone_lr:.2g}") for times in RATES]
        planned[name] = [
            Try({**best.dials, "backbone_lr": rate}, best.config.replace("train.backbone_lr", rate)) for rate in rates
        ]
    again = _graded(planned, jobs, progress, scheduler)
    found = {name: [*done[name], *again[name]] for name in tried}
    chosen: dict[VariantName, Choice] = {}
    for name in losses:
        of = name if name in found else "complete"
        told = tuple({**one.dials, "validation_mean_ap": one.mean_ap} for one in found[of])
        best = max(found[of], key=_grade)  # of equally good ones the first
        chosen[name] = Choice(best.config, told) if of == name else Choice(variant(best.config, name))
    return chosen


class Try(NamedTuple):
    """Dials of a loss, its config with them and, once it is trained, mAP in [0,1] on the validation identities."""

    dials: dict[str, Any]
    config: ExperimentConfig
    mean_ap: float = math.nan


def _grade(one: Try) -> float:
    return one.mean_ap


def _graded(
    planned: Mapping[VariantName, Sequence[Try]], jobs: int, progress: bool, scheduler: str
) -> dict[VariantName, list[Try]]:
    """The tries of each loss, trained."""
    runs = iter(run_all([one.config for tries in planned.values() for one in tries], jobs, progress, scheduler))
    return {
        name: [one._replace(mean_ap=validated(next(runs))["mean_ap"]) for one in tries]
        for name, tries in planned.items()
    }


def _tuned_for(losses: Sequence[VariantName]) -> tuple[VariantName, ...]:
    """Losses whose dials others take."""
    return ("complete",) if set(losses) & set(PIECES) else ()


def _with(config: ExperimentConfig, dials: dict[str, Any]) -> ExperimentConfig:
    return config.replace({f"loss.{name}": value for name, value in dials.items()})
