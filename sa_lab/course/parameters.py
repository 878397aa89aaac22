"""The parameters in a chapter's first cell, set by hand or by papermill: checked, and turned into a config."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sa_lab.config import PRESETS, VARIANTS, DataConfig, ExperimentConfig, VariantName, variant
from sa_lab.data import copies
from sa_lab.runs import loss_name

DIALS = {
    "dataset": "data.dataset", "root": "data.root", "seed": "seed", "epochs": "train.num_epochs",
    "mask_value": "loss.mask_value", "similarity_weight": "loss.similarity_weight", "sas_weight": "loss.sas_weight",
    "warmup_steps": "loss.warmup_steps",
}  # fmt: skip
"""Parameters of the chapters that are dials of a config; ``dials`` has further ones by their name with dots."""
_OTHERS = ("preset", "loss", "dials", "run")


class Given(NamedTuple):
    """What a chapter trains.

    Attributes:
        config: the dials that all its trainings share.
        ours: the dials of the loss that softmax is compared with.
        name: of that loss.
    """

    config: ExperimentConfig
    ours: ExperimentConfig
    name: str


def read(namespace: Mapping[str, Any]) -> Given:
    """The parameters of a chapter, from its ``globals()``.

    Args:
        namespace: has some of the parameters. None as a value, an empty root and 0 epochs leave the preset's own; sysu,
            regdb and llcm without a root are drawn in their layout.

    Raises:
        ValueError: papermill set a parameter that the chapter does not have, or a value does not fit.
    """
    known = [name for name in (*DIALS, *_OTHERS) if name in namespace]
    told = f"the parameters of this chapter are {', '.join(known)}"
    if unknown := [name for name in _injected(namespace) if name not in known]:
        raise ValueError(f"there is no parameter {', '.join(unknown)}; {told}")
    try:
        preset, loss = namespace.get("preset", "tiny"), namespace.get("loss", "complete")
        if preset not in PRESETS:
            raise ValueError(f"preset is {preset!r}, expected one of {', '.join(PRESETS)}")
        if loss not in VARIANTS or loss == "softmax":
            raise ValueError(
                f"loss is {loss!r}, expected one of {', '.join(name for name in VARIANTS if name != 'softmax')}, which "
                "is compared with softmax"
            )
        chosen = {DIALS[name]: namespace[name] for name in DIALS if namespace.get(name) is not None}
        if not chosen.get("data.root"):
            chosen["data.root"] = copies.default_root(str(chosen.get("data.dataset", DataConfig.dataset)), "") or None
        if chosen.get("train.num_epochs") == 0:
            del chosen["train.num_epochs"]
        further = namespace.get("dials") or {}
        if not isinstance(further, Mapping):
            raise ValueError(f"dials is {further!r}, expected dials by name, as in {{'train.ids_per_batch': 16}}")
        config = PRESETS[preset]().replace({**chosen, **further})
        ours = variant(config, loss)
    except ValueError as error:
        raise ValueError(f"{error}; {told}") from None  # the last line of a notebook's cell says it all
    name = loss_name(ours)
    return Given(config, ours, "SA-Softmax" if name == "complete" else name)


def parameters_of(config: ExperimentConfig, loss: VariantName) -> dict[str, Any]:
    """The parameters that give chapters this config with the loss of this name: the reverse of `read`."""
    own = {"loss.terms", *(f"loss.{name}" for name in VARIANTS[loss])}
    changed = {name: value for name, value in config.changed().items() if name not in own}
    named = {name: changed.pop(dial) for name, dial in DIALS.items() if dial in changed}
    return {**named, **({"loss": loss} if loss != "complete" else {}), **({"dials": changed} if changed else {})}


def _injected(namespace: Mapping[str, Any]) -> Iterator[str]:
    """Names that papermill's own cell has set, which begins with a comment."""
    for source in namespace.get("In", ()):
        if source.startswith("# Parameters\n"):
            for statement in ast.parse(source).body:
                if isinstance(statement, ast.Assign):
                    yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
