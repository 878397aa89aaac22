"""Presets as options of a command, with the dials of a file (``--config``) or of a run to go on from (``--from``) in
place of a preset's own."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from sa_lab.config import PRESETS, DataConfig, ExperimentConfig, read_dials

_MEANINGS = {
    "tiny": "one CPU core, minutes", "small": "one GPU, minutes",
    "paper": "the reference's recipe, except for the batches per epoch and drawing without replacement",
}  # fmt: skip


def with_options(data: DataConfig, **options: Any) -> DataConfig:
    """The images that a command's options name; options that are None change nothing.

    Raises:
        ValueError: a value does not fit; the message names the option, not the dial.
    """
    try:
        return replace(data, **{name: value for name, value in options.items() if value is not None})
    except ValueError as error:
        raise ValueError(str(error).replace("data.", "--", 1)) from error


def annotation(arguments: Sequence[str]) -> Any:
    """The type of an argument that is a preset and its dials.

    Args:
        arguments: of the command line, read ahead for ``--config`` and ``--from``: their dials become the presets'
            defaults, so that other options still override them.

    Raises:
        ValueError, OSError: the file cannot be read, or names an unknown dial.
    """
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--config", nargs="?")
    reader.add_argument("--from", nargs="?")
    given = vars(reader.parse_known_args(arguments)[0])
    changes: list[dict[str, Any]] = []
    if run := given["from"]:  # its prototypes are warm
        from sa_lab.runs import Run

        go_on = {"model.weights": f"{run}/model.pt", "loss.warmup_steps": 0}
        changes += [read_dials(Run(Path(run)).there().folder / "config.json"), go_on]
    if given["config"]:
        changes.append(read_dials(Path(given["config"])))
    presets = {name: functools.reduce(ExperimentConfig.replace, changes, preset()) for name, preset in PRESETS.items()}
    return Annotated[tyro.extras.subcommand_type_from_defaults(presets, _MEANINGS), tyro.conf.arg(name="")]
