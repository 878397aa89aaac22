"""The picture search: upload or pick a picture, see who comes back, and why."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import ipywidgets
import numpy as np
from jaxtyping import UInt8

from sa_lab import plots, ranking
from sa_lab.course.widgets.controls import Dial, Panel, choice
from sa_lab.disk import Refusal
from sa_lab.plots import COLOURS
from sa_lab.ranking import Pictures, Ranking
from sa_lab.reporting import ranks
from sa_lab.runs import Run
from sa_lab.schema import Modality

SPECTRA = {"infrared among visible": Modality.INFRARED, "visible among infrared": Modality.VISIBLE}
"""What is asked and what is searched, by the spectrum of the question."""

_RIGHT, _WRONG = (" ✓", f"3px solid {COLOURS[3]}"), (" ✗", f"3px dashed {COLOURS[1]}")


class PictureSearch(Panel):
    """Query with a run's test image or your own picture; the run's test images of the other spectrum are ranked.

    Args:
        runs: folders of finished runs by the name they are shown with.
        most: images that come back.

    Attributes:
        found: the last ranking.
        shown: HTML of the images found, and of where the similarity to the chosen one lies.

    Raises:
        ValueError: no run.
    """

    def __init__(self, runs: Mapping[str, Path], most: int = 8) -> None:
        if not runs:
            raise ValueError("runs is empty, expected the folder of a finished run by name")
        self._runs = {name: Run(Path(one)) for name, one in runs.items()}
        self.most, self._lock = most, threading.RLock()
        self._tested: dict[tuple[str, Modality], Pictures] = {}
        self.run = choice("network", list(runs), "whose descriptors are compared")
        self.spectra = choice("look for", list(SPECTRA), "spectrum of the query, and of what is searched")
        self.query = Dial("test image", 1, 1, 1, 1, "which test image is the query, while no picture is uploaded")
        self.place = Dial("explain place", 1, 1, most, 1, "which of the images found is compared below")
        self.upload = ipywidgets.FileUpload(
            accept="image/*", multiple=False, description="Your picture", tooltip="search with a picture of a person"
        )
        self.clear = ipywidgets.Button(description="Test images", tooltip="use test images again", disabled=True)
        self.told = ipywidgets.HTML()
        self._own: Pictures | None = None
        self._limit()
        self.found = self._ranked()
        self.shown = ipywidgets.HTML(self._strip() + self._explained())
        for control in (self.run, self.spectra):
            control.observe(lambda _: self._changed(), "value")
        self.query.observe(lambda _: self.show(), "value")
        self.place.observe(lambda _: self._explain(), "value")
        self.upload.observe(lambda _: self._changed(), "value")
        self.clear.on_click(lambda _: self._forget())
        super().__init__(
            [self.shown], [self.query, self.place, self.run, self.spectra, self.upload, self.clear, self.told]
        )

    def show(self) -> None:
        """Ask again, and draw what comes back."""
        with self._lock:
            self.found = self._ranked()
            self._explain()

    def _explain(self) -> None:
        with self._lock:
            self.shown.value = self._strip() + self._explained()

    def _changed(self) -> None:
        with self._lock:
            self._read()
            self._limit()
            self.show()

    def _forget(self) -> None:
        with self._lock:
            if self.upload.value:
                self.upload.value = ()
            else:  # what was uploaded could not be read
                self._changed()

    def _read(self) -> None:
        """Describe the picture that was uploaded; one that cannot be read is told, and test images ask."""
        self._own, self.told.value, self.clear.disabled = None, "", not self.upload.value
        if not self.upload.value:
            return
        one, self.told.value = self.upload.value[0], "Your picture is described ..."
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(one["name"]).name
            file.write_bytes(bytes(one["content"]))
            try:
                self._own = ranking.pictures(self._run.folder, [file], SPECTRA[self.spectra.value], progress=False)
                self.told.value = ""
            except (ValueError, OSError, Refusal) as error:
                self.upload.value, self.clear.disabled = (), False  # its button counts pictures
                self.told.value = escape(str(error).replace(f"{folder}/", ""))

    @property
    def _run(self) -> Run:
        return self._runs[self.run.value]

    def _of(self, modality: Modality) -> Pictures:
        key = (self.run.value, modality)
        if key not in self._tested:
            self._tested[key] = ranking.tested(self._run, modality)
        return self._tested[key]

    def _limit(self) -> None:
        count = 1 if self._own else len(self._of(SPECTRA[self.spectra.value]).embeddings.paths)
        if count != self.query.slider.max:  # else another network is asked for the same image
            self.query.limit(count)

    def _ranked(self) -> Ranking:
        asked = SPECTRA[self.spectra.value]
        query = self._own
        if query is None:
            tested = self._of(asked)
            query = Pictures(tested.store, tested.embeddings.subset(np.array([self.query.value - 1])))
        return ranking.ranked(self._run, query, self._of(asked.other), self.most)

    def _strip(self) -> str:
        """Who asks and who comes back, in a row; a frame says right (solid, a tick) or wrong (dashed, a cross)."""
        found = self.found
        person = None if self._own else found.query.embeddings.person_ids[0]
        shown = [_figure(found.query.image(0), "<b>query</b>")]
        for place, row in enumerate(found.best[0]):
            answer, mark, frame = found.gallery.embeddings.person_ids[row], "", ""
            if person is not None:
                mark, frame = _RIGHT if answer == person else _WRONG
            told = f"{place + 1}: {found.similarity[0, place]:.3f}{mark}<br>id {answer}"
            shown.append(_figure(found.gallery.image(int(row)), told, frame))
        who = "your picture" if self._own else f"identity {person}"
        return f"<h4>Found for {who}: place, similarity, identity</h4>{_row(shown)}"

    def _explained(self) -> str:
        """Where the similarity to the chosen place lies, and what each part adds, exactly."""
        place = min(self.place.value, self.found.best.shape[1]) - 1
        why, similar = self.found.why(0, place), self.found.similarity[0, place]
        pairs = zip(why.images, why.shares, ("query", f"place {place + 1}"), strict=True)
        shown = [
            figure
            for pixels, shares, name in pairs
            for figure in (_figure(pixels, name), _figure(plots.painted(pixels, shares), "place by place"))
        ]
        parts = "".join(f"<li>part {part + 1}: {share:+.3f}</li>" for part, share in enumerate(why.parts))
        title = f"Why place {place + 1} has the similarity {similar:.3f}: red adds, blue takes away"
        return f"<h4>{title}</h4>{_row([*shown, f'<ul>{parts}</ul>'])}"


def _row(shown: Sequence[str]) -> str:
    return f'<div style="display: flex; flex-wrap: wrap; gap: 8px">{"".join(shown)}</div>'


def _figure(pixels: UInt8[np.ndarray, "3 H W"], caption: str, frame: str = "") -> str:
    """A picture with a caption; ``frame``: CSS of its border."""
    style = f"border: {frame or '3px solid transparent'}; display: block"
    picture = ranks.tag(pixels, re.sub("<[^>]*>", " ", caption), style)
    return f'<figure style="margin: 0">{picture}<figcaption>{caption}</figcaption></figure>'
