"""One page on some runs that opens offline: cards, tables, and figures with the images of their points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from tqdm.auto import tqdm

from sa_lab import analysis, cards, comparison, markup, overlap, plots, tables
from sa_lab.analysis import DEFINITIONS
from sa_lab.data import prepare
from sa_lab.data.store import ImageStore
from sa_lab.disk import write_text
from sa_lab.experiment import Run
from sa_lab.plots import Atlas
from sa_lab.schema import DataError, Embeddings

_MOST = 5000
"""Images in an interactive figure at most; those of the first persons."""


def write(folders: Sequence[Path], out: Path, seed: int = 0, progress: bool = True) -> None:
    """Cards, tables and interactive figures as one page that needs no other file and no network.

    Args:
        folders: of runs, or of evaluated descriptors.
        out: the page.
        seed: of projections and pairs.
        progress: show bars.

    Raises:
        ValueError: a folder is given twice.
        FileNotFoundError: a folder without descriptors.
    """
    named = cards.names_of(folders)
    for folder in folders:
        if not (folder / overlap.FILES["unseen"]).is_file():
            raise FileNotFoundError(f"{folder} has no {overlap.FILES['unseen']}; expected a finished run")
    parts = ["# Overlap of the spectra", comparison.compare(folders), "## At one glance"]
    body = [_text("\n\n".join(parts))]
    names = list(named)
    for start in range(0, len(names), plots.MOST_RUNS):
        some = {name: named[name] for name in names[start : start + plots.MOST_RUNS]}
        body.append(_figure(cards.card(some, seed=seed, progress=progress)))
    for people, title in cards.PEOPLE.items():
        if rows := cards.measure_table(named, people, progress):
            body.append(_text(f"## Measures of {title}\n\n{tables.render(rows, 'markdown')}"))
    body.append(_text("What each measure says:\n\n" + "\n".join(
        f"- **{one.title}** ({one.range}, {one.better} is better): {one.meaning}" for one in DEFINITIONS.values()
    )))  # fmt: skip
    for name, folder in tqdm(named.items(), "figures", unit="run", disable=not progress):
        body += [_text(f"## {escape(name)}"), *_figures_of(folder, seed)]
    style = (resources.files("sa_lab") / "site.css").read_text() + "main { max-width: 70rem; margin: 0 auto }"
    head = f"<style>{style}</style>\n<script>{get_plotlyjs()}</script>"
    main = "\n".join(body)
    write_text(out, markup.document("Overlap of the spectra", head, f"<main>\n{main}\n</main>"))


def _figures_of(folder: Path, seed: int) -> Iterator[str]:
    """What can be drawn of one folder: people in the plane, with their images; prototypes; similarities; parts; the
    training."""
    unseen = Embeddings.load(folder / overlap.FILES["unseen"], mapped=True)
    found: dict[str, Embeddings] = {"unseen": unseen}
    trained = folder / overlap.FILES["training"]
    if trained.is_file():
        found["training"] = Embeddings.load(trained)
    store = _images(folder)
    if store is None:
        yield _text("The images are not where the run's config says, so that points have no thumbnails.")
    for people, embeddings in found.items():
        drawn = overlap.picture(embeddings, _people_within(embeddings, _MOST), seed)
        yield from _map(drawn, people, store)
    if "training" in found and found["training"].prototypes is not None:
        yield from _prototypes(found["training"])
    pairs = cards.pairs(unseen, seed)
    yield _figure(plots.histograms(pairs, title="Similarities of pairs of unseen people", x_title="cosine, -1..1"))
    yield _text(f"Part by part, from the top, {cards.PEOPLE['unseen']}:\n\n" + tables.render([
        {"part": part, **{DEFINITIONS[key].title: cards.interval(one.get(key)) for key in overlap.QUICK}}
        for part, one in overlap.by_part(unseen).items()
    ], "markdown"))  # fmt: skip
    if (folder / "probes").is_dir():
        yield from _training(Run(folder), store, seed)


def _map(drawn: overlap.Picture, people: str, store: ImageStore | None) -> Iterator[str]:
    these, where = drawn.embeddings, drawn.projection
    colourings = {"modality": None, "identity": None, "camera": these.camera_ids.astype(str)}
    if people == "unseen":
        colourings["first match"] = cards.first_match(these)
    figures = {
        name: plots.projection(
            where.samples, these.person_ids, these.modality, prototypes=where.prototypes,
            prototype_ids=these.prototype_ids, colour_by=name, values=values,
            title=f"{len(these)} images of {len(np.unique(these.person_ids))} {cards.PEOPLE[people]} ({where.caption})",
        )
        for name, values in colourings.items()
        if values is None or len(np.unique(values)) <= plots.MOST_CATEGORIES
    }  # fmt: skip
    yield _figure(plots.with_choice(figures), cards.atlas_of(these, store))
    yield _text(where.caution)


def _prototypes(trained: Embeddings) -> Iterator[str]:
    assert trained.prototypes is not None
    assert trained.prototype_ids is not None
    some = overlap.picture(trained, 24, method="pca").embeddings
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
    known = {name: one for name, (_, one) in columns.items() if any(np.isfinite(v).any() for v in one.values())}
    yield _figure(plots.over_training(steps, known, {key: DEFINITIONS[key].title for key in overlap.QUICK}))
    moments = overlap.pictures_along(run, seed=seed)
    first, last = next(iter(moments.values())), list(moments.values())[-1]
    yield _figure(
        cards.film_of(moments, f"People trained on, step 0 to {list(moments)[-1]} (aligned {last.projection.caption})"),
        cards.atlas_of(first.embeddings, store),
    )


def _images(folder: Path) -> ImageStore | None:
    """The images that a run was made of, if they are still there."""
    if not (folder / "config.json").is_file():
        return None
    try:
        return prepare(Run(folder).config.data, progress=False)
    except (DataError, OSError):
        return None


def _people_within(embeddings: Embeddings, most: int) -> int:
    counts = np.unique(embeddings.person_ids, return_counts=True)[1]
    return max(1, int((counts.cumsum() <= most).sum()))


def _text(markdown: str) -> str:
    return f'<section class="text">{markup.markdown(markdown, "report")}</section>'


def _figure(figure: go.Figure, pictures: Atlas | None = None) -> str:
    if pictures is not None:
        return plots.page(figure, pictures)
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=plots.CONFIG, auto_play=False))
