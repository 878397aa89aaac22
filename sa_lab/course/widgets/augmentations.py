"""One image under the augmentations, drawn anew at a press."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import torch

from sa_lab import transforms
from sa_lab.course import figures
from sa_lab.course.widgets.controls import Dial, Panel, button, choice
from sa_lab.course.widgets.live_figure import LiveFigure
from sa_lab.data.store import ImageStore

RECIPES = ("channel_mix", "light", "random_linear", "none")
DRAWS = 7


class Augmentations(Panel):
    """A person in both spectra, and what a recipe makes of each image in several draws.

    Args:
        store: the images.

    Attributes:
        figure: the live figure: one row per spectrum, the original first.
    """

    def __init__(self, store: ImageStore) -> None:
        self.store = store
        train = np.flatnonzero(store.is_train)
        self._pairs = [
            [train[(store.person_ids[train] == person) & (store.modality[train] == m)][0] for m in (0, 1)]
            for person in np.unique(store.person_ids[train])
        ]
        self.recipe = choice("recipe", list(RECIPES), "what is done to an image")
        self.person = Dial("person", 1, 1, len(self._pairs), 1, "which of the training people")
        self.draw = Dial("draw", 0, 0, 999, 1, "seed of the random numbers")
        self.figure = LiveFigure(self._drawn(), least=600)
        for control in (self.recipe, self.person, self.draw):
            control.observe(lambda _: self.figure.show(self._drawn()), "value")
        again = button("Draw again", "the next random numbers", self.again, "random")
        super().__init__([self.figure], [again, self.recipe, self.person, self.draw])

    def again(self) -> None:
        """The next draw."""
        self.draw.value = (self.draw.value + 1) % 1000

    def _drawn(self) -> go.Figure:
        rows = np.repeat(self._pairs[self.person.value - 1], DRAWS)
        pixels = self.store.gather(torch.from_numpy(rows))
        generator = torch.Generator().manual_seed(self.draw.value)
        kinds = torch.from_numpy(np.asarray(self.store.modality[rows], dtype=np.int64))
        changed = transforms.augment(pixels, kinds, self.recipe.value, generator).clamp(0, 1)
        images = torch.cat([pixels.float().div(255).view(2, DRAWS, *pixels.shape[1:])[:, :1],
                            changed.view(2, DRAWS, *pixels.shape[1:])], 1).flatten(0, 1)  # fmt: skip
        draws = [*map(str, range(1, DRAWS + 1))]
        captions = ["visible,<br>original", *draws, "infrared,<br>original", *draws]
        title = f"{self.recipe.value}: the original at the left, then {DRAWS} draws"
        return figures.image_grid((images * 255).byte().numpy(), captions, title=title, columns=DRAWS + 1)
