"""A finished run, read from its folder: no torch, no training engine."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from sa_lab.analysis import DEFINITIONS, OF_IMAGES
from sa_lab.analysis.descriptors import measure_embeddings
from sa_lab.config import VARIANTS, ExperimentConfig, LossConfig, variant
from sa_lab.dials import markdown
from sa_lab.disk import DamagedFileError, kept_where_possible, read_csv, read_json, write_json
from sa_lab.evaluation.reports import Report
from sa_lab.intervals import Interval
from sa_lab.provenance import ANALYSIS, code_digest
from sa_lab.schema import Embeddings, Modality

PEOPLE_FILES = {"unseen": "embeddings.npz", "training": "training_embeddings.npz"}
"""The two sets of people of a run's folder, and where their descriptors are; evaluated descriptors have the first."""


@dataclass(frozen=True, repr=False)
class Run:
    """A folder: config.json, made_of.json (hashes of code, images and weights), images.csv (what each image was),
    metrics.csv, model.pt (the selected network), probes/ (descriptors along the training, one file per step),
    embeddings.npz, training_embeddings.npz, for each protocol of the data set a report and its queries and, when it is
    finished, report.json and queries.csv of the first protocol; until then checkpoint.pt, to go on from; cost.json
    (seconds of the training, and the most memory it took).
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))  # a text does as well

    def there(self) -> Run:
        """This run, if there is one.

        Raises:
            FileNotFoundError: the folder is missing, or no run's.
        """
        if not (self.folder / "config.json").is_file():
            what = "has no config.json" if self.folder.is_dir() else "is no folder"
            raise FileNotFoundError(f"{self.folder} {what}, expected the folder of a run, as `sa-lab runs` lists them")
        return self

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_markdown_(self) -> str:
        """What a notebook shows: which run it is, and what came out so far."""
        if not (self.folder / "config.json").is_file():
            return f"**Run** {markdown(self.folder)}: nothing trained yet"
        config, done = self.config, (self.folder / "report.json").is_file()
        result = self.report._repr_markdown_() if done else "not finished"
        name, loss = markdown(self.folder.name), markdown(loss_name(config))
        return f"**Run** {name}: {loss}, seed {config.seed}\n\n{result}"

    @property
    def config(self) -> ExperimentConfig:
        """The dials."""
        return ExperimentConfig.load(self.there().folder / "config.json")

    @property
    def embeddings(self) -> Embeddings:
        """Descriptors of the test identities, with the prototypes and the identities that training has seen."""
        return Embeddings.load(self.folder / "embeddings.npz")

    @property
    def training_embeddings(self) -> Embeddings:
        """Descriptors of the first training identities (up to 600 images), with all prototypes."""
        return Embeddings.load(self.folder / "training_embeddings.npz")

    def rank(self, query: Any, gallery: Any, k: int = 10, modality: Modality = Modality.INFRARED) -> Any:
        """Look for pictures among others by this run's network: `sa_lab.ranking.rank`, whose arguments these are.

        Returns:
            A `sa_lab.ranking.Ranking`.
        """
        return import_module("sa_lab.ranking").rank(self, query, gallery, k, modality)  # which needs torch

    def probes(self) -> dict[int, Embeddings]:
        """Descriptors of the same training and validation identities, with the prototypes of the former, by number of
        steps; empty if ``num_probes`` is 0."""
        files = sorted((self.folder / "probes").glob("step-*.npz"))
        return {int(file.stem.removeprefix("step-")): Embeddings.load(file) for file in files}

    @property
    def report(self) -> Report:
        """The report of the data set's first protocol; `Report.load_all` has the others."""
        return Report.load(self.folder)

    def metrics(self) -> dict[str, np.ndarray]:
        """Columns of metrics.csv; NaN where a row has no value."""
        columns = read_csv(self.folder / "metrics.csv", ("step", "total"))
        return {key: np.array([float(cell) if cell else np.nan for cell in cells]) for key, cells in columns.items()}


def source_of(folder: Path) -> dict[str, str | int | None]:
    """What `sa-lab evaluate` noted of a checkpoint or of descriptors; nothing for a run."""
    file = folder / "source.json"
    return read_json(file) if file.is_file() else {}


