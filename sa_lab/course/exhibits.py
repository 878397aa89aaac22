"""Live figures of the site: what each widget of the chapters shows, precomputed, and its place in a page."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from tqdm.auto import tqdm

from sa_lab import experiment, plots
from sa_lab.analysis import descriptors
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, variant
from sa_lab.course import atlas, surface, worlds
from sa_lab.course.atlas import Grid
from sa_lab.course.lens import Lens
from sa_lab.data import list_images
from sa_lab.disk import home, kept_where_possible, write_text
from sa_lab.evaluation import search
from sa_lab.evaluation.protocols import protocols_of
from sa_lab.plots.style import COLOURS, TERMS
from sa_lab.runs import Run

_FILES = ("live.js", "live_toy.js", "live_browse.js")
SCRIPTS = "".join(f'<script src="live/{name}"></script>\n' for name in _FILES)
"""Of a page with live figures."""
LENS_MASKS = (*np.arange(0, 6, 0.25).tolist(), 6.0, 7.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0)
LENS_IMAGES, FOUND = 120, 10
"""Images of the lens at most, and images of a ranking."""
_LENS_GRAIN = {
    "rows": 1.0, "logits": 1 / 50, "probabilities": 1 / 2000, "gradients": 1 / 2000, "sa_softmax": 1 / 200,
    "identity": 1 / 200, "absolute": 1 / 200,
}  # fmt: skip
_UNTRAINED = (
    '<p class="missing">Live in the notebook: its two networks were not there when these pages were made '
    "(<code>make run</code> trains them, <code>make html</code> then shows them).</p>"
)


def write(out: Path, grid: Grid, progress: bool = True, runs: Mapping[str, Run] | None = None) -> dict[str, str]:
    """Write scripts and numbers of all live figures into ``out``.

    Args:
        out: folder of what the pages load.
        grid: dials of the toy world.
        progress: show bars.
        runs: the finished runs of the chapters by the name of their loss, "complete" last; by default those that are in
            the home folder, for nothing is trained here.

    Returns:
        HTML by the name of a widget in `sa_lab.course.widgets`: its place in a page, or a line that says why there is
        none.
    """
    for name in _FILES:
        write_text(out / name, (resources.files(__package__) / name).read_text(encoding="utf-8"))
    atlas.write(out, grid, progress)
    shown = {"Playground": _place("playground", "toy world")}
    if measured := sorted((home() / "results").glob("surface-*.json")):
        data = ExperimentConfig().replace("data.dataset", measured[0].stem.partition("-")[2]).data
        write_text(out / "surface.js", atlas.script("surface", of_surface(surface.read(measured[0]), data)))
        shown["SurfaceBrowser"] = _place("surface", "response surface")
    runs = finished() if runs is None else runs
    trained: dict[str, tuple[str, str, Callable[[], dict[str, Any]]]] = {
        "LossLens": ("lens", "one image under the loss", lambda: of_lens(runs["complete"], progress)),
        "RankingBrowser": ("rankings", "rankings", lambda: of_rankings(runs, progress)),
        "ProjectionBrowser": ("projection", "map of images", lambda: of_projection(runs["complete"])),
    }
    for widget, (name, label, make) in trained.items():
        if "complete" in runs:
            write_text(out / f"{name}.js", _kept(name, runs, make))
        shown[widget] = _place(name, label) if "complete" in runs else _UNTRAINED
    return shown


def of_cell(source: str, shown: Mapping[str, str]) -> str:
    """The live figures of the widgets that a cell makes."""
    parts = []
    for name, people in re.findall(r"widgets\.(\w+)\((?!own_loss)(?:toy\.World\((\d+)\))?", source):
        options = escape(json.dumps({"num_identities": int(people)} if people else {}), quote=True)
        parts.append(shown.get(name, "").replace("OPTIONS", options))
    return "".join(parts)


def _place(name: str, label: str) -> str:
    opening = f'<section class="live" data-live="{name}" data-options="OPTIONS" aria-label="{label}, live">'
    return f"{opening}<noscript>A live figure: it needs JavaScript.</noscript></section>"


def finished() -> dict[str, Run]:
    """The runs of the chapters that the home folder holds, softmax first."""
    config = ExperimentConfig()
    listing = list_images(config.data)
    found = {name: experiment.finished(variant(config, name), listing) for name in ("softmax", "complete")}
    return {name: run for name, run in found.items() if run}


def _kept(name: str, runs: Mapping[str, Run], make: Callable[[], dict[str, Any]]) -> str:
    """The script of what these runs show, made once."""
    reports = [f"{run.folder} {(run.folder / 'report.json').read_text(encoding='utf-8')}" for run in runs.values()]
    made_of = " ".join([*reports, Path(__file__).read_text(encoding="utf-8")])
    file = home() / "cache" / f"{name}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.js"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    text = atlas.script(name, make())
    with kept_where_possible():
        write_text(file, text)
    return text


# What they show


def of_surface(held: surface.Surface, data: DataConfig) -> dict[str, Any]:
    """The response surface with the interval, map and rankings of each cell; without thumbnails where its images were
    others than those that are drawn now."""
    rankings = [one for cell in held.cells.values() for one in cell["rankings"]]
    paths, images = sorted({path for one in rankings for path in one["paths"]}), None
    if held.made["images"] == experiment.images_digest(data):
        listing = list_images(data)
        where = {path: i for i, path in enumerate(listing.paths)}
        images = np.stack([np.asarray(listing.read(where[path]).convert("RGB")).transpose(2, 0, 1) for path in paths])
    cells = {}
    for point in held.points():
        key = surface.key(point.dials[surface.X], point.dials[surface.Y])
        cell = held.cells[key]
        cells[key] = {
            "mean": point.mean, "low": point.low, "high": point.high, "map": cell["map"],
            "rankings": [{**one, "images": [paths.index(path) for path in one["paths"]]} for one in cell["rankings"]],
        }  # fmt: skip
    return {
        "people": data.dataset.replace("_", " "), "masks": held.masks, "weights": held.weights, "cells": cells,
        "queries": surface.QUERIES,
        "sheet": None if images is None else _sheet(images), "colours": COLOURS,
    }  # fmt: skip


def of_lens(run: Run, progress: bool = True) -> dict[str, Any]:
    """Images of a run under each mask of `LENS_MASKS`; gradients are those of a term of weight 1, with which they
    grow."""
    lens = Lens.of_run(run.folder, most=LENS_IMAGES)
    alone = {mask: LossConfig(1.0, 1.0, mask) for mask in LENS_MASKS}
    readings = [[lens.read(i, loss) for loss in alone.values()]
                for i in tqdm(range(len(lens)), "loss lens", unit="image", disable=not progress)]  # fmt: skip
    gradients = [lens.gradients(loss) for loss in alone.values()]  # of L_sa and L_as
    identity = lens.gradients(LossConfig(0.0, 0.0))["identity"]
    terms = [np.tile(identity, (len(alone), 1)), *([one[term] for one in gradients] for term in worlds.TERMS[1:])]
    arrays = {
        **{name: np.moveaxis(np.array([[getattr(one, name) for one in row] for row in readings]), 1, 2)
           for name in ("rows", "logits", "probabilities")},  # (N,K,M)
        "gradients": np.moveaxis(np.array(terms), 1, 2),  # (3,N,M)
        **{name: np.array([[one.losses[name] for one in row] for row in readings]) for name in worlds.TERMS},  # (N,M)
    }  # fmt: skip
    of_person = lens.person_ids[lens.labels.numpy()]
    names = [
        f"person {person}, {plots.SPECTRA[m]}" for person, m in zip(of_person, lens.modality.tolist(), strict=True)
    ]
    trained, gained = run.config.loss, arrays["sa_softmax"][:, 0] - arrays["sa_softmax"][:, -1]
    return {
        "first": int(gained.argmax()),  # where the mask does most
        "masks": LENS_MASKS, "names": names, "people": lens.person_ids.tolist(), "parts": len(lens.prototypes),
        "floor": len(lens.prototypes) * math.log(2), "sheet": _sheet(lens.images),
        "terms": {name: {"name": TERMS[name][0], "colour": TERMS[name][1]} for name in worlds.TERMS},
        "trained": {"mask_value": trained.mask_value, "sas_weight": trained.sas_weight,
                    "similarity_weight": trained.similarity_weight},
        **atlas.packed(arrays, _LENS_GRAIN),
    }  # fmt: skip


def of_rankings(runs: Mapping[str, Run], progress: bool = True) -> dict[str, Any]:
    """What each run finds first for each query, under each protocol, in the whole gallery and in each camera's images;
    -1 where none is left."""
    tested = {name: run.embeddings for name, run in runs.items()}
    first = next(iter(tested.values()))
    cameras = np.unique(first.camera_ids)
    rules = protocols_of(first.dataset, first.split, first.gallery_order is not None)
    arrays: dict[str, np.ndarray] = {}
    protocols: list[dict[str, Any]] = []
    for k, rule in enumerate(tqdm(rules, "rankings", unit="protocol", disable=not progress)):
        searches = [search.search(one, rule) for one in tested.values()]
        queries = searches[0].query
        asking, searched = (np.unique(first.camera_ids[some]).tolist() for some in (queries, searches[0].gallery))
        protocols.append({"name": rule.name, "asking": asking, "searched": searched})
        found = np.full((len(runs), 1 + len(cameras), len(queries), FOUND), -1)
        for r, whole in enumerate(searches):
            within = [whole, *(whole.within(first.camera_ids[whole.gallery] == camera) for camera in cameras)]
            for c, some in enumerate(within):
                for q in range(len(queries)):
                    best = some.best(q, FOUND)
                    found[r, c, q, : len(best)] = best
        arrays |= {f"found-{k}": found, f"query-{k}": queries}
    used = np.unique(np.concatenate([one.ravel() for one in arrays.values()]))
    used = used[used >= 0]
    places = {name: np.where(one < 0, -1, np.searchsorted(used, one)) for name, one in arrays.items()}
    store = experiment.images_of(next(iter(runs.values())).folder)
    rows = store.find(tuple(first.paths[i] for i in used))
    return {
        "runs": list(runs), "protocols": protocols, "cameras": cameras.tolist(),
        "person_ids": first.person_ids[used].tolist(), "camera_ids": first.camera_ids[used].tolist(),
        "sheet": _sheet(store.gather(torch.from_numpy(rows)).numpy()),
        **atlas.packed(places, dict.fromkeys(places, 1.0)),
    }  # fmt: skip


def of_projection(run: Run) -> dict[str, Any]:
    """Where the first training identities of a run lie, with their images and the loss of each."""
    drawn = descriptors.picture(run.training_embeddings, seed=run.config.seed)
    shown, where = drawn.embeddings, drawn.projection
    store = experiment.images_of(run.folder)
    lens = Lens.of_run(run.folder, store, most=600)
    cost = dict(zip(lens.paths, lens.losses(run.config.loss), strict=True))
    spectra = [plots.SPECTRA[m] for m in shown.modality]
    return {
        "title": f"{len(np.unique(shown.person_ids))} training identities ({where.caption})",
        "samples": where.samples.round(3).tolist(), "prototypes": where.prototypes.round(3).tolist(),
        "person_ids": shown.person_ids.tolist(), "modality": shown.modality.tolist(),
        "camera_ids": shown.camera_ids.tolist(), "colours": COLOURS,
        "colourings": {
            "modality": {"values": spectra}, "identity": {"values": shown.person_ids.tolist()},
            "camera": {"values": shown.camera_ids.tolist()},
            "loss, nats": {"values": [round(float(cost[path]), 3) for path in shown.paths], "scale": True},
        },
        "sheet": _sheet(store.gather(torch.from_numpy(store.find(shown.paths))).numpy()),
    }  # fmt: skip


def _sheet(images: UInt8[np.ndarray, "N 3 H W"]) -> dict[str, Any]:
    return asdict(plots.atlas(images))
