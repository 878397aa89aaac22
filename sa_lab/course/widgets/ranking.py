"""The ranking browser: what a run finds for a query, beside what another run finds."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import plotly.graph_objects as go
import torch

from sa_lab.config import DataConfig, Dataset
from sa_lab.course import figures
from sa_lab.course.widgets.controls import Dial, Panel, choice
from sa_lab.course.widgets.live_figure import LiveFigure
from sa_lab.data import prepare
from sa_lab.data.store import ImageStore
from sa_lab.evaluation import search
from sa_lab.evaluation.protocols import PROTOCOLS, protocols_of
from sa_lab.evaluation.search import Search
from sa_lab.experiment import images_of
from sa_lab.runs import source_of
from sa_lab.schema import Embeddings

EVERY = "every camera"
OUTCOMES = ("every query", "first answer is somebody else", "first answer is right")


class RankingBrowser(Panel):
    """Choose a query and see the gallery as one run, or two, rank it.

    Frames: solid with a tick for the right person, dashed with a cross for a wrong one. It shows the first trial of the
    protocol.

    Args:
        runs: folders of one or two finished runs, or of evaluated descriptors, on the same test images, by the name
            they are shown with.
        store: their images; by default those of the first run, or those that the descriptors were evaluated on.
        most: images shown of each ranking.

    Attributes:
        queries: (Q,) rows of the similarity matrix that the filters leave.
        figure: the live figure.

    Raises:
        ValueError: no run, more than two, runs on different images, or descriptors whose images are unknown.
    """

    def __init__(self, runs: Mapping[str, Path], store: ImageStore | None = None, most: int = 10) -> None:
        if not 1 <= len(runs) <= 2:
            raise ValueError(f"runs has {len(runs)} entries, expected one or two")
        folders = {name: Path(folder) for name, folder in runs.items()}
        self.found = {name: Embeddings.load(one / "embeddings.npz", mapped=True) for name, one in folders.items()}
        first = next(iter(self.found.values()))
        self.found = {name: _in_order(one, first.paths) for name, one in self.found.items()}
        if any(other.paths != first.paths for other in self.found.values()):
            raise ValueError(f"runs {', '.join(runs)} were tested on different images, expected the same")
        self.most, self._lock, self._offering = most, threading.RLock(), False
        self.store = store or _images(list(folders.values()))
        self._rows = self.store.find(first.paths)
        self._search = lru_cache(maxsize=8)(self._searched)
        rules = protocols_of(first.dataset, first.split, first.gallery_order is not None)
        self.protocol = choice("protocol", [rule.name for rule in rules], "who asks, and what is searched")
        self.query_camera = choice("query camera", [EVERY], "only queries of this camera")
        self.gallery_camera = choice("gallery camera", [EVERY], "only images of this camera in the ranking")
        self._offer()
        names = list(runs)
        between = [f"right in {a} alone" for a in names] if len(names) == 2 else []
        self.outcome = choice("show", [*OUTCOMES, *between], f"which queries; the first two ask {names[0]}")
        self.query = Dial("query", 1, 1, 1, 1, "which of the queries that the filters leave")
        self.queries = np.zeros(0, dtype=np.int64)
        self._filter()
        self.figure = LiveFigure(self._draw(), least=600)
        self.protocol.observe(lambda _: self._take_protocol(), "value")
        for control in (self.query_camera, self.gallery_camera, self.outcome):
            control.observe(lambda _: self._refilter(), "value")
        self.query.observe(lambda _: self.show(), "value")
        super().__init__(
            [self.figure], [self.query, self.outcome, self.protocol, self.query_camera, self.gallery_camera]
        )

    def show(self) -> None:
        """Draw the chosen query."""
        with self._lock:
            self.figure.show(self._draw())

    def _searched(self, protocol: str, camera: str) -> dict[str, Search]:
        found = {name: search.search(one, PROTOCOLS[protocol]) for name, one in self.found.items()}
        if camera == EVERY:
            return found
        first = next(iter(self.found.values()))
        return {name: one.within(first.camera_ids[one.gallery] == int(camera)) for name, one in found.items()}

    def _offer(self) -> None:
        """Only cameras that ask under the protocol, and only those that are searched, can be chosen."""
        cameras = next(iter(self.found.values())).camera_ids
        one = next(iter(self._search(self.protocol.value, EVERY).values()))
        for control, images in ((self.query_camera, one.query), (self.gallery_camera, one.gallery)):
            chosen, offered = control.value, (EVERY, *map(str, np.unique(cameras[images])))
            if control.options != offered:  # else the camera would be chosen anew
                control.options = offered
                control.value = chosen if chosen in offered else EVERY

    def _take_protocol(self) -> None:
        with self._lock:
            self._offering = True  # what is chosen meanwhile is drawn once, in the end
            self._offer()
            self._offering = False
            self._refilter()

    def _filter(self) -> None:
        first = next(iter(self.found.values()))
        found = self._search(self.protocol.value, self.gallery_camera.value)
        one = next(iter(found.values()))
        keep = np.ones(len(one.query), dtype=bool)
        if self.query_camera.value != EVERY:
            keep &= first.camera_ids[one.query] == int(self.query_camera.value)
        right = [search.first_is_right(first.person_ids) for search in found.values()]
        if self.outcome.value == OUTCOMES[1]:
            keep &= ~right[0]
        elif self.outcome.value == OUTCOMES[2]:
            keep &= right[0]
        elif self.outcome.value != OUTCOMES[0]:
            winner = self.outcome.options.index(self.outcome.value) - len(OUTCOMES)
            keep &= right[winner] & ~right[1 - winner]
        self.queries = np.flatnonzero(keep)
        self.query.limit(max(1, len(self.queries)))

    def _refilter(self) -> None:
        with self._lock:
            if self._offering:
                return
            self._filter()
            self.show()

    def _draw(self) -> go.Figure:
        first = next(iter(self.found.values()))
        found = self._search(self.protocol.value, self.gallery_camera.value)
        width, title = self.most + 1, "No query fits these filters"
        images, captions = np.full((len(found), width), -1), np.full((len(found), width), "", dtype=object)
        right = np.full((len(found), width), None)
        if len(self.queries):
            row = int(self.queries[self.query.value - 1])
            for i, (name, search) in enumerate(found.items()):
                asked, best = search.query[row], search.best(row, self.most)
                shown = np.array([asked, *best])
                person, camera = first.person_ids[shown], first.camera_ids[shown]
                images[i, : len(shown)], right[i, 1 : len(shown)] = shown, (person[1:] == person[0]).tolist()
                marks = [f"<b>{name}</b>", *("✓" if one else "✗" for one in right[i, 1 : len(shown)])]
                captions[i, : len(shown)] = [
                    f"{mark}{' ' if k else '<br>'}id {person[k]}{'<br>' if k else ', '}cam {camera[k]}"
                    for k, mark in enumerate(marks)
                ]
            title = f"Query {self.query.value} of {len(self.queries)}: identity {person[0]} and what is found first"
        pixels = self.store.gather(torch.from_numpy(self._rows[images.ravel()])).numpy().copy()
        pixels[images.ravel() < 0] = 255
        return figures.image_grid(
            pixels, captions.ravel().tolist(), title=title, columns=width, right=right.ravel().tolist()
        )


def _in_order(embeddings: Embeddings, paths: tuple[str, ...]) -> Embeddings:
    """The same descriptors in the order of ``paths``, if they are of these images."""
    if embeddings.paths == paths or sorted(embeddings.paths) != sorted(paths):
        return embeddings
    place = {path: row for row, path in enumerate(embeddings.paths)}
    return embeddings.subset(np.array([place[path] for path in paths]))


def _images(folders: Sequence[Path]) -> ImageStore:
    """Those of the first run, or else those that descriptors were evaluated on."""
    if trained := [folder for folder in folders if not source_of(folder)]:
        return images_of(trained[0])
    source: dict[str, Any] = source_of(folders[0])
    dataset, root, split = (source[key] for key in ("dataset", "root", "split"))
    name: Any = str(dataset or "").removeprefix("synthetic-").removesuffix("-generated")
    if name not in get_args(Dataset) or (root is None and name not in ("synthetic", "thermal")):
        raise ValueError(
            f"{folders[0]} does not say where the images of {dataset or 'its data set'} are; expected descriptors that "
            "were evaluated with --dataset and --root, or a run on the same images first"
        )
    return prepare(DataConfig(dataset=name, root=root, **({"split": split} if split else {})))
