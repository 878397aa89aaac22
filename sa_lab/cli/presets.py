"""Presets as options of a command, with the dials of a file (``--config``) in place of a preset's own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from sa_lab.config import PRESETS, read_dials

_MEANINGS = {
    "tiny": "one CPU core, minutes", "small": "one GPU, minutes",
    "paper": "the reference's recipe, but for batches an epoch and drawing without replacement",
}  # fmt: skip


def annotation(arguments: Sequence[str]) -> Any:
    """The type of an argument that is a preset and its dials.

    Args:
        arguments: of the command line, read ahead for ``--config``: its dials become the presets' defaults, so that
            other options still go before them.

    Raises:
        ValueError, OSError: the file cannot be read, or has a dial that there is not.
    """
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--config", nargs="?")
    file = reader.parse_known_args(arguments)[0].config
    dials = read_dials(Path(file)) if file else {}
    presets = {name: preset().replace(dials) if dials else preset() for name, preset in PRESETS.items()}
    return Annotated[tyro.extras.subcommand_type_from_defaults(presets, _MEANINGS), tyro.conf.arg(name="")]
