"""One page on some runs that opens offline: cards, tables, and figures with the images of their points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from tqdm.auto import tqdm

from sa_lab import analysis, plots
from sa_lab.analysis import DEFINITIONS
from sa_lab.analysis.descriptors import QUICK, picture, some_people
from sa_lab.data.store import ImageStore
from sa_lab.disk import DamagedFileError, write_text
from sa_lab.experiment import images_of
from sa_lab.plots import Atlas
from sa_lab.reporting import cards, comparison, overlap, tables
from sa_lab.runs import PEOPLE_FILES, Measuring, Run, measure_folder
from sa_lab.schema import DataError, Embeddings

_MOST = 5000
"""Images in an interactive figure at most; those of the first persons."""
_OF_PARTS = {"unseen": QUICK[:2], "training": (*QUICK, "cross_similarity", "cross_margin")}
_ABOUT = (
    "How far the visible and the infrared images of a person come together, by run: who is found (under each protocol, "
    "in full), a card at one glance, all measures with intervals, and for each run where its images lie, with their "
    "thumbnails, its prototypes, and how people moved while it trained."
)
_READING = (
    "Brackets: 95 % intervals, bootstrap over the people, for one training each. The two tables show different "
    "people, and different numbers of them: compare along a row, not between the tables. With more than 3,000 "
    "images, probe, neighbours and silhouettes are taken in 512 directions, which tightens them. A probe at 1.00 "
    "says that the spectra can be told apart, not how far apart they are."
)


def write(
    folders: Sequence[Path], out: Path, seed: int = 0, progress: bool = True, measure: Measuring | None = None
) -> None:
    """Cards, tables and interactive figures as one page that needs no other file and no network.

    Args:
        folders: of runs, or of evaluated descriptors.
        out: the page.
        seed: of projections and pairs.
        progress: show bars.
        measure: gives the overlap of a folder, where somebody has it.

    Raises:
        ValueError: a folder is given twice.
        FileNotFoundError: a folder without descriptors.
    """
    named = cards.names_of(folders)
    for folder in folders:
        if not (folder / PEOPLE_FILES["unseen"]).is_file():
            raise FileNotFoundError(f"{folder} has no {PEOPLE_FILES['unseen']}; expected a finished run")
    measure = measure or cache(partial(measure_folder, progress=progress))
    tables_of_all = comparison.tables_of(folders, "html", measure)
    body = ["<h1>Overlap of the spectra</h1>", _text(_ABOUT), tables_of_all, "<h2>At one glance</h2>"]
    names = list(named)
    for start in range(0, len(names), plots.MOST_RUNS):
        some = {name: named[name] for name in names[start : start + plots.MOST_RUNS]}
        try:
            body += [_figure(cards.card(some, seed=seed, measure=measure)), _text(analysis.CAUTION["umap"])]
        except ValueError as error:  # a handful of images
            body.append(_text(f"No card of {', '.join(some)}: {error}."))
    for people, title in cards.PEOPLE.items():
        if rows := cards.measure_table(named, people, measure=measure):
            body += [f"<h2>Measures of {title}</h2>", tables.render(rows, "html")]
    body.append(_text(_READING))
    body.append("<ul>" + "".join(
        f"<li><b>{escape(known.title)}</b> ({known.range}, {known.better} is better): {escape(known.meaning)}</li>"
        for known in DEFINITIONS.values()
    ) + "</ul>")  # fmt: skip
    for name, folder in tqdm(named.items(), "figures", unit="run", disable=not progress):
        body += [f"<h2>{escape(name)}</h2>", *_figures_of(folder, seed)]
    write_text(out, with_figures("Overlap of the spectra", body))


def with_figures(title: str, body: Sequence[str]) -> str:
    """A whole page whose parts may be figures of plotly; it needs no other file and no network."""
    style = (resources.files(__package__) / "page.css").read_text(
        encoding="utf-8"
    ) + "main { max-width: 70rem; margin: 0 auto }"
    head = f"<style>{style}</style>\n<script>{get_plotlyjs()}</script>"
    main = "\n".join(body)
    return document(title, head, f"<main>\n{main}\n</main>")


def document(title: str, head: str, body: str, scripts: str = "") -> str:
    """A whole page; ``head``: its style, ``scripts``: what stands at its end."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n{head}\n</head>\n'
        f"<body>\n{body}\n{scripts}</body>\n</html>"
    )


