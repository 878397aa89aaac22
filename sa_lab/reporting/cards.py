"""Overlap of runs in one picture, and what a page or a chapter shows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import torch

from sa_lab import analysis, plots
from sa_lab.analysis import DEFINITIONS
from sa_lab.analysis.descriptors import Picture, picture, rows_of
from sa_lab.data.store import ImageStore
from sa_lab.evaluation import search
from sa_lab.evaluation.protocols import protocols_of
from sa_lab.evaluation.reports import Report
from sa_lab.intervals import Interval
from sa_lab.plots import Atlas, RunCard
from sa_lab.reporting import tables
from sa_lab.runs import PEOPLE_FILES, Measuring, Run, loss_name, measure_folder
from sa_lab.schema import Embeddings, LeakageError

KINDS = {
    "same_identity_other_spectrum": "same person, other spectrum",
    "other_identity_other_spectrum": "other person, other spectrum",
    "same_identity_same_spectrum": "same person, same spectrum",
    "other_identity_same_spectrum": "other person, same spectrum",
}
"""The four kinds of pairs."""
DECIDING = tuple(KINDS.values())[:2]
"""The kinds that decide retrieval."""
ON_A_CARD = {
    "unseen": ("stranger_ratio", "modality_probe", "neighbour_ratio", "pair_auc"),
    "training": ("cross_similarity", "cross_margin"),
}
"""Measures that a card shows beside Rank-1 and mAP."""
PEOPLE = {"unseen": "unseen people", "training": "people trained on"}


def names_of(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by what tells them apart: loss and seed, or else the folder's name, or else its path.

    Raises:
        ValueError: a folder is given twice.
    """
    if len(set(folders)) < len(folders):
        raise ValueError(f"runs are {', '.join(map(str, folders))}, expected each once")
    ways = (_loss_and_seed, lambda folder: folder.name, str)
    for way in ways:
        named = {way(folder): folder for folder in folders}
        if len(named) == len(folders):
            return named
    raise AssertionError("different paths have different texts")


def _loss_and_seed(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        return folder.name
    run = Run(folder)
    return f"{loss_name(run.config)}, seed {run.config.seed}"


def card(folders: Mapping[str, Path], people: int = 8, seed: int = 0, measure: Measuring = measure_folder) -> go.Figure:
    """Up to four runs in one picture: where some people lie, how similar pairs of unseen people are, and the measures.

    Args:
        folders: of runs, or of evaluated descriptors, by the name they are shown with.
        people: persons in the projections: people trained on, with their prototypes, where the folder has them.
        seed: of projections and pairs.
        measure: gives the overlap of a folder.

    Raises:
        ValueError: no run, or more than four.
    """
    return plots.overlap_card(
        {name: _run_card(folder, people, seed, measure(folder)) for name, folder in folders.items()},
        title="Overlap of the spectra: projection, similarities, measures with 95 % intervals",
    )


def _run_card(folder: Path, people: int, seed: int, measured: Mapping[str, Mapping[str, Interval]]) -> RunCard:
    unseen = Embeddings.load(folder / PEOPLE_FILES["unseen"], mapped=True)
    trained = folder / PEOPLE_FILES["training"]
    drawn = picture(Embeddings.load(trained) if trained.is_file() else unseen, people, seed)
    similarities = pairs(unseen, seed)
    retrieval = Report.load(folder).measures if (folder / "report.json").is_file() else {}
    shown = {
        f"{title}, %": (100 * measure.mean, 100 * measure.low, 100 * measure.high)
        for key, title in (("rank_1", "Rank-1"), ("mean_ap", "mAP"))
        if (measure := retrieval.get(key))
    }
    for people_of, keys in ON_A_CARD.items():
        for key in keys:
            if interval := measured.get(people_of, {}).get(key):
                shown[f"{DEFINITIONS[key].title}, {PEOPLE[people_of]}"] = (interval.mean, interval.low, interval.high)
    return RunCard(
        drawn.projection.samples, drawn.embeddings.person_ids, drawn.embeddings.modality, drawn.projection.prototypes,
        {title: values for title, values in similarities.items() if title in DECIDING}, shown,
        drawn.projection.trustworthiness, drawn.embeddings.prototype_ids,
    )  # fmt: skip


def pairs(embeddings: Embeddings, seed: int = 0) -> dict[str, np.ndarray]:
    """Cosine similarities by kind of pair, up to 20,000 of each; kinds that do not occur are left out."""
    points, _ = rows_of(embeddings)
    rng = np.random.default_rng(seed)
    kinds = analysis.pair_similarities(points, embeddings.person_ids, embeddings.modality, rng)
    return {title: values for kind, title in KINDS.items() if len(values := getattr(kinds, kind))}


def measure_table(
    folders: Mapping[str, Path],
    people: str,
    only: Sequence[str] = tuple(DEFINITIONS),
    measure: Measuring = measure_folder,
) -> list[tables.TableRow]:
    """One row per measure of "unseen" people or of those in "training": its range, whether more or less is better, and
    mean [95 % interval over identities] of each run; a measure that no run has is left out."""
    columns = {name: measure(folder).get(people, {}) for name, folder in folders.items()}
    return [
        {
            "measure": definition.title, "range": definition.range, "better": definition.better,
            **{name: tables.interval(column.get(key)) for name, column in columns.items()},
        }
        for key, definition in DEFINITIONS.items()
        if key in only and any(key in column for column in columns.values())
    ]  # fmt: skip


def film_of(moments: Mapping[int, Picture], title: str) -> go.Figure:
    """The moments of a training as an animation, colours by identity; its trustworthiness is added to the title."""
    first = next(iter(moments.values())).embeddings
    drawn = [moment.projection for moment in moments.values()]
    trust = [moment.trustworthiness for moment in drawn]
    title += f" ({drawn[0].method.upper()}, trustworthiness {min(trust):.2f} to {max(trust):.2f})"
    return plots.film(
        list(moments), [moment.samples for moment in drawn], first.person_ids, first.modality,
        prototypes=[moment.prototypes for moment in drawn], prototype_ids=first.prototype_ids,
        colour_by="identity", title=title,
    )  # fmt: skip


def first_match(embeddings: Embeddings) -> np.ndarray:
    """For each image "right", "wrong" or, if it is not a query of the first protocol, "not a query", (N,).

    Raises:
        LeakageError: training has seen these people.
    """
    rule = protocols_of(embeddings.dataset, embeddings.split, embeddings.gallery_order is not None)[0]
    words = np.full(len(embeddings), "not a query")
    try:
        trial = search.search(embeddings, rule)
    except LeakageError:
        raise
    except ValueError:  # nothing that this protocol could ask
        return words
    words[trial.query] = np.where(trial.first_is_right(embeddings.person_ids), "right", "wrong")
    return words


def atlas_of(embeddings: Embeddings, store: ImageStore | None) -> Atlas | None:
    """Thumbnails of the embedded images."""
    return None if store is None else plots.atlas(store.gather(torch.from_numpy(store.find(embeddings.paths))).numpy())
