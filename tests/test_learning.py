"""Progress, quiz and the map of symbols."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from answers import TABLE
from lab_notebook import Lab
from test_browser import write

from sa_lab import losses
from sa_lab.course import chapters, exercises, markup, progress, quiz, symbols, widgets
from sa_lab.disk import read_json

ROOT = Path(__file__).parents[1]


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_solved_exercise_is_kept_once_and_a_wrong_one_is_not(own_home: Path) -> None:
    answers = TABLE["cosine"]
    exercises.check_cosine(answers.wrong[0][1])
    exercises.check_cosine(lambda a, b: ...)
    assert progress.solved() == {}
    assert not own_home.exists()
    exercises.check_cosine(answers.right[0])
    assert list(progress.solved()) == ["00.2"]
    written = (own_home / "progress.json").stat().st_mtime_ns
    exercises.check_cosine(answers.right[1])
    assert (own_home / "progress.json").stat().st_mtime_ns == written
    exercises.check_logits(TABLE["logits"].right[0])
    assert list(read_json(progress.place())) == ["00.2", "00.1"]
    assert not list(own_home.glob(".progress~*"))


def test_the_table_names_every_exercise(own_home: Path) -> None:
    exercises.check_cosine(TABLE["cosine"].right[0])
    text = progress.table()
    assert "| [00 start here](00_start_here.ipynb) | 1 of 2 | ○ 00.1 Logits, part by part, ● 00.2 Cosine |" in text
    assert f"1 of {len(TABLE)} exercises are solved." in text
    assert [f"{path.stem}.ipynb" for path in chapters.chapters()] == re.findall(r"\((\w+\.ipynb)\)", text)


@pytest.mark.parametrize("content", ["{", "[]", '{"00.1": "2026-01-01", "xxh3": "0"}'])
def test_a_damaged_file_begins_anew(own_home: Path, content: str) -> None:
    own_home.mkdir()
    progress.place().write_text(content, encoding="utf-8")
    assert progress.solved() == {}
    assert exercises.check_cosine(TABLE["cosine"].right[0]).status == "right"
    assert list(progress.solved()) == ["00.2"]


def test_a_home_that_cannot_be_written_stops_no_checker(own_home: Path) -> None:
    own_home.write_text("a file in the place of the folder", encoding="utf-8")
    assert exercises.check_cosine(TABLE["cosine"].right[0]).status == "right"
    assert progress.solved() == {}


def test_ten_questions_of_four_answers() -> None:
    asked = quiz.questions()
    assert len(asked) == 10
    for one in asked:
        assert len(set(one.choices)) == len(one.choices) == 4
        assert one.answer in range(4)
        assert "$" not in one.text + one.why
    assert len({one.answer for one in asked}) > 2


def test_answers_follow_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another library, another answer."""
    right = [one.choices[one.answer] for one in quiz.questions()]
    assert right[2] == f"{2 * np.log(2):.3g}"
    assert right[3] == f"{4 * np.log(7):.3g}"
    monkeypatch.setattr(losses.SASoftmaxLoss, "feature_loss", losses.SASoftmaxLoss.prototype_loss)
    other = quiz.questions()
    assert other[5].choices[other[5].answer] == "at the prototypes alone" != right[5]


def test_answers_on_paper() -> None:
    right = "".join(quiz.LETTERS[one.answer] for one in quiz.questions())
    assert quiz.marked(right).startswith("10 of 10 are right.")
    assert quiz.marked(right).count("✓") == 10
    wrong = "".join("b" if letter == "a" else "a" for letter in right)
    assert quiz.marked(wrong).startswith("0 of 10")
    assert "✓" not in quiz.marked(wrong)
    assert quiz.marked(f"- {right[1:5]} {right[5:].upper()}").startswith("9 of 10")
    assert quiz.marked("") == quiz.paper()
    assert quiz.paper().count("- **a** ") == 10
    for odd in ("abc", "e" * 10):
        assert quiz.marked(odd).startswith("Write 10 letters")


def test_the_widget_judges_each_choice() -> None:
    shown = widgets.Quiz()
    assert shown.score.value == "<b>0 of 10 are right, 10 are open.</b>"
    for choice, one in zip(shown.choices, shown.questions, strict=True):
        choice.index = one.answer
    assert all(verdict.value.startswith("✓") for verdict in shown.verdicts)
    assert "10 of 10 are right, 0 are open" in shown.score.value
    shown.choices[0].index = (shown.questions[0].answer + 1) % 4
    assert shown.verdicts[0].value.startswith("✗")
    assert "9 of 10" in shown.score.value


def test_symbols_lead_to_lines_of_the_source() -> None:
    for one in symbols.SYMBOLS:
        file, number = one.where()
        assert one.code in (ROOT / file).read_text(encoding="utf-8").splitlines()[number - 1]
    page = markup.markdown(symbols.table(), "symbols")
    assert page.count("<tr>") == len(symbols.SYMBOLS) + 1
    assert "$" not in re.sub(r"<code>.*?</code>", "", page)


def test_code_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="'mask the own' is in 0 lines of own_prototype, expected one"):
        symbols.Symbol("$x$", "$x$", losses.own_prototype, "mask the own").where()


def test_what_the_table_of_symbols_says_is_what_the_library_computes() -> None:
    """The equations, written out on one sample."""
    labels, modality, mask = torch.tensor([1]), torch.tensor([0]), 3.0
    f, w = torch.randn(1, 1, 4), torch.randn(1, 6, 4)
    own, cross = 1 + 0 * 3, 1 + (1 - 0) * 3
    logits = f[0, 0] @ w[0].T
    masked = logits - mask * (torch.arange(6) == own)
    z = losses.prototype_logits(f, w)
    torch.testing.assert_close(z[0, 0], logits)
    torch.testing.assert_close(losses.sa_softmax_loss(z, labels, modality, mask), -masked.log_softmax(0)[cross])
    torch.testing.assert_close(losses.prototype_loss(z, labels, modality), -logits.log_softmax(0)[own])
    cosine = torch.cosine_similarity(f[0, 0], w[0, cross], dim=0)
    torch.testing.assert_close(losses.absolute_similarity_loss(f, w, labels, modality), (1 - cosine) ** 2)


def test_the_file_of_progress_is_small_and_plain(own_home: Path) -> None:
    for name in ("cosine", "warmup"):
        getattr(exercises, f"check_{name}")(TABLE[name].right[0])
    values = json.loads(progress.place().read_text(encoding="utf-8"))
    assert values.keys() == {"00.2", "03.3", "xxh3"}
    assert progress.place().stat().st_size < 200


@pytest.mark.slow
def test_the_quiz_in_a_browser_by_mouse_and_by_keyboard(lab: Lab) -> None:
    notebook = lab.open(write(lab, "quiz.ipynb", "from sa_lab.course import widgets", "widgets.Quiz()"), 1280)
    notebook.run_all()
    asked, page = quiz.questions(), notebook.page
    score = page.get_by_text("of 10 are right").first
    assert score.inner_text() == "0 of 10 are right, 10 are open."
    groups = page.locator(".widget-radio-box")
    assert groups.count() == 10
    groups.nth(0).locator("input").nth(asked[0].answer).click()
    page.get_by_text(asked[0].why).wait_for(timeout=10_000)
    assert score.inner_text() == "1 of 10 are right, 9 are open."
    first = groups.nth(1).locator("input").first
    first.focus()
    first.press("Space")
    page.get_by_text("Not this one: try another.").wait_for(timeout=10_000)
    assert notebook.errors == []