def _figures_of(folder: Path, seed: int) -> Iterator[str]:
    """What can be drawn of one folder: people in the plane, with their images; prototypes; similarities; parts; the
    training."""
    unseen = Embeddings.load(folder / PEOPLE_FILES["unseen"], mapped=True)
    by_people: dict[str, Embeddings] = {"unseen": unseen}
    trained = folder / PEOPLE_FILES["training"]
    if trained.is_file():
        by_people["training"] = Embeddings.load(trained)
    store = _images(folder)
    if store is None:
        yield _text("Points have no thumbnails: these descriptors have no images, or the images have moved.")
    for people, embeddings in by_people.items():
        yield from _map(embeddings, people, store, seed)
    if "training" in by_people and by_people["training"].prototypes is not None:
        yield from _prototypes(by_people["training"])
    if pairs := cards.pairs(unseen, seed):
        yield _figure(plots.histograms(pairs, title="Similarities of pairs of unseen people", x_title="cosine, -1..1"))
    for people, embeddings in by_people.items():
        yield _text(f"Part by part, from the top, {cards.PEOPLE[people]}:")
        yield tables.render(_parts(embeddings, _OF_PARTS[people]), "html")
    if (folder / "probes").is_dir():
        yield from _training(Run(folder), store, seed)


def _parts(embeddings: Embeddings, only: Sequence[str]) -> list[tables.TableRow]:
    parts = overlap.by_part(embeddings, only).items()
    return [
        {"part": part, **{DEFINITIONS[key].title: tables.interval(row.get(key)) for key in only}} for part, row in parts
    ]


def _map(embeddings: Embeddings, people: str, store: ImageStore | None, seed: int) -> Iterator[str]:
    """Where the images lie by UMAP, with their thumbnails, and by PCA."""
    count = _people_within(embeddings, _MOST)
    try:
        drawn = {way: picture(embeddings, count, seed, method=way) for way in ("umap", "pca")}
    except ValueError as error:  # a handful of images
        yield _text(f"No map of {cards.PEOPLE[people]}: {error}.")
        return
    these = drawn["umap"].embeddings
    colourings: dict[str, np.ndarray | None] = {"modality": None, "identity": None}
    colourings["camera"] = these.camera_ids.astype(str)
    if people == "unseen":
        words = dict(zip(embeddings.paths, cards.first_match(embeddings), strict=True))
        colourings["first match"] = np.array([words[path] for path in these.paths])
    pictures = cards.atlas_of(these, store)
    for drawing in drawn.values():
        where = drawing.projection
        figures = {
            name: plots.projection(
                where.samples, these.person_ids, these.modality, prototypes=where.prototypes,
                prototype_ids=these.prototype_ids, colour_by=name, values=values,
                title=f"{len(these)} images of {count} {cards.PEOPLE[people]} ({where.caption})",
            )
            for name, values in colourings.items()
            if values is None or len(np.unique(values)) <= plots.MOST_CATEGORIES
        }  # fmt: skip
        if count > plots.MOST_CATEGORIES:
            figures["identity (ten colours, repeated)"] = figures.pop("identity")
        yield _figure(plots.with_choice(figures), pictures)
        yield _text(where.caution)


def _prototypes(trained: Embeddings) -> Iterator[str]:
    assert trained.prototypes is not None
    assert trained.prototype_ids is not None
    some = some_people(trained, np.unique(trained.person_ids)[:24])
    assert some.prototypes is not None
    assert some.prototype_ids is not None
    count = len(some.prototype_ids)
    yield _figure(plots.heat_map(
        analysis.prototype_cosines(some.prototypes), some.prototype_ids,
        title=f"Cosines of the prototypes of {count} people trained on, mean over parts",
    ))  # fmt: skip
    aligned = analysis.prototype_alignment(trained.prototypes).mean(axis=0)
    yield _figure(plots.histograms(
        {"visible and infrared prototype": aligned}, title=f"Alignment of the two prototypes of {len(aligned)} people",
        x_title="cosine, -1..1", num_bins=40,
    ))  # fmt: skip


def _training(run: Run, store: ImageStore | None, seed: int) -> Iterator[str]:
    columns = {title: overlap.along(run, people) for people, title in cards.PEOPLE.items()}
    steps, _ = columns[next(iter(columns))]
    known = {name: lines for name, (_, lines) in columns.items() if any(np.isfinite(v).any() for v in lines.values())}
    yield _figure(plots.over_training(steps, known, {key: DEFINITIONS[key].title for key in QUICK}))
    moments = overlap.pictures_along(run, seed=seed)
    first = next(iter(moments.values())).embeddings
    title = f"{len(np.unique(first.person_ids))} people trained on, from step 0 to {list(moments)[-1]}"
    yield _figure(cards.film_of(moments, title), cards.atlas_of(first, store))
    yield _text(analysis.CAUTION["umap"])


def _images(folder: Path) -> ImageStore | None:
    """The images that a run was made of, if they are still there and the same."""
    if not (folder / "config.json").is_file():
        return None
    try:
        return images_of(folder)
    except (DataError, DamagedFileError, OSError):
        return None


def _people_within(embeddings: Embeddings, most: int) -> int:
    counts = np.unique(embeddings.person_ids, return_counts=True)[1]
    return max(1, int((counts.cumsum() <= most).sum()))


def _text(words: str) -> str:
    return f'<section class="text"><p>{escape(words)}</p></section>'


def _figure(figure: go.Figure, pictures: Atlas | None = None) -> str:
    if pictures is not None:
        return plots.page(figure, pictures)
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=plots.CONFIG, auto_play=False))
