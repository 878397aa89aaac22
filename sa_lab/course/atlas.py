"""The toy world at every setting of its dials, precomputed with the library's own steps for pages to look up."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from sa_lab.config import LossConfig
from sa_lab.course import toy, worlds
from sa_lab.course.worlds import CURVES
from sa_lab.disk import home, kept_where_possible, write_text
from sa_lab.plots import style
from sa_lab.provenance import ANALYSIS, TRAINING, code_digest

GRAIN = {"samples": 1 / 4096, "prototypes": 1 / 4096, "lengths": 1 / 128, "pulls": 1 / 64, "curves": 1 / 400}
"""How finely each array of `worlds.trajectories` is kept: directions in full turns, logarithms, pulls, nats."""
MOST_BYTES = 4_000_000
"""Of all files together."""


@dataclass(frozen=True)
class Grid:
    """The values of each dial, ascending, and the steps that are kept, from 0 on.

    Attributes:
        num_identities, warmup_steps: see `toy.World` and `LossConfig`; a file for each pair and each scheme.
        mask_value, sas_weight, similarity_weight: see `LossConfig`.
        steps: numbers of steps after which everything is kept.
    """

    num_identities: tuple[int, ...] = (2, 3, 4, 5, 6)
    warmup_steps: tuple[int, ...] = (0, 20, 60)
    mask_value: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0, 50.0)
    sas_weight: tuple[float, ...] = (0.0, 0.35, 0.7, 1.0)
    similarity_weight: tuple[float, ...] = (0.0, 0.3, 1.0, 3.0)
    steps: tuple[int, ...] = tuple(range(0, 241, 4))

    def losses(self, warmup_steps: int, asynchronous: bool) -> list[LossConfig]:
        """The losses of one file, plain softmax last. Where nothing follows L_sa, the mask has no effect: the last one
        stands for all."""
        dials = itertools.product(self.mask_value, self.sas_weight, self.similarity_weight)
        found = [
            LossConfig(share, weight, mask, warmup_steps, asynchronous)
            for mask, share, weight in dials
            if share or mask == self.mask_value[-1]
        ]
        return sorted(found, key=lambda one: not one.follows_prototypes())

    def files(self) -> dict[str, tuple[int, bool, int]]:
        """Identities, scheme and warm-up of each file by its name."""
        dials = itertools.product(self.num_identities, (True, False), self.warmup_steps)
        return {f"toy-{count}-{int(turns)}-{warmup}": (count, turns, warmup) for count, turns, warmup in dials}


def packed(arrays: Mapping[str, np.ndarray], grain: Mapping[str, float]) -> dict[str, Any]:
    """Numbers as text for a page: whole multiples of their grain, each less the one before on the last axis, without
    sign (0, -1, 1, -2, ...), low bytes before high ones, deflated.

    Raises:
        ValueError: a difference of more than 32,767 grains.
    """
    parts, shapes = [], {}
    for name, values in arrays.items():
        grains = np.round(np.asarray(values, dtype=np.float64) / grain[name]).astype(np.int64)
        changes = np.diff(grains, axis=-1, prepend=0)
        if np.abs(changes).max(initial=0) > 32767:
            raise ValueError(
                f"{name} changes by {np.abs(changes).max()} grains of {grain[name]}, expected 32767 at most"
            )
        unsigned = ((changes << 1) ^ (changes >> 63)).astype(np.uint16)
        parts += [(unsigned & 255).astype(np.uint8).tobytes(), (unsigned >> 8).astype(np.uint8).tobytes()]
        shapes[name] = {"shape": list(values.shape), "grain": grain[name]}
    return {"arrays": shapes, "bytes": base64.b64encode(zlib.compress(b"".join(parts), 9)).decode()}


def script(name: str, content: Any) -> str:
    """A file that a page loads where it cannot read one: from a folder."""
    return f"live.add({json.dumps(name)}, {json.dumps(content, separators=(',', ':'))});"


def write(out: Path, grid: Grid | None = None, progress: bool = True) -> None:
    """Write the atlas as scripts, an index toy.js and one for each of `Grid.files`, into ``out``.

    Results of this version of the library on this grid are kept in the home folder.

    Raises:
        ValueError: the grid is so fine that the files are larger than `MOST_BYTES`.
    """
    grid = grid or Grid()
    code = "".join(Path(file).read_text(encoding="utf-8") for file in (toy.__file__, worlds.__file__, __file__))
    made_of = f"{code_digest((*TRAINING, *ANALYSIS))} {code} {grid} {torch.__version__}"
    kept = home() / "cache" / f"toy-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
    for left in out.glob("toy-*.js"):  # of another grid
        left.unlink()
    write_text(out / "toy.js", script("toy", _index(grid)))
    missing = [name for name in grid.files() if not (kept / f"{name}.js").is_file()]
    for name in tqdm(missing, "toy worlds", unit="file", disable=not (progress and missing)):
        text = _computed(grid, name)
        write_text(out / f"{name}.js", text)
        with kept_where_possible():
            write_text(kept / f"{name}.js", text)
    for name in set(grid.files()).difference(missing):
        shutil.copyfile(kept / f"{name}.js", out / f"{name}.js")
    size = sum((out / f"{name}.js").stat().st_size for name in ("toy", *grid.files()))
    if size > MOST_BYTES:
        raise ValueError(f"grid takes {size:,} bytes, expected at most {MOST_BYTES:,}: fewer values or steps")


def _computed(grid: Grid, name: str) -> str:
    count, turns, warmup = grid.files()[name]
    configs = grid.losses(warmup, turns)
    found = worlds.trajectories(toy.World(count), configs, grid.steps)
    cells = [[one.mask_value, one.sas_weight, one.similarity_weight] for one in configs]
    return script(name, {"cells": cells, **packed(found, GRAIN)})


def _index(grid: Grid) -> dict[str, Any]:
    world, values = toy.World(), asdict(grid)
    return {
        "dials": {one.name: values[one.name] for one in fields(grid) if one.name != "steps"}, "steps": grid.steps,
        "radius": world.radius, "curves": CURVES, "floor": math.log(2),
        "colours": style.COLOURS[: max(grid.num_identities)],
        "terms": {name: {"name": style.TERMS[name][0], "colour": style.TERMS[name][1]} for name in CURVES[:4]},
        "presets": {name: {"mask_value": loss.mask_value, "sas_weight": loss.sas_weight,
                           "similarity_weight": loss.similarity_weight, "asynchronous": loss.asynchronous}
                    for name, loss in toy.PRESETS.items()},
    }  # fmt: skip
