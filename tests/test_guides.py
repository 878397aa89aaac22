"""Guides and solutions: what they say is run, and what they name is there."""

from __future__ import annotations

import json
import re
import shlex
from glob import glob
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from test_own_pictures import QUICK, people, picture

from sa_lab import cli
from sa_lab.course import chapters, exercises, guides, progress

CHAPTERS = chapters.chapters()
PAGES = {path.stem: path for path in (CHAPTERS[0].parent / "guides").glob("*.md")}
PAGES["README"] = CHAPTERS[0].parents[1] / "README.md"
ELSEWHERE = ("GPU", "licensed data")
"""What a command says that cannot be run here."""
LESS = {
    "generate": "--train-ids 4 --test-ids 3 --images-per-camera 1", "study": "--variants softmax complete --seeds 0 1"
}  # fmt: skip
"""What is added to a command, so that it takes seconds."""
EXERCISE = re.compile(r"^#+ Exercise (\d\d\.\d · .+)$", re.M)


def solutions_of(path: Path) -> str:
    return (path.parent / "solutions" / f"{path.stem}.md").read_text(encoding="utf-8")


def cells_of(path: Path, kind: str) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_each_exercise_has_a_solution_that_runs_in_its_chapter(path: Path) -> None:
    text = solutions_of(path)
    code = cells_of(path, "code")
    imports = re.findall(r"^(?:import|from) .+$", "\n".join(code), re.M)
    titles = EXERCISE.findall("\n".join(cells_of(path, "markdown")))
    assert EXERCISE.findall(text) == titles
    sections = EXERCISE.split(text.split("## Open tasks", 1)[0])[1:]
    for title, section in zip(sections[::2], sections[1::2], strict=True):
        (solution,) = re.findall(r"```python\n(.+?)```", section, re.S)
        (name,) = re.findall(r"^def (\w+)\(", solution, re.M)
        (check,) = re.findall(rf"^exercises\.check_\w+\({name}\)$", "\n".join(code), re.M)
        scope: dict[str, Any] = {}
        exec("\n".join([*imports, solution]), scope)
        verdict = eval(check, {**scope, "exercises": exercises})
        assert (verdict.exercise, verdict.status) == (title[:4], "right"), str(verdict)
        assert section.count("<details><summary>Solution</summary>") == section.count("</details>") == 1
        assert len(re.findall(r"^\*\*Why\.\*\* \S", section, re.M)) == 1


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_two_open_tasks_each_with_a_rubric(path: Path) -> None:
    tasks = solutions_of(path).split("## Open tasks", 1)[1]
    found = re.split(r"^### .+$", tasks, flags=re.M)[1:]
    assert len(found) == 2
    for task in found:
        assert re.findall(r"^\| ([\w]+) \|", task, re.M) == ["points", "1", "2", "3"]


def test_a_page_without_a_title_is_refused(tmp_path: Path) -> None:
    (tmp_path / "guides").mkdir()
    (tmp_path / "guides" / "one.md").write_text("Text", encoding="utf-8")
    with pytest.raises(ValueError, match="begins with 'Text', expected a title"):
        guides.read(tmp_path)


def test_plans_fill_their_time_and_name_exercises_that_exist() -> None:
    text = (CHAPTERS[0].parent / "guides" / "teaching.md").read_text(encoding="utf-8")
    known = {number for chapter in progress.titles().values() for number in chapter}
    assert set(re.findall(r"\b0\d\.\d\b", text)) <= known
    for title, minutes in (("A class of 90 minutes", 90), ("An afternoon", 240)):
        section = text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
        spans = [(int(a), int(b)) for a, b in re.findall(r"^\| (\d+)-(\d+) \|", section, re.M)]
        ends = [0, *(end for _, end in spans)]
        assert [start for start, _ in spans] == ends[:-1], title
        assert ends[-1] == minutes


def test_the_glossary_is_in_order_and_linked_from_the_chapters() -> None:
    text = (CHAPTERS[0].parent / "guides" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^### (.+)$", text, re.M)
    assert len(terms) >= 30
    assert terms == sorted(set(terms))
    assert [term.lower() for term in terms] == terms, "anchors on GitHub are in lower case"
    linked: set[str] = set()
    for path in CHAPTERS:
        found = re.findall(r"\]\(guides/glossary\.md#([\w-]+)\)", "\n".join(cells_of(path, "markdown")))
        assert len(found) == len(set(found)), f"a term is linked twice in {path.stem}"
        linked.update(found)
    assert linked <= {term.replace(" ", "-") for term in terms}
    assert len(linked) >= 30


def commands_of(path: Path) -> list[str]:
    """The lines of the shell blocks of a page, without those that need what is not here."""
    blocks = re.findall(r"```sh\n(.*?)```", path.read_text(encoding="utf-8"), re.S)
    lines = re.sub(r"\\\n\s*", "", "".join(blocks)).splitlines()
    kept = (line for line in lines if not line.startswith("#"))
    return [line for line in kept if not any(word in line.partition("#")[2] for word in ELSEWHERE)]


def run(line: str) -> None:
    """A command with the network, the steps and the people of a test."""
    line = re.sub(r"sa-lab (train|sweep|study) (tiny|small|paper)", r"sa-lab \1 --config quick.json tiny", line)
    line = line.replace(" --train.ids-per-batch 8", "")
    words = [
        name for word in shlex.split(line, comments=True) for name in (sorted(glob(word)) if "*" in word else [word])
    ]
    cli.main([*words[1:], *LESS.get(words[1], "").split()])


@pytest.mark.usefixtures("here", "narrow")
@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")
@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"own_pictures"}))
def test_the_commands_of_a_page_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the guide to one's own pictures have a test of their own."""
    commands = commands_of(PAGES[name])
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    dials = json.loads(json.dumps(QUICK))
    dials["data"] |= {"train_ids": 8, "test_ids": 3, "images_per_camera": 1, "validation_fraction": 0.25}
    dials["model"] |= {"backbone": "mobilenet_v2"}
    Path("quick.json").write_text(json.dumps(dials), encoding="utf-8")
    people(Path("my_images"), 8)
    picture(Path("query.png"), 7)
    picture(Path("gallery/a.png"), 7, "RGB")
    for block in re.findall(r"```python\n(.*?)```", PAGES["own_loss"].read_text(encoding="utf-8"), re.S):
        Path("mine.py").write_text(block, encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", PAGES[name].read_text(encoding="utf-8"), re.S):
        if "theirs.npz" in block:
            exec(block, {})
    targets = re.findall(r"^(\w+):", (PAGES["README"].parent / "Makefile").read_text(encoding="utf-8"), re.M)
    for line in commands:
        program, target = shlex.split(line, comments=True)[:2]
        if program == "make":
            assert target in targets, line
        elif program == "papermill":
            (chapter,) = [path for path in CHAPTERS if path.name == target]
            known = papermill.inspect_notebook(chapter)
            assert set(re.findall(r"-p (\w+)|-y '?\"?(\w+):", line)[0]) - {""} <= known.keys(), line
        else:
            assert program == "sa-lab", line
            run(line)


def test_the_pages_that_have_commands() -> None:
    found = {name for name, path in PAGES.items() if commands_of(path)}
    assert found >= {"README", "architecture", "cluster", "evaluation", "own_loss", "own_pictures"}
