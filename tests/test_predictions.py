"""What a reader predicts is kept and shown beside the result."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import nbformat
import pytest
from IPython.display import Markdown

from sa_lab.course import chapters, predictions, progress

CHAPTERS = chapters.chapters()


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    monkeypatch.setattr(predictions, "_ASKED", {})
    monkeypatch.setattr(predictions, "_SHOWN", set())


def test_a_choice_is_kept_and_stands_once_the_answer_is_told() -> None:
    asked = predictions.ask("01.1", "it falls", "it stays", "it rises")
    assert repr(asked) == "○ it falls   ○ it stays   ○ it rises"
    assert "Shift+Enter" in asked.line.value
    asked.buttons.value = "it falls"
    asked.buttons.value = "it rises"  # still free to change
    assert progress.kept(predictions.place()) == {"01.1": "it rises"}
    assert not asked.buttons.disabled
    text = predictions.came("01.1", 1, "0.00 nats").data
    assert text == "You predicted: it rises. **Result:** it stays (0.00 nats)."
    assert asked.buttons.disabled
    assert asked.line.value == "You predicted: <b>it rises</b>. Result: <b>it stays (0.00 nats)</b>."
    assert predictions.came("01.1", 2).data == "**As you predicted:** it rises."
    again = predictions.ask("01.1", "it falls", "it stays", "it rises")  # another day
    assert again.chosen == "it rises"
    assert not again.buttons.disabled


def test_who_skips_is_told_and_may_still_choose() -> None:
    asked = predictions.ask("02.1", "few", "many")
    folded = "<details><summary>Result</summary>\n\nfew.\n\n</details>"
    assert predictions.came("02.1", 0).data == folded, "the question comes first"
    assert predictions.table("02").data.splitlines()[2:] == ["| 1 | ○ | few |"]
    asked.buttons.value = "many"
    assert asked.buttons.disabled
    assert predictions.table("02").data.splitlines()[2:] == ["| 1 | many (after seeing it) | few |"]
    assert predictions.table("01").data.splitlines()[2:] == []
    again = predictions.ask("02.1", "few", "many")  # the cells are run again
    assert again.late
    assert predictions.came("02.1", 1).data == "You chose after seeing it: many. **Result:** many."
    assert "You chose after seeing it" in again.line.value


def test_who_chose_late_predicts_anew_in_a_kernel_that_has_not_shown_the_result() -> None:
    predictions.ask("02.1", "few", "many")
    predictions.came("02.1", 0)
    predictions._ASKED["02.1"].buttons.value = "many"
    anew = predictions.ask("02.1", "few", "many")
    assert "Choose another answer, or run on" in anew.line.value
    anew.buttons.value = "few"
    assert not anew.late
    assert predictions.came("02.1", 0).data == "**As you predicted:** few."
    assert not predictions.ask("02.1", "few", "many").late, "it is kept so"


def test_a_table_that_is_shown_follows_a_late_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[Markdown, str]] = []
    for name in ("display", "update_display"):
        monkeypatch.setattr(predictions, name, lambda text, display_id: shown.append((text, display_id)))
    asked = predictions.ask("02.1", "few", "many")
    predictions.came("02.1", 0)
    predictions.table("02")._ipython_display_()
    asked.buttons.value = "many"
    assert [place for _, place in shown] == ["predictions-02"] * 2
    assert {type(text) for text, _ in shown} == {Markdown}, "nothing that displays itself"
    assert shown[0][0].data.endswith("| 1 | ○ | few |")
    assert shown[1][0].data.endswith("| 1 | many (after seeing it) | few |")


def test_an_answer_that_is_no_longer_offered_is_forgotten() -> None:
    progress.keep(predictions.place(), "03.1", "of an older chapter")
    assert predictions.ask("03.1", "one", "two").chosen == ""


def test_a_home_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    predictions.place().mkdir()
    predictions.ask("03.1", "one", "two").buttons.value = "one"
    assert progress.kept(predictions.place()) == {}


def test_refusals_name_what_was_expected() -> None:
    with pytest.raises(ValueError, match=r"choices is \('one',\), expected at least two different ones"):
        predictions.ask("01.1", "one")
    assert predictions.came("01.1", 0).data.startswith("Run the cell with the answers")
    predictions.ask("01.1", "one", "two")
    with pytest.raises(ValueError, match=r"answer is 2, expected the place of one of \('one', 'two'\)"):
        predictions.came("01.1", 2)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_each_prompt_has_choices_and_an_answer(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    asked = []
    for prompt, choices in itertools.pairwise(cells):
        if prompt.cell_type == "markdown" and "**Predict" in prompt.source:
            asked += re.findall(r"predictions\.ask\(\s*\"(\d\d\.\d)\"", choices.source)
            assert choices.outputs[0].data["text/plain"].startswith("○ "), "not executed: make render"
    prompts = sum(cell.source.count("**Predict") for cell in cells if cell.cell_type == "markdown")
    assert len(asked) == prompts
    assert asked == [f"{path.name[:2]}.{place}" for place in range(1, prompts + 1)]
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert re.findall(r"predictions\.came\(\"(\d\d\.\d)\"", code) == asked
    (table,) = [cell for cell in cells if cell.cell_type == "code" and "predictions.table(" in cell.source]
    told = table.outputs[0].data["text/markdown"].splitlines()[2:]
    assert len(told) == prompts, "with the results that come with the kit each question is answered"
    assert all(" | ○ | " in line for line in told)
