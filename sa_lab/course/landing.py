"""The first page of the site: the idea step by step, with the toy world moving beside the text."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from html import escape

from sa_lab.config import LossConfig
from sa_lab.course.atlas import Grid

PEOPLE, WARMUP = 3, 20
"""Of the toy world that the steps show."""
_BARE = LossConfig(similarity_weight=0.0, mask_value=0.0)
_MASKED = LossConfig(similarity_weight=0.0)


@dataclass(frozen=True)
class Step:
    """One step of the idea.

    Attributes:
        title, text: what is read.
        loss: the loss that the toy world follows.
        begin, end: steps of the training that are played.
        curves: those drawn beside the modality gap.
        pulls: terms whose arrows are drawn.
        prototypes: whether they are drawn.
    """

    title: str
    text: str
    loss: LossConfig
    begin: int
    end: int
    curves: tuple[str, ...]
    pulls: tuple[str, ...] = ()
    prototypes: bool = True


STEPS = (
    Step(
        "Softmax: two islands",
        "Each colour is a person, seen by a visible-light camera (circles) and by an infrared one (diamonds). Softmax "
        "asks only on which side of a border an image lies. Its loss falls to almost nothing, and the two spectra of "
        "each person still lie on two islands.",
        LossConfig(0.0, 0.0), 0, 240, ("identity",), (), False,
    ),
    Step(
        "Two prototypes",
        "SA-Softmax gives each person two prototypes (large open marks), one for each spectrum. Each learns to stand "
        "where the images of its own spectrum are.",
        LossConfig(0.0, 0.0), 0, 60, ("prototype",),
    ),
    Step(
        "The cross pull",
        "Now each image is drawn to the prototype of the other spectrum: circles to open diamonds, diamonds to open "
        "circles. The arrows show the pull. The islands set out towards each other.",
        _BARE, 20, 56, ("sa_softmax",), ("sa_softmax",),
    ),
    Step(
        "The floor without a mask",
        "But the prototype of its own spectrum is a rival in the same race. Where the two prototypes of a person meet, "
        "they share the probability, one half each at most: the loss cannot stay below log 2, and keeps pushing.",
        _BARE, 56, 240, ("sa_softmax",), ("sa_softmax",),
    ),
    Step(
        "The Feature Mask",
        "The mask takes the own prototype out of the race. Nothing is ambiguous any more: the loss can fall to zero, "
        "and the islands meet.",
        _MASKED, 20, 240, ("sa_softmax",), ("sa_softmax",),
    ),
    Step(
        "The absolute term",
        "SA-Softmax is content once the right prototype is closer than all others. The absolute term asks for "
        "closeness itself, so that it pulls over the last stretch, too.",
        LossConfig(), 20, 160, ("sa_softmax", "absolute"), ("sa_softmax", "absolute"),
    ),
    Step(
        "In turns",
        "Why do network and prototypes take turns? Here they do not: the prototypes follow the pull as well and "
        "move to the images of the other spectrum. The loss is content at once, and the images stay where they are.",
        LossConfig(asynchronous=False), 20, 240, ("sa_softmax", "absolute"), ("sa_softmax", "absolute"),
    ),
)  # fmt: skip


def shows(grid: Grid) -> bool:
    """Whether a grid holds all that the steps show."""
    dials = ("mask_value", "sas_weight", "similarity_weight")
    held = all(getattr(step.loss, name) in getattr(grid, name) for step in STEPS for name in dials)
    kept = all({step.begin, step.end} <= set(grid.steps) for step in STEPS)
    return held and kept and PEOPLE in grid.num_identities and WARMUP in grid.warmup_steps


def story() -> str:
    """The steps as a list, which the script of the page shows one by one."""
    opening = f'<section class="story" data-live="story" aria-label="The idea in {len(STEPS)} steps">'
    return f'{opening}\n<div class="words"><ol>\n{"".join(map(_item, STEPS))}</ol></div>\n</section>'


def _item(step: Step) -> str:
    at = {name: value for name, value in asdict(step.loss).items() if name in (
        "mask_value", "sas_weight", "similarity_weight", "asynchronous")}  # fmt: skip
    scene = {
        "at": at | {"num_identities": PEOPLE, "warmup_steps": WARMUP}, "steps": [step.begin, step.end],
        "curves": step.curves, "pulls": step.pulls, "prototypes": step.prototypes,
    }  # fmt: skip
    text = escape(json.dumps(scene), quote=True)
    return f'<li data-scene="{text}"><h2>{escape(step.title)}</h2><p>{escape(step.text)}</p></li>\n'
