"""The committed chapters as one static site that opens from disk: no server, no network, nothing executed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import nbformat
from plotly.offline import get_plotlyjs

from sa_lab.course import api, cells, exhibits, finder, guides, landing, markup
from sa_lab.course.atlas import Grid
from sa_lab.course.chapters import NOTEBOOKS, chapters
from sa_lab.disk import atomic_path, write_text
from sa_lab.reporting.page import document

TITLE = "SA-Softmax, chapter by chapter"
SENTENCE = (
    "A course on Spectral Aware Softmax, a loss that brings the visible and the infrared images of a person together: "
    "derived by hand, trained, looked at and measured."
)
_SCRIPT = '<script src="site.js"></script>\n'


@dataclass(frozen=True)
class Chapter:
    """What the index and the navigation say of a chapter."""

    stem: str
    title: str
    question: str
    time: str


def export(out: Path, folder: Path = NOTEBOOKS, grid: Grid | None = None, progress: bool = True) -> list[Path]:
    """Write chapters, guides, an index, and what they share (style, plotly.js, pictures) into ``out``.

    In the checkout's chapters, live figures replace widgets; what they show is computed here, see
    `sa_lab.course.exhibits`. The library's own pages come with them, see `sa_lab.course.api`.

    Args:
        out: folder of the site; files of an earlier export are replaced.
        folder: where the chapters are; they are read as they stand, outputs included. From any other folder, HTML in
            texts is shown as text, except for hints that unfold; HTML or SVG outputs are shown as their plain text, and
            nothing is live.
        grid: dials of the toy world.
        progress: show bars.

    Returns:
        The index and the pages of the chapters.

    Raises:
        ValueError: a formula that cannot be converted, or a chapter without title, question or time.
    """
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in chapters(folder)}
    series = [_describe(stem, notebook) for stem, notebook in notebooks.items()]
    pictures: dict[str, bytes] = {}
    trusted = folder.resolve() == NOTEBOOKS.resolve()
    grid = grid or Grid()
    shown = exhibits.write(out / "live", grid, progress) if trusted else {}
    beside = guides.read(folder)
    pages = {"index.html": _index(series, beside, trusted, landing.shows(grid) and trusted)}
    for one in series:
        pages[f"{one.stem}.html"] = _page(one, series, notebooks[one.stem], pictures, trusted, shown)
    more = {guide.address: _guide(guide, trusted) for guide in beside}
    if trusted:
        api.write(out)
        pages, more = ({name: api.linked(page) for name, page in some.items()} for some in (pages, more))
    told = {name: page for name, page in (pages | more).items() if name != "index.html"}
    more["search.js"] = finder.script(told, api.sections() if trusted else ())
    _write(out, pages | more | ({"playground.html": _playground(shown)} if trusted else {}), pictures)
    return [out / name for name in pages]


def collect(out: Path, title: str, notebooks: Mapping[str, Path], index: str) -> Path:
    """Write executed notebooks of our chapters as pages beside an index; pages as in `export`.

    Args:
        out: gets index.html, and for each notebook a page that is called as the notebook's folder.
        title: of the index.
        notebooks: by their title.
        index: HTML of the index below its title.

    Returns:
        The index.
    """
    series = [Chapter(path.parent.name, name, "", "") for name, path in notebooks.items()]
    pictures: dict[str, bytes] = {}
    pages = {"index.html": _document(title, f"<main>\n<h1>{escape(title)}</h1>\n{index}\n</main>", "")}
    for one, path in zip(series, notebooks.values(), strict=True):
        pages[f"{one.stem}.html"] = _page(one, series, nbformat.read(path, as_version=4), pictures, True)
    _write(out, pages, pictures)
    return out / "index.html"


def _write(out: Path, pages: Mapping[str, str], pictures: Mapping[str, bytes]) -> None:
    """Pages, what they share, and their pictures."""
    shared = {
        "plotly.min.js": get_plotlyjs(),
        "site.js": _text("site.js"),
        "site.css": "\n".join([_text("page.css", "sa_lab.reporting"), _text("live.css")]),
    }
    for name, content in pictures.items():
        with atomic_path(out / name) as temporary:
            temporary.write_bytes(content)
    for path in (out / "pictures").glob("[0-9][0-9]_*.*"):  # of an earlier export
        if f"pictures/{path.name}" not in pictures:
            path.unlink()
    for name, text in {**shared, **pages}.items():
        write_text(out / name, text)


def _text(name: str, package: str = "sa_lab.course") -> str:
    return (resources.files(package) / name).read_text(encoding="utf-8")


def _describe(stem: str, notebook: nbformat.NotebookNode) -> Chapter:
    text = notebook.cells[0].source
    found = []
    for beginning in ("# ", "**Question.** ", "**Time:** "):
        match = re.search(rf"^{re.escape(beginning)}(.+?)(?:\n\n|\Z)", text, re.S | re.M)
        if not match:
            raise ValueError(
                f"first cell of {stem} is {text[:60]!r}, expected a paragraph that begins with {beginning!r}"
            )
        found.append(" ".join(match[1].split()))
    return Chapter(stem, *found)


# Pages


def _index(series: Sequence[Chapter], beside: Sequence[guides.Guide], trusted: bool, told: bool) -> str:
    """``told``: with the idea, step by step."""
    entries = "".join(
        f'<li><h2><a href="{_address(one)}">{escape(one.title)}</a></h2>'
        f'<div class="question">{markup.markdown(one.question, one.stem, trusted)}</div>'
        f'<div class="time">{markup.markdown(one.time, one.stem, trusted)}</div></li>\n'
        for one in series
    )
    links = (
        f'<a href="{_address(series[0])}">Begin the course</a><a href="playground.html">Move every dial yourself</a>'
    )
    story = f'{landing.story()}\n<p class="go">{links}</p>' if told else ""
    body = (
        f'<main class="index">\n<h1>{TITLE}</h1>\n<p class="lead">{SENTENCE}</p>\n{finder.BOX}\n{story}\n'
        f'<ol class="chapters">\n{entries}</ol>\n{_guides(beside, trusted)}</main>'
    )
    return _document(TITLE, body, (exhibits.SCRIPTS if told else "") + _SCRIPT)


def _playground(shown: Mapping[str, str]) -> str:
    live = exhibits.of_cell("widgets.Playground()", shown)
    body = f'<main class="index">\n<p><a href="index.html">{TITLE}</a></p>\n<h1>Playground</h1>\n{live}\n</main>'
    return _document("Playground", body, exhibits.SCRIPTS)


def _guides(beside: Sequence[guides.Guide], trusted: bool) -> str:
    """The list of the guides, if there are any, and of the library's pages."""
    links = "".join(f'<li><a href="{quote(one.address)}">{escape(one.title)}</a></li>' for one in beside)
    links += f'<li><a href="{api.FOLDER}/index.html">The library, function by function</a></li>' if trusted else ""
    return f"<h2>Beside the chapters</h2>\n<ul>{links}</ul>\n" if beside else ""


