"""How far the spectra of a run overlap: on unseen people and on those it was trained on, whole and part by part."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from tqdm.auto import tqdm

from sa_lab import __version__, analysis
from sa_lab.analysis import DEFINITIONS, OF_IMAGES, Interval, Projection
from sa_lab.disk import write_text
from sa_lab.experiment import Run
from sa_lab.schema import Embeddings

Measures = dict[str, Interval]
FILES = {"unseen": "embeddings.npz", "training": "training_embeddings.npz"}
"""The two sets of people of a run's folder, and where their descriptors are; evaluated descriptors have the first."""
OF_ALL_PAIRS = ("modality_probe", "neighbour_ratio", "silhouette_identity", "silhouette_modality")
"""Measures that fit a classifier to all images, or compare each with all others: too slow for many in full."""
QUICK = ("stranger_ratio", "modality_probe", "prototype_alignment")
"""Measures for tables and live curves: gap, probe and prototypes, each of another kind."""


def of_embeddings(
    embeddings: Embeddings,
    *,
    part: int | None = None,
    only: Sequence[str] = tuple(DEFINITIONS),
    seed: int = 0,
    progress: bool = False,
) -> Measures:
    """The measures of `sa_lab.analysis.measure_overlap` on embeddings after the neck; those that they do not allow are
    left out.

    Of more than 3,000 images the measures in `OF_ALL_PAIRS` are taken in fewer dimensions (`sa_lab.analysis.reduce`).
    What is left out is mostly noise, so that images lie closer to their kind than they are: compare such numbers among
    themselves.

    Args:
        embeddings: anybody's.
        part: one horizontal part 0..P-1; None: the whole descriptor, with each prototype's parts made unit length.
        only: names in `sa_lab.analysis.DEFINITIONS`.
        seed: of pairs, folds and bootstrap.
        progress: show a bar.
    """
    points, prototypes = rows_of(embeddings, part)
    count, known = len(points), embeddings.prototype_ids
    compared = known is not None and np.isin(embeddings.person_ids, known).all()
    thin = analysis.reduce(np.concatenate([points, prototypes]) if compared else points, np.random.default_rng(seed))
    with tqdm(desc="overlap", unit="measure", disable=not progress) as bar:

        def watch(measure: str) -> None:
            bar.update()
            bar.set_postfix_str(measure)

        def measured(rows: np.ndarray, marks: np.ndarray, keys: Sequence[str]) -> Measures:
            return analysis.measure_overlap(
                rows, embeddings.person_ids, embeddings.modality, np.random.default_rng(seed), only=keys, watch=watch,
                prototypes=marks if len(marks) else None, prototype_ids=known,
            )  # fmt: skip

        if thin.kept == 1:  # the same in every dot product
            return measured(thin.points[:count], thin.points[count:] if compared else prototypes, only)
        found = measured(points, prototypes, [key for key in only if key not in OF_ALL_PAIRS])
        found |= measured(thin.points[:count], prototypes[:0], [key for key in only if key in OF_ALL_PAIRS])
    return {key: found[key] for key in DEFINITIONS if key in found}


@dataclass(frozen=True)
class Picture:
    """Some images drawn with the prototypes of their persons.

    Attributes:
        embeddings: of the drawn images, with the prototypes of their persons alone.
        projection: where images and prototypes lie.
    """

    embeddings: Embeddings
    projection: Projection


def picture(embeddings: Embeddings, people: int = 8, seed: int = 0, **dials: Any) -> Picture:
    """The first ``people`` persons with their prototypes, if any; ``dials``: see `sa_lab.analysis.project`."""
    some = some_people(embeddings, np.unique(embeddings.person_ids)[:people])
    points, prototypes = rows_of(some)
    known = prototypes if len(prototypes) else None
    return Picture(some, analysis.project(points, np.random.default_rng(seed), prototypes=known, **dials))


