"""What a reader predicts before a figure, beside the result; kept in the home folder. Nothing leaves the machine."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import SupportsIndex

import ipywidgets
from IPython.display import Markdown, display, update_display

from sa_lab.course import CHOICE, STYLE, progress
from sa_lab.disk import home


class Prediction(ipywidgets.VBox):
    """Buttons, one for each answer. Once one is chosen and `came` has told the answer, the choice stands; one that is
    chosen after that is told as late.

    A front end that cannot show buttons shows the answers as text.

    Args:
        number: chapter and place in it, as "01.2".
        choices: the answers, at least two.
    """

    def __init__(self, number: str, choices: tuple[str, ...]) -> None:
        self.number, self.choices, self.came = number, choices, ""
        kept = progress.kept(place())
        noted, self.late = kept.get(number), bool(kept.get(self._late))
        self.buttons = ipywidgets.ToggleButtons(
            options=choices, value=noted if noted in choices else None, style={"button_width": "auto"}
        )
        self.line = ipywidgets.HTML()
        self.buttons.observe(self._choose, names="value")
        super().__init__([ipywidgets.HTML(STYLE, layout={"display": "none"}), self.buttons, self.line])
        self._tell()

    @property
    def _late(self) -> str:
        """What is kept beside an answer that was chosen when it was known already."""
        return f"{self.number} late"

    @property
    def chosen(self) -> str:
        """The reader's answer; empty as long as there is none."""
        return str(self.buttons.value or "")

    def settle(self, answer: str, exactly: str) -> str:
        """Markdown: the reader's answer and the right one."""
        self.came = f"{answer} ({exactly})" if exactly else answer
        self._tell()
        if not self.chosen:  # folded, so that the question comes first
            return f"<details><summary>Result</summary>\n\n{self.came}.\n\n</details>"
        if self.chosen == answer and not self.late:
            return f"**As you predicted:** {self.came}."
        return f"{self._verb}: {self.chosen}. **Result:** {self.came}."

    @property
    def _verb(self) -> str:
        return "You chose after seeing it" if self.late else "You predicted"

    def _choose(self, _: object) -> None:
        progress.keep(place(), self.number, self.chosen)
        if bool(self.came) != self.late:  # in a kernel that has not shown the result yet, the reader predicts again
            self.late = bool(self.came)
            progress.keep(place(), self._late, "yes" if self.late else "")
        self._tell()
        chapter = self.number.split(".")[0]
        if chapter in _SHOWN:  # also where all cells have been run before the reader chose
            update_display(_shown(_rows(chapter)), display_id=_display_id(chapter))  # type: ignore[no-untyped-call]

    def _tell(self) -> None:
        self.buttons.disabled = bool(self.chosen and self.came)
        text = "Choose one, or press Shift+Enter to skip."
        if self.chosen:
            again = "Choose another answer, or run on" if self.late else "Run on to see the result"
            came = f"Result: <b>{escape(self.came)}</b>." if self.came else f"{again}."
            text = f"{self._verb}: <b>{escape(self.chosen)}</b>. {came}"
        self.line.value = text

    def __repr__(self) -> str:
        return CHOICE + f"   {CHOICE}".join(self.choices)


_ASKED: dict[str, Prediction] = {}


def place() -> Path:
    """The file; remove it to begin anew."""
    return home() / "predictions.json"


def ask(number: str, *choices: str) -> Prediction:
    """Offer answers to the question of a "Predict" in the text above; see `Prediction`.

    Raises:
        ValueError: fewer than two answers.
    """
    if len(set(choices)) < 2:
        raise ValueError(f"choices is {choices}, expected at least two different ones")
    _ASKED[number] = Prediction(number, choices)
    return _ASKED[number]


def came(number: str, answer: SupportsIndex, exactly: str = "") -> Markdown:
    """The result, beside what the reader predicted.

    Args:
        number: of a question that was asked.
        answer: place of the right one among its choices, from 0.
        exactly: the number behind it.

    Raises:
        ValueError: there is no such choice.
    """
    asked = _ASKED.get(number)
    if asked is None:  # a reader may run some cells alone
        return _shown("Run the cell with the answers to choose from, then this one again.")
    if not 0 <= int(answer) < len(asked.choices):
        raise ValueError(f"answer is {int(answer)}, expected the place of one of {asked.choices}")
    return _shown(asked.settle(asked.choices[int(answer)], exactly))


class _Table(Markdown):
    """What a cell shows is drawn anew when a prediction is made after it."""

    chapter = ""

    def _ipython_display_(self) -> None:
        _SHOWN.add(self.chapter)
        display(_shown(str(self.data)), display_id=_display_id(self.chapter))  # type: ignore[no-untyped-call]


_SHOWN: set[str] = set()
"""Chapters whose table is shown."""


def _display_id(chapter: str) -> str:
    return f"predictions-{chapter}"


def table(chapter: str) -> Markdown:
    """What was predicted in a chapter and the results, one row for each question that is answered by now."""
    made = _Table(_rows(chapter))  # type: ignore[no-untyped-call]
    made.chapter = chapter
    return made


def _rows(chapter: str) -> str:
    rows = [one for number, one in _ASKED.items() if number.startswith(f"{chapter}.") and one.came]
    lines = [
        f"| {i} | {one.chosen or '○'}{' (after seeing it)' if one.late else ''} | {one.came} |"
        for i, one in enumerate(rows, 1)
    ]
    return "\n".join(["| | you predicted | result |", "|---|---|---|", *lines])


def _shown(text: str) -> Markdown:
    return Markdown(text)  # type: ignore[no-untyped-call]
