"""How designs of a loss compare on the validation identities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from sa_lab.analysis import NotMeasurable, descriptors, modality_gap
from sa_lab.analysis.descriptors import QUICK, measure_embeddings
from sa_lab.config import Style
from sa_lab.course.claims import told
from sa_lab.evaluation import paired, search
from sa_lab.evaluation.protocols import protocols_of
from sa_lab.evaluation.validation import ValidationSet
from sa_lab.experiment import images_of, load_model, place
from sa_lab.intervals import bootstrap_interval
from sa_lab.reporting import tables
from sa_lab.runs import Run
from sa_lab.schema import Embeddings
from sa_lab.training import processes


def report_card(runs: Mapping[str, Run], style: Style = "markdown", progress: bool = True) -> str:
    """How designs of a loss compare on the validation identities, so that the test identities stay unseen.

    Args:
        runs: finished runs by name, trained and validated on the same identities; the first is the one to judge.
        style: of the tables.
        progress: show bars.

    Returns:
        Retrieval and overlap of each, and the paired difference between the first and each other one, also in words.

    Raises:
        ValueError: a run held no identities back, or the runs differ in theirs.
    """
    validated = {name: embed_validation(run, progress) for name, run in runs.items()}
    graded = {
        name: search.evaluate(embeddings, protocols_of(embeddings.dataset, embeddings.split)[0])
        for name, embeddings in validated.items()
    }
    (mine, own), *others = graded.items()
    count = f"{own.num_identities} validation identities"
    overlaps = [
        {"method": name, **tables.overlap_columns(measure_embeddings(embeddings, only=QUICK))}
        for name, embeddings in validated.items()
    ]
    parts = [
        f"Retrieval of the {count}, in %:",
        tables.render(tables.retrieval({name: [report] for name, report in graded.items()}), style),
        f"Rules: {tables.title([own])}.",
        "How far their spectra overlap (prototypes: of the training identities), with 95 % bootstrap over identities:",
        tables.render(overlaps, style),
    ]
    gains = {name: paired.differences(report, own)["mean_ap"] for name, report in others}  # of the same images
    parts += [f"{mine} minus {name}: {_gap_less(validated[mine], validated[name])}." for name in gains]
    for name, gain in gains.items():
        span, word = told(asdict(gain), "mean_ap", " points")
        parts.append(f"{mine} minus {name}: mAP {span}, {word} ({_PAIRED}).")
    return "\n\n".join(parts)


_OF_SIZE = {"higher": "larger", "lower": "smaller"}
_PAIRED = "paired, 95 % bootstrap over identities; one seed"


def _gap_less(first: Embeddings, second: Embeddings) -> str:
    """The modality gap of the first minus that of the second, identity by identity, in words."""
    try:
        gaps = [modality_gap(descriptors.rows_of(e)[0], e.person_ids, e.modality) for e in (first, second)]
    except NotMeasurable:
        return "modality gap not measurable"
    less = gaps[0].stranger_ratio - gaps[1].stranger_ratio
    if not np.isfinite(less).all():
        return "modality gap not measurable"
    change = bootstrap_interval(less, gaps[0].person_ids, np.random.default_rng(0), num_samples=10_000)
    span, word = told(asdict(change), "stranger_ratio")
    return f"modality gap {span}, {_OF_SIZE.get(word, word)} ({_PAIRED})"


def embed_validation(run: Run, progress: bool = True) -> Embeddings:
    """Descriptors of a run's validation identities, on which designs are compared; kept in the run's folder.

    Raises:
        ValueError: the run held no identities back.
    """
    file = run.folder / "validation_embeddings.npz"
    if not file.is_file():
        config = run.config
        held = ValidationSet.of(config, images_of(run.folder, progress))
        if not len(held):
            raise ValueError(
                "data.validation_fraction is 0: no identities were held back to compare designs on; expected more"
            )
        model, prototypes, train_ids = load_model(run.folder)
        place(model, processes.fabric_of(config.train).device, config)
        held.embed(model, prototypes, train_ids, progress, out=file)
    return Embeddings.load(file)