def _guide(guide: guides.Guide, trusted: bool) -> str:
    side = f'<nav class="side" aria-label="course"><a class="home" href="index.html">{TITLE}</a>{finder.BOX}</nav>'
    text = _with_unique_anchors(markup.markdown(guide.source, guide.title, trusted))
    body = f'{side}\n<main>\n<section class="text">{text}</section>\n</main>'
    return _document(guide.title, body, _SCRIPT)


def _address(chapter: Chapter) -> str:
    """Of its page, whatever its file is called."""
    return f"{quote(chapter.stem)}.html"


def _page(
    chapter: Chapter,
    series: Sequence[Chapter],
    notebook: nbformat.NotebookNode,
    pictures: dict[str, bytes],
    trusted: bool,
    shown: Mapping[str, str] | None = None,
) -> str:
    """``shown``: live figures, see `sa_lab.course.exhibits.write`."""
    content = _with_unique_anchors(cells.html(notebook, chapter.stem, pictures, trusted, shown or {}))
    sections = re.findall(r'<h2 id="([^"]+)">(.+?)</h2>', content, re.S)
    links = "".join(f'<li><a href="#{name}">{text}</a></li>' for name, text in sections)
    at = series.index(chapter)
    before = [f'<a rel="prev" href="{_address(one)}">← {escape(one.title)}</a>' for one in series[:at][-1:]]
    after = [f'<a rel="next" href="{_address(one)}">{escape(one.title)} →</a>' for one in series[at + 1 :][:1]]
    steps = "".join([*before, '<a href="index.html">all chapters</a>', *after])
    others = "".join(
        f'<li><a href="{_address(one)}"{" aria-current=page" if one == chapter else ""}>{escape(one.title)}</a></li>'
        for one in series
    )
    box = "" if shown is None else finder.BOX
    side = (
        f'<nav class="side" aria-label="course"><a class="home" href="index.html">{TITLE}</a>{box}\n'
        f'<details class="contents"><summary>In this chapter</summary><ul>{links}</ul></details>\n'
        f'<details class="contents"><summary>Chapters</summary><ul>{others}</ul></details></nav>'
    )
    body = f'{side}\n<main>\n{content}\n<nav class="steps" aria-label="chapters">{steps}</nav>\n</main>'
    scripts = '<script src="plotly.min.js"></script>\n' if 'class="graph"' in content else ""
    scripts += exhibits.SCRIPTS if "data-live=" in content else ""
    return _document(chapter.title, body, scripts + _SCRIPT)


def _with_unique_anchors(content: str) -> str:
    seen: Counter[str] = Counter()

    def count(match: re.Match[str]) -> str:
        seen[match[2]] += 1
        return match[1] + match[2] + (f"-{seen[match[2]]}" if seen[match[2]] > 1 else "")

    return re.sub(r'(<h\d id=")([^"]+)', count, content)


def _document(title: str, body: str, scripts: str) -> str:
    style = '<link rel="stylesheet" href="site.css">\n<noscript><style>.graph { display: none }</style></noscript>'
    return document(title, style, body, scripts)
