"""The quiz of the last chapter as radio buttons."""

from __future__ import annotations

import re
from html import escape

import ipywidgets

from sa_lab.course import quiz
from sa_lab.course.widgets.controls import Panel


class Quiz(Panel):
    """Ten questions; each choice is judged at once and may be changed.

    On paper, or without widgets: `sa_lab.course.quiz.marked`.
    """

    def __init__(self) -> None:
        self.questions = quiz.questions()
        self.choices = [
            ipywidgets.RadioButtons(
                options=one.choices, value=None, tooltip=f"answer to question {number}", layout={"width": "max-content"}
            )
            for number, one in enumerate(self.questions, 1)
        ]
        self.verdicts = [ipywidgets.HTML() for _ in self.questions]
        self.score = ipywidgets.HTML()
        texts = [ipywidgets.HTML(f"<b>{i}.</b> {_html(one.text)}") for i, one in enumerate(self.questions, 1)]
        for choice in self.choices:
            choice.observe(lambda _: self._judge(), names="value")
        rows = zip(texts, self.choices, self.verdicts, strict=True)
        super().__init__([*(one for row in rows for one in row), self.score])
        self._judge()

    def _judge(self) -> None:
        right = [c.index == one.answer for c, one in zip(self.choices, self.questions, strict=True)]
        for choice, one, verdict, fits in zip(self.choices, self.questions, self.verdicts, right, strict=True):
            told = "✓ " + _html(one.why) if fits else "✗ Not this one: try another."
            verdict.value = "" if choice.index is None else told
        answered = sum(choice.index is not None for choice in self.choices)
        self.score.value = f"<b>{sum(right)} of {len(right)} are right, {len(right) - answered} are open.</b>"


def _html(text: str) -> str:
    """Code and emphasis of a line of Markdown."""
    return re.sub(r"\*(.+?)\*", r"<em>\1</em>", re.sub(r"`(.+?)`", r"<code>\1</code>", escape(text)))
