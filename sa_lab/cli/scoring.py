"""Commands that measure how good something is: runs, the reference's checkpoints, anybody's descriptors."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from sa_lab.cli.presets import with_options
from sa_lab.config import LAYOUTS, DataConfig, Dataset, Device, Style, TrainConfig
from sa_lab.disk import can_be_written, check_folder, check_output, home, read_json, say, tell, write_json, write_text

if TYPE_CHECKING:
    import torch

    from sa_lab.schema import Embeddings


def evaluate(
    source: Annotated[Path, tyro.conf.Positional],
    protocol: tuple[str, ...] = (),
    rerank: tuple[int, int, float] | None = None,
    rerank_expand: Literal["above", "at_least"] = "above",
    method: str = "",
    out: Path | None = None,
    dataset: Dataset | None = None,
    root: str | None = None,
    split: int | None = None,
    height: int = 384,
    width: int = 192,
    device: Device = "auto",
) -> None:
    """Evaluate a run again, a checkpoint of the reference program, or anybody's descriptors.

    Args:
        source: folder of a run; an .npz of descriptors (see `sa_lab.schema.Embeddings.load`); or a checkpoint of the
            reference program.
        protocol: names of protocols; by default those of the data set.
        rerank: k-reciprocal re-ranking with k1, k2 and the weight of the original distance; the paper's: 20 6 0.3.
        rerank_expand: a neighbour's set joins if more than two thirds of it are shared (above, as in published
            programs) or at least two thirds (at_least, as in the paper's equation).
        method: the name in tables; by default the name of the file. `report` averages the splits of one method.
        out: folder of the reports; by default the run itself, else one in the data folder.
        dataset: the data set of descriptors that do not name theirs, or the one that a checkpoint is tested on.
        root: folder of the images that a checkpoint is tested on.
        split: the split of descriptors that do not name theirs, or the split of regdb that a checkpoint was trained on.
        height: height of a checkpoint's images in pixels.
        width: width of a checkpoint's images in pixels.
        device: where a checkpoint computes.
    """
    from sa_lab.evaluation.protocols import PROTOCOLS, protocols_of
    from sa_lab.evaluation.rerank import KReciprocal
    from sa_lab.evaluation.search import evaluate_all
    from sa_lab.reporting import tables
    from sa_lab.schema import Embeddings

    if unknown := [name for name in protocol if name not in PROTOCOLS]:
        raise ValueError(f"--protocol is {' '.join(unknown)}, expected names among {', '.join(PROTOCOLS)}")
    if rerank_expand != "above" and not rerank:
        raise ValueError(f"--rerank-expand is {rerank_expand} without --rerank, expected both, or neither")
    if not source.exists() or source.suffix == ".npy":
        raise FileNotFoundError(f"{source}: expected a run, a checkpoint, or an .npz of descriptors with their ids")
    ranker = KReciprocal(*rerank, rerank_expand) if rerank else None
    if source.is_dir():
        if (dataset, root, split, method) != (None, None, None, ""):
            raise ValueError("--dataset, --root, --split and --method do not apply to a run, which knows its own")
        folder, tested = out or source, Embeddings.load(source / "embeddings.npz", mapped=True)
    else:
        theirs = None
        if source.suffix == ".npz":
            theirs = _labelled(Embeddings.load(source, mapped=True), dataset, split)
            split = theirs.split
        elif dataset is None or (dataset == "regdb" and split is None):
            raise ValueError("--dataset, and for regdb --split, are missing: a checkpoint does not name its data set")
        folder = out or home() / "evaluations" / ((method or source.stem) + (f"-split{split}" if split else ""))
        check_folder(folder, "choose another folder with --out")
        known = theirs.dataset if theirs else dataset
        where = str(Path(root).expanduser().absolute()) if root else None
        note = _claimed(
            folder, source, {"method": method or source.stem, "split": split, "dataset": known, "root": where}
        )
        if theirs is None:
            from sa_lab.data import prepare
            from sa_lab.evaluation import reference

            data = with_options(
                DataConfig(), dataset=dataset or "sysu", root=root, split=split, height=height, width=width
            )
            theirs = reference.embed_reference(source, prepare(data), _device(device), folder / "embeddings.npz")
        write_json(folder / "source.json", note)
        tested = theirs
        if not (folder / "embeddings.npz").is_file():
            tested.save(folder / "embeddings.npz", tested.embeddings.dtype.type)  # `report` measures their overlap
    own = protocols_of(tested.dataset, tested.split, tested.gallery_order is not None)
    can_be_kept = can_be_written(folder)
    for report in evaluate_all(tested, [PROTOCOLS[name] for name in protocol] or own, rerank=ranker):
        is_first = folder == source and report.protocol["name"] == own[0].name and not ranker
        reranked = "-reranked-" + "-".join(map(str, rerank)) if rerank else ""
        reranked += "-at_least" if rerank and rerank_expand == "at_least" else ""
        if can_be_kept:
            report.save(folder, "" if is_first else f"-{report.protocol['name']}{reranked}")
        say(f"{report.title}\n{tables.render(tables.retrieval({method or source.stem: [report]}))}\n")
    if can_be_kept:
        say(f"reports are in {folder}")
    else:
        tell(f"{folder} is read-only, so these reports are not saved; choose another folder with --out")


def _claimed(folder: Path, source: Path, of: dict[str, Any]) -> dict[str, Any]:
    """The note in ``folder`` of what is evaluated there, so that nothing else is written beside it.

    Raises:
        ValueError: the reports of something else are there.
    """
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    note = {**of, "sha256": digest}
    known = note | (read_json(folder / "source.json") if (folder / "source.json").is_file() else {})
    if changes := [f"{key} {known[key]} there, {note[key]} here" for key in note if known[key] != note[key]]:
        raise ValueError(f"{folder} holds another evaluation: {'; '.join(changes)}; choose another --method or --out")
    return note


def _labelled(embeddings: Embeddings, dataset: str | None, split: int | None) -> Embeddings:
    """Descriptors with the data set and split that the caller names.

    Raises:
        ValueError: they name others themselves.
    """
    for name, given, own in (("dataset", dataset, embeddings.dataset or None), ("split", split, embeddings.split)):
        if given is not None and own not in (None, given):
            raise ValueError(f"--{name} is {given}, but the descriptors name {own}")
    return replace(embeddings, dataset=dataset or embeddings.dataset, split=split or embeddings.split)


def embed(
    run: Annotated[Path, tyro.conf.Positional],
    out: Path,
    dataset: Dataset | None = None,
    root: str | None = None,
    split: int | None = None,
    part: Literal["all", "train", "test"] = "all",
    dtype: Literal["float16", "float32"] = "float16",
    device: Device = "auto",
    images: tuple[Path, ...] | None = None,
    modality: Literal["visible", "infrared"] | None = None,
) -> None:
    """Write descriptors of a data set, or of loose pictures, made with a run's network, at the run's image size.

    Args:
        run: folder of the run.
        out: the .npz file to write.
        dataset: which images; by default those of the run. The run's own images, wherever they lie, come with its
            prototypes; people with an image in the training cannot be tested on, whatever they are called.
        root: folder of the data set.
        split: which split of regdb.
        part: identities to embed.
        dtype: type of the numbers in the file.
        device: where to compute.
        images: files and folders of loose pictures in place of a data set; no identities are needed.
        modality: spectrum of all these pictures.
    """
    check_output(out, ".npz")
    kind = _types()[dtype]
    if images is None and modality is not None:
        raise ValueError(f"--modality is {modality}, expected --images beside it: a data set says which image is which")
    if images is not None:
        if modality is None or (dataset, root, split, part) != (None, None, None, "all"):
            raise ValueError("--images takes loose pictures, expected --modality with it, and no data set")
        if not images:
            raise ValueError("--images is empty, expected files or folders of pictures")
        from sa_lab.ranking import embed_pictures
        from sa_lab.schema import Modality

        found = embed_pictures(run, images, Modality[modality.upper()], out, kind)
        say(f"{len(found)} descriptors in {out}; it is unknown who they show, so they can be ranked but not evaluated")
        return
    import numpy as np

    from sa_lab import experiment
    from sa_lab.data import prepare
    from sa_lab.evaluation.embedding import embed as embed_images
    from sa_lab.runs import Run
    from sa_lab.schema import Embeddings
    from sa_lab.training.origins import namesakes, trained_people

    model, prototypes, train_ids = experiment.load_model(run)
    config = Run(run).config
    if dataset not in (None, config.data.dataset):
        split = split or 1  # that of the run is another data set's
    data = with_options(config.data, dataset=dataset, root=root, split=split)
    if dataset or root or split:
        span = experiment.thermal_range_of(run) if (run / "made_of.json").is_file() else None
        store = prepare(replace(data, thermal_range=data.thermal_range or span))  # one black and white for all it sees
    elif (run / "images.csv").is_file():  # nobody's other images, wherever the run says that its own are
        store = experiment.images_of(run, progress=True)
    else:
        raise ValueError(
            f"{run} does not say which images it was made of, expected --dataset, and --root where it has one"
        )
    own = store.digest == experiment.data_of(run)
    index = np.arange(len(store)) if part == "all" else np.flatnonzero(store.is_train == (part == "train"))
    tested = Embeddings.load(run / "embeddings.npz", mapped=True)
    numbered = data.dataset in LAYOUTS and tested.dataset == store.name  # the same people in any copy
    if data.dataset in ("folder", "roadscene") and not (run / "images.csv").is_file():
        raise ValueError(f"{run} was trained by an older release, which numbered people by position; train it again")
    known = []
    if (run / "images.csv").is_file():
        known.append(trained_people(run, store))
        namesakes(run, store, known[0])
    known += [tested.seen_ids] if tested.seen_ids is not None and (own or numbered) else []
    seen = np.unique(np.concatenate(known)) if known else None
    where = _device(device)
    embeddings = embed_images(
        model.to(where), store, index, where, prototypes if own else None, train_ids if own else None, seen, out=out,
        dtype=kind,
    )  # fmt: skip
    say(f"{len(embeddings)} descriptors in {out}")


def _types() -> dict[str, type]:
    """Types of numbers by name."""
    import numpy as np

    return {"float16": np.float16, "float32": np.float32}


_OF_TABLES = (".txt", ".md", ".tex", ".csv")


def report(runs: Annotated[list[Path], tyro.conf.Positional], style: Style = "html", out: Path | None = None) -> None:
    """Tables of runs beside published results, and a page on how far their spectra overlap: a minute or two per run.

    Runs are compared under every protocol they share; those that differ only in their split are averaged.

    Args:
        runs: folders of finished runs, or of evaluated descriptors.
        style: html prints the tables and writes them with cards and interactive figures on one page that opens offline;
            console, markdown, latex and csv are only tables.
        out: file to write; by default report.html for a page, no file for tables.
    """
    if not runs:
        raise ValueError("runs is empty, expected the folders of one or more runs")
    if out or style == "html":
        out = out or Path("report.html")
        check_output(out, *((".html", ".htm") if style == "html" else _OF_TABLES))
    from sa_lab.reporting import comparison
    from sa_lab.runs import measure_folder

    measure = cache(partial(measure_folder, progress=True))  # once for tables and page
    text = comparison.tables_of(runs, "console" if style == "html" else style, measure)
    say(text)
    if out and style == "html":
        from sa_lab.reporting import page

        page.write(runs, out, measure=measure)
        say(f"the page is {out}")
    elif out:
        write_text(out, text)


def compare(
    first: Annotated[Path, tyro.conf.Positional],
    second: Annotated[Path, tyro.conf.Positional],
    style: Style = "console",
) -> None:
    """Is the difference between two runs noise? Paired by query: second minus first, 95 % interval, randomisation test.

    Args:
        first: folder of a run or of evaluated descriptors.
        second: another one, evaluated on the same images.
        style: style of the tables.
    """
    from sa_lab.evaluation import paired
    from sa_lab.reporting import tables

    for before, after in paired.pairs(first, second):
        say(f"{before.title}\n{tables.render(tables.differences(paired.differences(before, after)), style)}\n")


def _device(name: Device) -> torch.device:
    from sa_lab.training.processes import fabric_of

    return fabric_of(TrainConfig(device=name, threads=0)).device