def pictures_along(
    run: Run, people: str = "training", most: int = 8, seed: int = 0, **dials: Any
) -> dict[int, Picture]:
    """The probes of a run by step, drawn so that every image can be followed.

    Args:
        run: with probes.
        people: "training" or "unseen".
        most: how many of them are drawn.
        seed: of the drawing.
        dials: as of `sa_lab.analysis.project_along`.

    Raises:
        ValueError: the run has no probes of these people.
    """
    probes = {step: of_people(one, people) for step, one in run.probes().items()}
    probes = {step: some_people(one, np.unique(one.person_ids)[:most]) for step, one in probes.items()}
    if not probes or not all(map(len, probes.values())):
        raise ValueError(f"{run.folder} has no probes of {people} people; expected a run with train.num_probes above 0"
                         " and, for unseen people, validation identities")  # fmt: skip
    rows = [rows_of(one) for one in probes.values()]
    known = [prototypes for _, prototypes in rows] if len(rows[0][1]) else None
    drawn = analysis.project_along(
        [points for points, _ in rows], np.random.default_rng(seed), prototypes=known, **dials
    )
    return {step: Picture(one, where) for (step, one), where in zip(probes.items(), drawn, strict=True)}


def of_people(probe: Embeddings, people: str) -> Embeddings:
    """Of the images of a probe those of "training" identities, with their prototypes, or of "unseen" ones, without."""
    ids = np.unique(probe.person_ids)
    known = np.array([]) if probe.prototype_ids is None else probe.prototype_ids
    return some_people(probe, ids[np.isin(ids, known) == (people == "training")])


def some_people(embeddings: Embeddings, ids: Int[np.ndarray, " I"]) -> Embeddings:
    """Images of some persons with the prototypes of these alone, if all have them, or with none."""
    some = embeddings.subset(np.isin(embeddings.person_ids, ids))
    known, prototypes = embeddings.prototype_ids, embeddings.prototypes
    if known is None or prototypes is None or not np.isin(ids, known).all():
        return replace(some, prototypes=None, prototype_ids=None)
    rows = np.flatnonzero(np.isin(known, ids))
    return replace(some, prototypes=prototypes[:, [*rows, *(rows + len(known))]], prototype_ids=known[rows])


def rows_of(embeddings: Embeddings, part: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors (N,D) and prototypes (2C,D) of one part, or of all as one; without prototypes (0,D)."""
    chosen = slice(None) if part is None else slice(part, part + 1)
    values = embeddings.embeddings[:, chosen]
    points = values.reshape(len(values), -1)
    if embeddings.prototypes is None:
        return points, points[:0]
    return points, analysis.whole_prototypes(embeddings.prototypes[chosen]).astype(points.dtype)


def of_folder(folder: Path, progress: bool = True) -> dict[str, Measures]:
    """All measures of a run, or of evaluated descriptors, by set of people; kept in the folder as overlap.json until
    the content of the descriptors, or the library, changes. Unseen people have no prototypes, and no measures of them.
    """
    sources = {name: Path(folder) / file for name, file in FILES.items() if (Path(folder) / file).is_file()}
    state = {"library": __version__, **{name: _checksums(source) for name, source in sources.items()}}
    file = Path(folder) / "overlap.json"
    known = json.loads(file.read_text()) if file.is_file() else {}
    if known.get("state") == state:
        return {name: {k: Interval(*v) for k, v in one.items()} for name, one in known["measures"].items()}
    found = {}
    for name, source in sources.items():
        only = OF_IMAGES if name == "unseen" else tuple(DEFINITIONS)
        found[name] = of_embeddings(Embeddings.load(source, mapped=True), only=only, progress=progress)
    values = {name: {k: astuple(v) for k, v in one.items()} for name, one in found.items()}
    write_text(file, json.dumps({"state": state, "measures": values}))
    return found


def _checksums(archive: Path) -> list[list[str | int]]:
    """What tells two .npz apart without reading them whole: name, size and checksum of each array."""
    with zipfile.ZipFile(archive) as file:
        return [[one.filename, one.file_size, one.CRC] for one in file.infolist()]


def by_part(embeddings: Embeddings, only: Sequence[str] = QUICK) -> dict[str, Measures]:
    """Some measures of each horizontal part, from the top."""
    parts = range(embeddings.embeddings.shape[1])
    return {f"part {part + 1}": of_embeddings(embeddings, part=part, only=only) for part in parts}


def along(run: Run, people: str = "training", only: Sequence[str] = QUICK) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Measures of a run's probes: the steps (T,) and, by measure, the means (T,); NaN where it is missing."""
    steps, rows = [], []
    for step, probe in run.probes().items():
        some = of_people(probe, people)
        rows.append(of_embeddings(some, only=only) if len(some) else {})
        steps.append(step)
    columns = {key: np.array([row[key].mean if key in row else np.nan for row in rows]) for key in only}
    return np.array(steps), columns
