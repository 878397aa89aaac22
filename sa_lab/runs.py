"""A finished run, read from its folder: no torch, no training engine."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from sa_lab import __version__
from sa_lab.analysis import DEFINITIONS, OF_IMAGES
from sa_lab.analysis.descriptors import measure_embeddings
from sa_lab.config import VARIANTS, ExperimentConfig, LossConfig, variant
from sa_lab.disk import write_text
from sa_lab.evaluation.reports import Report
from sa_lab.intervals import Interval
from sa_lab.schema import Embeddings

PEOPLE_FILES = {"unseen": "embeddings.npz", "training": "training_embeddings.npz"}
"""The two sets of people of a run's folder, and where their descriptors are; evaluated descriptors have the first."""


@dataclass(frozen=True, repr=False)
class Run:
    """A folder: config.json, made_of.json (library version and hash of the images), metrics.csv, checkpoint.pt (to go
    on from), model.pt (the selected network), probes/ (descriptors along the training, a file a step),
    embeddings.npz, training_embeddings.npz, for each protocol of the data set a report and its queries and, when it is
    finished, report.json and queries.csv of the first protocol.
    """

    folder: Path

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_markdown_(self) -> str:
        """What a notebook shows: which run it is, and what came out so far."""
        if not (self.folder / "config.json").is_file():
            return f"**Run** `{self.folder}`: nothing trained yet"
        config, done = self.config, (self.folder / "report.json").is_file()
        result = self.report._repr_markdown_() if done else "not finished"
        return f"**Run** `{self.folder.name}`: {loss_name(config)}, seed {config.seed}\n\n{result}"

    @property
    def config(self) -> ExperimentConfig:
        """The dials."""
        return ExperimentConfig.load(self.folder / "config.json")

    @property
    def embeddings(self) -> Embeddings:
        """Descriptors of the test identities, with the prototypes and the identities that training has seen."""
        return Embeddings.load(self.folder / "embeddings.npz")

    @property
    def training_embeddings(self) -> Embeddings:
        """Descriptors of the first training identities (up to 600 images), with all prototypes."""
        return Embeddings.load(self.folder / "training_embeddings.npz")

    def probes(self) -> dict[int, Embeddings]:
        """Descriptors of the same training and validation identities, with the prototypes of the former, after so many
        steps; none where ``num_probes`` is 0."""
        files = sorted((self.folder / "probes").glob("step-*.npz"))
        return {int(file.stem.removeprefix("step-")): Embeddings.load(file) for file in files}

    @property
    def report(self) -> Report:
        """What came of the first protocol of the data set; `Report.load_all` has the others."""
        return Report.load(self.folder)

    def metrics(self) -> dict[str, np.ndarray]:
        """Columns of metrics.csv; NaN where a row has no value."""
        with (self.folder / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        return {key: np.array([float(row[key]) if row[key] else np.nan for row in rows]) for key in rows[0]}


Measuring = Callable[[Path], Mapping[str, Mapping[str, Interval]]]
"""`measure_folder`, or anything that gives the same of a folder."""


def load_embeddings(path: Path | str) -> Embeddings:
    """Anybody's descriptors, see `sa_lab.schema.Embeddings.load`."""
    return Embeddings.load(Path(path))


def loss_name(config: ExperimentConfig) -> str:
    """The study's name of the config's loss, that of a loss of one's own, or "custom"."""
    if config.loss.own:
        return config.loss.own
    for name in VARIANTS:
        default = ExperimentConfig(loss=LossConfig(warmup_steps=config.loss.warmup_steps))
        if variant(default, name).loss == config.loss:
            return name
    return "custom"


def measure_folder(folder: Path, progress: bool = False) -> dict[str, dict[str, Interval]]:
    """All measures of overlap of a run, or of evaluated descriptors, by set of people (`PEOPLE_FILES`).

    They are kept in the folder as overlap.json until the content of the descriptors, or the library, changes. Unseen
    people have no prototypes, and no measures of them.
    """
    sources = {people: folder / file for people, file in PEOPLE_FILES.items() if (folder / file).is_file()}
    state = {"library": __version__, **{people: _checksums(source) for people, source in sources.items()}}
    file = folder / "overlap.json"
    kept = json.loads(file.read_text()) if file.is_file() else {}
    if kept.get("state") == state:
        return {
            people: {name: Interval(*values) for name, values in measures.items()}
            for people, measures in kept["measures"].items()
        }
    measured = {}
    for people, source in sources.items():
        only = OF_IMAGES if people == "unseen" else tuple(DEFINITIONS)
        measured[people] = measure_embeddings(Embeddings.load(source, mapped=True), only=only, progress=progress)
    values = {
        people: {name: astuple(interval) for name, interval in measures.items()}
        for people, measures in measured.items()
    }
    write_text(file, json.dumps({"state": state, "measures": values}))
    return measured


def _checksums(archive: Path) -> list[list[str | int]]:
    """What tells two .npz apart without reading them whole: name, size and checksum of each array."""
    with zipfile.ZipFile(archive) as file:
        return [[member.filename, member.file_size, member.CRC] for member in file.infolist()]