Measuring = Callable[[Path], Mapping[str, Mapping[str, Interval]]]
"""`measure_folder`, or anything that gives the same of a folder."""


def load_embeddings(path: Path | str) -> Embeddings:
    """Anybody's descriptors, see `sa_lab.schema.Embeddings.load`."""
    return Embeddings.load(Path(path))


def loss_name(config: ExperimentConfig) -> str:
    """The study's name of the config's loss, or the nearest one with the dials that differ ("complete, mask_value 5"),
    or that of a loss of one's own."""
    loss = config.loss
    if loss.own:
        return loss.own if loss.terms == "identity 1 + own 1" else f"{loss.own}, {loss.terms}"
    named = _named_losses()
    alike = [name for name, one in named.items() if bool(one.terms) == bool(loss.terms)]
    alike = [name for name in alike if not loss.terms or named[name].weights().keys() == loss.weights().keys()]
    if not alike:  # terms that nobody has put together yet
        named, alike = {loss.terms: LossConfig(terms=loss.terms)}, [loss.terms]
    dials = [dial for dial in asdict(loss) if dial not in (*loss.unused(), "warmup_steps")]
    apart = {name: [dial for dial in dials if getattr(loss, dial) != getattr(named[name], dial)] for name in alike}
    nearest = min(reversed(apart), key=lambda name: len(apart[name]))  # of equally near ones the whole loss
    told = {dial: getattr(loss, dial) for dial in apart[nearest]}
    return ", ".join([nearest, *(f"{k} {v}" if isinstance(v, str) else f"{k} {v:g}" for k, v in told.items())])


@cache
def _named_losses() -> Mapping[str, LossConfig]:
    """The losses of `VARIANTS`, but for those that are one of them with another dial."""
    plain = ExperimentConfig(loss=LossConfig(warmup_steps=0))
    return {name: variant(plain, name).loss for name in VARIANTS if not name.startswith("mask_")}


def measure_folder(folder: Path, progress: bool = False) -> dict[str, dict[str, Interval]]:
    """All measures of overlap of a run, or of evaluated descriptors, by set of people (`PEOPLE_FILES`).

    They are kept in the folder as overlap.json until the content of the descriptors, or the library, changes. Unseen
    people have no prototypes, and no measures of them.
    """
    if (kept := kept_measures(folder)) is not None:
        return kept
    measured = {}
    for people, source in _sources(folder).items():
        only = OF_IMAGES if people == "unseen" else tuple(DEFINITIONS)
        measured[people] = measure_embeddings(Embeddings.load(source, mapped=True), only=only, progress=progress)
    values = {
        people: {name: astuple(interval) for name, interval in measures.items()}
        for people, measures in measured.items()
    }
    with kept_where_possible():  # else they are measured again another time
        write_json(folder / "overlap.json", {"state": _state(folder), "measures": values})
    return measured


def kept_measures(folder: Path) -> dict[str, dict[str, Interval]] | None:
    """What `measure_folder` has kept in a folder; None where it would measure."""
    try:
        kept = read_json(folder / "overlap.json")
        if kept["state"] == _state(folder):
            return {
                people: {name: Interval(*values) for name, values in measures.items()}
                for people, measures in kept["measures"].items()
            }
    except (FileNotFoundError, DamagedFileError, KeyError, TypeError, AttributeError):
        pass  # it is measured again
    return None


def _sources(folder: Path) -> dict[str, Path]:
    return {people: folder / file for people, file in PEOPLE_FILES.items() if (folder / file).is_file()}


def _state(folder: Path) -> dict[str, Any]:
    """What the measures of a folder depend on."""
    of_people = {people: _checksums(source) for people, source in _sources(folder).items()}
    return {"code": code_digest(ANALYSIS), **of_people}


def _checksums(archive: Path) -> list[list[str | int]]:
    """What tells two .npz apart without reading them whole: name, size and checksum of each array."""
    try:
        with zipfile.ZipFile(archive) as file:
            return [[member.filename, member.file_size, member.CRC] for member in file.infolist()]
    except OSError:
        raise
    except Exception as error:  # damaged archives fail in many ways
        raise DamagedFileError(f"{archive} is damaged: {error}; remove it, and make it again") from error
