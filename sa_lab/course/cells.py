"""The cells of a chapter as HTML: nbconvert's, with figures that draw themselves and live ones."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from html import escape
from typing import Any

import nbformat
from nbconvert.exporters.templateexporter import TemplateExporter
from nbconvert.filters.highlight import Highlight2HTML
from nbconvert.preprocessors import Preprocessor
from traitlets.config import Config

from sa_lab.course import STILL, exhibits, markup
from sa_lab.course.chapters import FIGURE
from sa_lab.plots import CONFIG

_PICTURES = {"image/png": "png", "image/jpeg": "jpg"}
_TEMPLATE = """
{%- extends 'base/display_priority.j2' -%}
{%- block markdowncell %}<section class="text">{{ cell.source | markdown2html }}</section>
{% endblock markdowncell -%}
{%- block codecell %}<section class="cell">{{ cell.source | highlight_code }}{{ cell.metadata.live }}
{%- if cell.outputs %}<div class="outputs">{{ super() }}</div>{% endif %}</section>
{% endblock codecell -%}
{%- block execute_result %}{{ self.display_data() }}{% endblock execute_result -%}
{%- block stream %}<pre>{{ output.text | strip_ansi | escape_html }}</pre>{% endblock stream -%}
{%- block traceback_line %}<pre>{{ line | strip_ansi | escape_html }}</pre>{% endblock traceback_line -%}
{%- block data_html %}{{ output.data['text/html'] }}{% endblock data_html -%}
{%- block data_markdown %}{{ output.data['text/markdown'] | markdown2html }}{% endblock data_markdown -%}
{%- block data_text %}<pre>{{ output.data['text/plain'] | strip_ansi | escape_html }}</pre>{% endblock data_text -%}
"""
"""Of the cells of a chapter; nbconvert's names of what is filled in."""


class _Figures(Preprocessor):
    """Figures and pictures as HTML, and live figures in place of the line that stands for them on paper.

    Args:
        stem: of the chapter.
        pictures: gets the content of the files that the page shows, by name.
        trusted: whether HTML and SVG stay what they are.
        shown: live figures, see `sa_lab.course.exhibits.write`.
    """

    def __init__(self, stem: str, pictures: dict[str, bytes], trusted: bool, shown: Mapping[str, str]) -> None:
        super().__init__(enabled=True)  # type: ignore[no-untyped-call]
        self._stem, self._pictures, self._trusted, self._shown_live = stem, pictures, trusted, shown

    def preprocess_cell(
        self, cell: nbformat.NotebookNode, resources: Any, index: int
    ) -> tuple[nbformat.NotebookNode, Any]:
        if cell.cell_type == "code":
            name = re.sub(r"[^\w-]", "-", f"{self._stem}-{cell.id}")  # of a file as well
            cell.metadata["live"] = live = exhibits.of_cell(cell.source, self._shown_live)
            cell.outputs = [one for one in cell.outputs if not (live and _stands_for_a_figure(one))]
            for i, output in enumerate(one for one in cell.outputs if "data" in one):
                output.data = nbformat.from_dict(self._shown(output.data, f"{name}-{i}"))
        return cell, resources

    def _shown(self, data: nbformat.NotebookNode, name: str) -> dict[str, str]:
        """The richest form of an output that a page can show."""
        if FIGURE in data:
            return {"text/html": _figure(data, name, self._pictures, self._trusted)}
        if "text/html" in data and self._trusted:
            return {"text/html": f'<div class="html">{data["text/html"]}</div>'}
        if "text/markdown" in data:
            return {"text/markdown": data["text/markdown"]}
        if "image/svg+xml" in data and self._trusted:
            return {"text/html": data["image/svg+xml"]}
        if _PICTURES.keys() & data.keys():
            return {"text/html": _picture(data, name, self._pictures, "output of the cell above")}
        return {"text/plain": data.get("text/plain", "")}


def _stands_for_a_figure(output: nbformat.NotebookNode) -> bool:
    return bool(output.get("data", {}).get("text/plain", "").startswith(STILL))


def html(
    notebook: nbformat.NotebookNode, stem: str, pictures: dict[str, bytes], trusted: bool, shown: Mapping[str, str]
) -> str:
    """A chapter's cells as HTML."""
    exporter = TemplateExporter(  # type: ignore[no-untyped-call]
        raw_template=_TEMPLATE,
        preprocessors=[_Figures(stem, pictures, trusted, shown)],
        filters={
            "markdown2html": lambda source: markup.markdown(source, stem, trusted),
            "highlight_code": Highlight2HTML("python"),  # type: ignore[no-untyped-call]
        },
        config=Config(NbConvertBase={"display_data_priority": ["text/html", "text/markdown", "text/plain"]}),
    )
    kept = [cell for cell in notebook.cells if cell.cell_type in ("markdown", "code") and cell.source.strip()]
    content, _ = exporter.from_notebook_node(nbformat.from_dict({**notebook, "cells": kept}))
    return str(content)


def _figure(data: nbformat.NotebookNode, name: str, pictures: dict[str, bytes], trusted: bool) -> str:
    figure = data[FIGURE]
    layout = figure["layout"]
    if not trusted:  # nothing is fetched for it
        layout = {key: value for key, value in layout.items() if not key.startswith(("images", "map", "geo"))}
    title = layout.get("title") or {}
    title = re.sub(r"<[^>]+>", " ", str(title.get("text", "figure") if isinstance(title, dict) else title))
    width, height = (float(layout.get(side, usual)) for side, usual in (("width", 760), ("height", 450)))
    content = {"data": figure["data"], "layout": layout, "config": {**figure.get("config", {}), **CONFIG}}
    content["frames"] = figure.get("frames", [])
    text = json.dumps(content).replace("</", r"<\/")
    still = f"<noscript>{_picture(data, name, pictures, title)}</noscript>" if _PICTURES.keys() & data.keys() else ""
    return (
        f'<figure id="{name}" aria-label="{escape(title)}" style="max-width:{width:g}px">'
        f'<div class="graph" style="height:{height:g}px"></div>'
        f'<script type="application/json">{text}</script>{still}</figure>'
    )


def _picture(data: nbformat.NotebookNode, name: str, pictures: dict[str, bytes], text: str) -> str:
    kind = next(kind for kind in _PICTURES if kind in data)
    path = f"pictures/{name}.{_PICTURES[kind]}"
    pictures[path] = base64.b64decode(data[kind])
    return f'<img src="{path}" alt="{escape(text)}" loading="lazy">'
