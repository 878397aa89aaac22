"""The static site: whole, offline, and with the figures and formulas of the chapters."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from browsing import Watched

from sa_lab.course import api, chapters, site, symbols
from sa_lab.course.atlas import Grid
from sa_lab.plots import CONFIG

pytestmark = pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")
CHAPTERS = chapters.chapters()
CODE_OR_FORMULA = re.compile(
    r"(?P<code>^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)|(?<!`)(?P<tick>`+)(?!`).+?(?<!`)(?P=tick)(?!`)|\\\$)"
    r"|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+(?:\n[^$\n]+)*)\$",
    re.S | re.M,
)


class Page(HTMLParser):
    """Links, anchors, what a page loads, and its text outside of code."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: list[str] = []
        self.tags: list[str] = []
        self.text = self.whole = ""
        self._inside: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attributes}
        self.tags.append(tag)
        self.anchors += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if tag == "a" else []
        self.loads += [values[key] for key in ("src", "href") if key in values and tag != "a"]
        if tag in ("pre", "code", "script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        self.whole += data
        self.text += "" if self._inside else data


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    grid = Grid((2,), (20,), (50.0,), (0.7,), (1.0,), (0, 4))
    assert [path.name for path in site.export(folder, grid=grid, progress=False)] == [
        "index.html",
        *(f"{one.stem}.html" for one in CHAPTERS),
    ]
    return folder


@pytest.fixture(scope="module")
def pages(exported: Path) -> dict[str, Page]:
    return {path.name: Page(path) for path in exported.glob("*.html")}


def plotly_outputs(path: Path) -> list[dict]:
    cells = nbformat.read(path, as_version=4).cells
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return [one[chapters.FIGURE] for one in data if chapters.FIGURE in one]


def test_names_lead_to_the_librarys_pages(exported: Path) -> None:
    found = {api.address(f"{one.function.__module__}.{one.function.__qualname__}") for one in symbols.SYMBOLS} - {None}
    assert len(found) >= 12
    for at in [*found, *(api.address(module) for module in api.MODULES)]:
        page, _, anchor = str(at).partition("#")
        text = (exported / page).read_text(encoding="utf-8")
        assert not anchor or f'id="{anchor}"' in text, at
        assert not re.search(r"<(script|link|img)[^>]+(src|href)=.?https?:", text), "fetched from elsewhere"
    assert "'B P C2'" in Page(exported / str(api.address("sa_lab.losses"))).whole, "shapes"
    chapter = (exported / "01_derivation.html").read_text(encoding="utf-8")
    assert 'href="api/sa_lab/losses.html#sa_softmax_loss"><code>' in chapter
    assert api.address("sa_lab.losses.nothing") is api.address("sa_lab.course.site") is None


def test_everything_that_a_page_loads_lies_beside_it(exported: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        for target in page.loads:
            assert target == "data:," or (exported / target).is_file(), f"{target} in {name}"
    assert not re.search(r"@import|url\(", (exported / "site.css").read_text())
    assert "<script>" not in "".join((exported / name).read_text() for name in pages)


def test_every_internal_link_resolves(exported: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert len(set(page.anchors)) == len(page.anchors), f"an anchor twice in {name}"
        assert not [one for one in page.anchors if re.search(r"[\s<>]", one)], f"an anchor with markup in {name}"
        for link in page.links:
            if not link.startswith(("http:", "https:", "mailto:")):
                target, _, anchor = link.partition("#")
                if target.startswith(f"{api.FOLDER}/"):
                    assert not anchor or f'id="{anchor}"' in (exported / target).read_text(encoding="utf-8"), link
                    continue
                assert (target or name) in pages, f"{link} in {name}"
                assert not anchor or unquote(anchor) in pages[target or name].anchors, f"{link} in {name}"


def test_index_has_each_chapter_with_its_question_and_time(pages: dict[str, Page]) -> None:
    text = " ".join(pages["index.html"].text.split())
    for path in CHAPTERS:
        assert f"{path.stem}.html" in pages["index.html"].links
        opening = " ".join(nbformat.read(path, as_version=4).cells[0].source.split())
        question = re.split(r"\*\*Question\.\*\* ", opening)[1]
        assert question[:30] in text
        assert re.split(r"\*\*Time:\*\* ", opening)[1][:20] in text


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_has_its_figures_formulas_tables_and_neighbours(
    path: Path, exported: Path, pages: dict[str, Page]
) -> None:
    page, text = pages[f"{path.stem}.html"], (exported / f"{path.stem}.html").read_text()
    figures = [json.loads(one) for one in re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)]
    assert len(figures) == text.count('class="graph"') == len(plotly_outputs(path))
    for figure, original in zip(figures, plotly_outputs(path), strict=True):
        assert figure["data"] == original["data"]
        assert figure["config"].items() >= CONFIG.items()
    assert text.count("<noscript><img") == len(figures)
    assert "$" not in page.text
    cells = nbformat.read(path, as_version=4).cells
    source = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    said = [output.get("data", {}).get("text/markdown", "") for cell in cells for output in cell.get("outputs", [])]
    formulas = CODE_OR_FORMULA.finditer("\n\n".join([source, *said]))
    assert page.tags.count("math") == len([one for one in formulas if not one["code"]])
    assert page.tags.count("table") >= len(re.findall(r"^\|[-| ]+\|$", source, re.M))
    assert page.tags.count("details") == "".join([source, *said]).count("<details") + 2
    assert set(re.findall(r"^## (.+)$", source, re.M)) <= set(re.findall(r'<li><a href="#[^"]+">(.+?)</a>', text))
    at = CHAPTERS.index(path)
    neighbours = CHAPTERS[max(at - 1, 0) : at] + CHAPTERS[at + 1 : at + 2]
    steps = text[text.index('<nav class="steps"') :]
    assert re.findall(r'href="(.+?)"', steps[: steps.index("</nav>")]).count("index.html") == 1
    assert all(f'href="{one.stem}.html"' in steps for one in neighbours)


def chapter(folder: Path, *sources: str, name: str = "01_one.ipynb") -> Path:
    opening = "# One\n\n**Question.** Why $x$?\n\n**Time:** none"
    cells = [nbformat.v4.new_markdown_cell(source) for source in (opening, *sources)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / name)
    return folder


@pytest.mark.parametrize("formula", [r"\nonsense x", r"\frac{1}", r"a_", r"\left( x", "x}", r"\begin{aligned} a &= b"])
def test_a_formula_that_cannot_be_converted_is_named_and_nothing_is_written(tmp_path: Path, formula: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(repr(formula))} in 01_one"):
        site.export(tmp_path / "out", chapter(tmp_path, f"Here: ${formula}$."))
    assert not (tmp_path / "out").exists()


def test_a_chapter_without_its_question_is_refused(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One\n\nText")])
    nbformat.write(notebook, tmp_path / "01_one.ipynb")
    with pytest.raises(ValueError, match=r"first cell of 01_one is '# One.*Question"):
        site.export(tmp_path / "out", tmp_path)


def test_markdown_keeps_code_hints_and_links(tmp_path: Path) -> None:
    source = (
        "A price of `$5 and $6`, ``a `$b$` c``, and \\$7; a formula $a_b * c_d$ and\n\n$$\\sum_i x_i$$\n\n"
        "| $|a|$ | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx = '$y$'\n```\n\n"
        "<details><summary>Hint</summary>\n\nUse **$z$**.\n\n</details>\n\n"
        "## Twice\n\n## Twice\n\n[next](02_two.ipynb#A-part) and [there](https://example.org/01_x.ipynb)"
    )
    chapter(tmp_path, "## A part", name="02_two.ipynb")
    (_, path, _) = site.export(tmp_path / "out", chapter(tmp_path, source))
    page, text = Page(path), path.read_text()
    assert page.tags.count("math") == 5
    assert 'display="block"' in text
    assert "<code>$5 and $6</code>" in text
    assert "<em>" not in text
    assert page.text.count("$") == 1
    assert [one for one in page.anchors if "Twice" in one] == ["Twice", "Twice-2"]
    assert {"02_two.html#A-part", "https://example.org/01_x.ipynb"} <= set(page.links)
    assert re.search(r"<details><summary>Hint</summary>\s*<p>Use <strong><math", text)


def test_a_second_export_leaves_no_pictures_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "pictures"
    folder.mkdir(parents=True)
    for name in ("01_old-cell-0.png", "holiday.png"):
        (folder / name).write_bytes(b"")
    site.export(tmp_path / "out", chapter(tmp_path))
    assert not (folder / "01_old-cell-0.png").exists()
    assert (folder / "holiday.png").exists(), "somebody else's"


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_pages_open_from_disk_with_living_figures(exported: Path, page_at: Callable[..., Watched], width: int) -> None:
    watched = page_at(width)
    for path in CHAPTERS:
        watched.page.goto((exported / f"{path.stem}.html").as_uri())
        drawn = watched.page.evaluate(
            "[...document.querySelectorAll('.js-plotly-plot')]"
            ".map(graph => graph._fullData.some(trace => (trace.y || trace.z).length > 0))"
        )
        assert drawn == [True] * len(plotly_outputs(path))
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width, f"{path.stem} is too wide"
    watched.page.goto((exported / "index.html").as_uri())
    watched.page.get_by_role("link", name=re.compile("^01 ·")).click()
    assert watched.page.url.endswith("01_derivation.html")
    assert watched.errors == []
    assert [one for one in watched.requests if not one.startswith(("file:", "data:", "blob:"))] == []


def test_chapters_of_somebody_else_bring_no_markup(tmp_path: Path) -> None:
    """In texts, formulas, outputs, figures, and the names of their files."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    formula = r"$\href{javascript:alert(1)}{x} \style{background:url(http://evil/x)}{y}$"
    source = f"Here: {evil} and [a](javascript:alert(1)), {formula} \ue0007\ue001."
    folder = chapter(tmp_path, source)
    file = next(folder.glob("*.ipynb"))
    file = file.rename(folder / '00_"><img src=x onerror=alert(1)>.ipynb')
    notebook = nbformat.read(file, as_version=4)
    code = nbformat.v4.new_code_cell("1")
    code.id = "x"
    code.outputs = [
        nbformat.v4.new_output("display_data", {"text/html": evil, "text/plain": "plain"}),
        nbformat.v4.new_output("display_data", {"image/svg+xml": f"<svg>{evil}</svg>", "text/plain": "drawn"}),
        nbformat.v4.new_output("display_data", {"text/markdown": evil, "text/plain": "told"}),
    ]
    picture = {"layout": {"title": "a title alone", "images": [{"source": "http://evil/pixel.png"}]}, "data": []}
    code.outputs.append(nbformat.v4.new_output("display_data", {"application/vnd.plotly.v1+json": picture}))
    notebook.cells += [code, nbformat.v4.new_raw_cell(evil)]
    nbformat.write(notebook, file)
    index, path, *_ = site.export(tmp_path / "out", folder)
    page = path.read_text(encoding="utf-8")
    assert "<img src=x" not in index.read_text(encoding="utf-8")
    assert "evil" not in page.replace("url(http://evil/x)}{y}", "")
    assert "a title alone" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "javascript:alert" not in page
    assert "<svg>" not in page
    assert "plain" in page
    assert "drawn" in page


@pytest.mark.slow
def test_what_is_looked_for_is_found_from_disk(exported: Path, page_at: Callable[..., Watched]) -> None:
    """The first answer is where the term is defined; functions of the library are found as well."""
    watched = page_at(1280)
    watched.page.goto((exported / "02_data_and_sampler.html").as_uri())
    assert not [one for one in watched.requests if one.endswith("search.js")], "loaded when it is asked for"
    box = watched.page.get_by_role("searchbox")
    box.fill("modality gap")
    titles = watched.page.locator(".found a")
    titles.first.wait_for()
    assert titles.first.inner_text() == "modality gap"
    box.fill("sa_softmax_loss")
    addresses = [one.get_attribute("href") for one in titles.all()]
    assert "api/sa_lab/losses.html#sa_softmax_loss" in addresses
    box.fill("nothing that anybody has written")
    assert watched.page.locator(".found").inner_text() == "Nothing found."
    box.fill("feature mask")
    box.press("Enter")
    watched.page.wait_for_url("**/guides-glossary.html#feature-mask")
    assert watched.errors == []


def test_the_index_has_each_section_once_and_none_of_the_scripts(pages: dict[str, Page], exported: Path) -> None:
    rows = json.loads((exported / "search.js").read_text().partition("finder.hold(")[2].rpartition(");")[0])
    addresses = [address for _, _, address, _ in rows]
    assert len(set(addresses)) == len(addresses)
    for path in CHAPTERS:
        assert any(address.startswith(f"{path.stem}.html") for address in addresses)
    assert not [text for *_, text in rows if "plotly" in text.lower() and "newPlot" in text]
